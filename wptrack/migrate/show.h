/* SPDX-License-Identifier: GPL-2.0-only */
/* What wptrack migrate shows of its rounds: a table on stderr, and JSON on stdout. */
#ifndef WPTRACK_MIGRATE_SHOW_H
#define WPTRACK_MIGRATE_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "criu_stats.h"
#include "plan.h"

#define WPTRACK_MIGRATE_WHY_LEN 1024

/* A round that has ended. */
struct wptrack_migrate_round {
	unsigned int number; /* counted from 1, and the name of its directory */
	bool dump;	     /* the last; a pre-dump otherwise */
	const char *dir;
	uint64_t took_us;
	struct wptrack_criu_stats stats;
	const struct wptrack_plan_forecast *forecast; /* NULL for a dump */
};

enum wptrack_migrate_end {
	WPTRACK_MIGRATE_GOES_ON, /* not ended yet */
	WPTRACK_MIGRATE_DUMPED,
	WPTRACK_MIGRATE_MOVED,		/* it runs at the destination */
	WPTRACK_MIGRATE_IN_DOUBT,	/* it may, and is stopped here */
	WPTRACK_MIGRATE_NOT_CONVERGING, /* and not dumped */
	WPTRACK_MIGRATE_CANCELLED,
	WPTRACK_MIGRATE_FAILED,
};

struct wptrack_migrate_verdict {
	enum wptrack_migrate_end end;
	const char *why;	    /* a sentence, for a person */
	const char *dir;	    /* that holds the directories of the rounds */
	unsigned int rounds;	    /* that succeeded, the dump included */
	uint64_t predicted_us;	    /* stop, before the dump or when it was given up; 0: none yet */
	uint64_t stopped_us;	    /* by the dump */
	const char *const *restore; /* the command, NULL at its end; NULL without a dump */
	bool elsewhere;		    /* the pages are on a server */
	const char *destination;    /* HOST:DIR, NULL: none */
	uint64_t away_us;	    /* once moved: by the source's clock, the answer's way included */
	uint64_t away_there_us;	    /* by the destination's clock, no way included; 0: not known */
	uint64_t sent_us;	    /* of that: the dump's images */
	uint64_t restored_us;	    /* and their restore, up to the first instruction */
};

/* What is under way. */
struct wptrack_migrate_progress {
	unsigned int number;
	bool dump;
	bool sending; /* criu is done */
	uint64_t since_us;
	uint64_t bytes;
	uint64_t expected_bytes; /* 0: not known */
};

/* Rewrites its line, on a terminal. */
void wptrack_migrate_show_progress(const struct wptrack_migrate_progress *progress);

/* Leave a line that is being rewritten, as something else is going to be told. */
void wptrack_migrate_show_break(void);

void wptrack_migrate_show_round(const struct wptrack_migrate_round *round, bool json);

void wptrack_migrate_show_verdict(const struct wptrack_migrate_verdict *verdict, bool json);

#endif
