/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * When wptrack migrate has made enough rounds: what the final stop would take,
 * and whether another round makes it shorter. Arithmetic alone: no clock, no
 * process, no logging. Times are in microseconds.
 *
 * The stop is predicted as
 *
 *   what a dump does apart from copying, the greater of
 *       the stop of the last round, and 1 ms for each process and 10 us for
 *       each MiB populated (a live round stops nothing, and tells nothing then)
 *   + what a dump does that a pre-dump does not: 2 ms, 2 ms for each process,
 *       and, unless it runs on, 35 us for each MiB that the kernel has to free
 *   + the lock of the network: 1 ms and 50 us for each TCP connection when all
 *       are locked at once, 20 ms for each when one by one
 *   + what is copied whatever the rounds do (shared memory, memory that is not
 *       tracked), at the rate of the first round, which copies in one piece
 *   + what has been written since, and what will be until criu has stopped the
 *       process, at the rate of the rounds but the first, or a quarter of the
 *       first one's, as these pages lie here and there
 *
 * A rate is taken from rounds only that wrote enough for one: in a round of some
 * pages, the time goes into other things. Before there is one, the goal has it.
 *
 * The constants are from one machine (docs/migrate.md).
 */
#ifndef WPTRACK_MIGRATE_PLAN_H
#define WPTRACK_MIGRATE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct wptrack_plan_goal {
	uint64_t downtime_us;
	unsigned int max_rounds; /* pre-dumps, at least 1 */
	bool leave_running;
	uint64_t assumed_rate; /* of copying, in bytes for each second, as long as no round has shown it */
};

/* How criu keeps packets away from TCP connections. */
enum wptrack_plan_lock {
	WPTRACK_PLAN_LOCK_NONE,
	WPTRACK_PLAN_LOCK_AT_ONCE,
	WPTRACK_PLAN_LOCK_ONE_BY_ONE,
};

/* A pre-dump, and what it has left to do. */
struct wptrack_plan_round {
	uint64_t begun_us; /* by any clock that all rounds share */
	uint64_t ended_us;
	uint64_t stopped_us;
	uint64_t copied_us;	  /* spent on writing images or sending them */
	uint64_t written_bytes;	  /* of pages */
	uint64_t populated_bytes; /* of pages, written or left to the parent */
	unsigned int processes;
	uint64_t read_us;	/* when the next figure was read */
	uint64_t pending_bytes; /* what a dump would write then, as it has been written since */
	uint64_t fixed_bytes;	/* and what it would write after any round */
	enum wptrack_plan_lock lock;
	unsigned int connections;
};

/* Rates are in bytes for each second. */
struct wptrack_plan_forecast {
	uint64_t copy_rate;  /* of pages here and there */
	uint64_t dirty_rate; /* of pages written for the first time since a round */
	uint64_t dump_bytes; /* what a dump is going to write */
	uint64_t base_us;    /* the stop if that were nothing */
	uint64_t lock_us;    /* in base_us, for the connections */
	uint64_t fixed_us;   /* for copying what no round makes less */
	uint64_t stop_us;
};

enum wptrack_plan_verdict {
	WPTRACK_PLAN_MORE,     /* another round is due */
	WPTRACK_PLAN_DUMP,     /* the stop is short enough */
	WPTRACK_PLAN_FIXED,    /* what no round makes shorter is too long by itself */
	WPTRACK_PLAN_TOO_FAST, /* as much is written as is copied meanwhile */
	WPTRACK_PLAN_NO_LESS,  /* the last rounds have not made it shorter */
	WPTRACK_PLAN_ROUNDS,   /* no more rounds are wanted */
};

/* All zero but for the goal before the first round. */
struct wptrack_plan {
	struct wptrack_plan_goal goal;
	unsigned int rounds;
	uint64_t last_begun_us;
	uint64_t bulk_rate;    /* of the first round, if that was large; 0: not known */
	uint64_t copied_bytes; /* by large rounds but the first */
	uint64_t copied_us;    /* and for how long, with no collecting in it */
	uint64_t best_us;      /* shortest stop that was predicted */
	unsigned int stale;    /* rounds in a row that have not made it shorter */
	unsigned int fixed;    /* rounds in a row after which it could not become short enough */
};

/**
 * wptrack_plan_decide - what comes after a round
 * @plan:	takes the round in
 * @round:	the round that has just ended
 * @ret:	what the verdict goes by
 *
 * A round has made the stop shorter if the prediction is a tenth below the
 * shortest before. After two in a row that have not, or when the dirty rate has
 * reached the copy rate in the second round or later, the rounds do not converge.
 * Neither do they when after two in a row the stop were too long with nothing
 * written since.
 */
enum wptrack_plan_verdict wptrack_plan_decide(struct wptrack_plan *plan, const struct wptrack_plan_round *round,
					      struct wptrack_plan_forecast *ret);

#endif
