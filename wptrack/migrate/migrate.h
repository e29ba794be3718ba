/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack migrate, in parts: the command line (migrate.c), the rounds
 * (rounds.c), and what is left in order afterwards (end.c).
 */
#ifndef WPTRACK_MIGRATE_H
#define WPTRACK_MIGRATE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "criu_run.h"
#include "lib/session.h"
#include "plan.h"
#include "remote.h"
#include "show.h"
#include "wptrack/cmd.h"

struct wptrack_migrate_options {
	int32_t pid;
	const char *dir; /* of images; with a destination it may be one of ours */
	const char *criu;
	const char *mode; /* of pre-dumps, by criu's names */
	const char *address;
	const char *port;
	const char *server_cmd; /* NULL: images are written here */
	struct wptrack_remote_options remote;
	const char *address_hook; /* of --move-address; NULL: none */
	struct wptrack_plan_goal goal;
	bool force;
	bool unchecked; /* begin whatever is in the way of the dump */
	bool json;
	bool resume, discard; /* decide a migration in doubt */
	char **extra;	      /* for each criu */
	int nr_extra;
};

struct wptrack_migrate {
	struct wptrack_migrate_options opt;
	struct wptrack_run run;
	struct wptrack_plan plan;
	struct wptrack_plan_forecast forecast; /* of the last round */
	struct wptrack_record *rec;	       /* of the last round; NULL before */
	uint64_t start_time;		       /* of the root: the pid may be given out again */
	uint64_t begun_us;		       /* by the criu that runs */
	unsigned int rounds;		       /* that succeeded */
	bool dumping;			       /* the round under way is the dump */
	bool was_stopped;		       /* something of the tree, before all this */
	enum wptrack_plan_lock lock;	       /* of TCP connections, by the dump */
	bool criu_killed;		       /* the last one, by a signal */
	char dir[PATH_MAX];		       /* of the round under way */
	char why[WPTRACK_MIGRATE_WHY_LEN];     /* what became of it */
	uint64_t stopped_us;		       /* by the dump */
	struct wptrack_remote remote;
	bool own_dir;	       /* opt.dir is ours to remove */
	uint64_t memory_bytes; /* about what the first round writes; 0: not known */
	uint64_t sending_us;   /* since when the round is sent */
	uint64_t sent_before;  /* to the destination, in bytes */
	uint64_t to_be_sent;
};

/* Say on stderr what cannot be done, and why. Is WPTRACK_EXIT_FAILED. */
#define wptrack_migrate_cannot(...) wptrack_cmd_cannot("migrate", WPTRACK_EXIT_FAILED, __VA_ARGS__)

/* Has the root ended? */
bool wptrack_migrate_is_gone(const struct wptrack_migrate *m);

/**
 * wptrack_migrate_is_program - are we allowed to, and is it a process that can be migrated at all?
 *
 * Says on stderr why not. Return: 0 or WPTRACK_EXIT_FAILED.
 */
int wptrack_migrate_is_program(const struct wptrack_migrate *m);

/**
 * wptrack_migrate_preflight - is there anything that the dump alone would find out, after all rounds?
 *
 * Looks at criu, at the tree and at the disk, and says on stderr, in a line for
 * each, what is in the way and what to do. Nothing is stopped or made. Sets
 * memory_bytes.
 * Return: 0, or WPTRACK_EXIT_FAILED when something is in the way.
 */
int wptrack_migrate_preflight(struct wptrack_migrate *m);

/* How the dump is going to lock TCP connections. It may ask criu. */
enum wptrack_plan_lock wptrack_migrate_lock(const struct wptrack_migrate *m);

/* How many TCP connections the tree has now. */
unsigned int wptrack_migrate_connections(const struct wptrack_migrate *m);

struct wptrack_migrate_command {
	const char *argv[24]; /* NULL at the end */
	char dir[PATH_MAX];
};

/* "criu restore -D DIR", which is followed by options. */
#define WPTRACK_MIGRATE_RESTORE_OPTIONS 4

/* How to restore what has been dumped. The arguments live as long as @m and @ret. */
void wptrack_migrate_restore(const struct wptrack_migrate *m, struct wptrack_migrate_command *ret);

/* Has the disk that the images go to no room left? */
bool wptrack_migrate_disk_is_full(const struct wptrack_migrate *m);

/* All rounds, up to the dump or what prevents it. m->why is filled in; nothing is released. */
enum wptrack_migrate_end wptrack_migrate_rounds(struct wptrack_migrate *m);

/* Is any process of the tree stopped, by a signal or a frozen cgroup? */
bool wptrack_migrate_is_stopped(const struct wptrack_migrate *m);

/**
 * wptrack_migrate_release - end the tracking of all that a migration has tracked
 *
 * Also of processes that have left the tree since. Says on stderr what could not
 * be released. The dump may have ended them: none is no failure.
 */
void wptrack_migrate_release(const struct wptrack_migrate *m);

/* See to it that no process of the tree stays stopped that ran before; says so on stderr. */
void wptrack_migrate_let_run(const struct wptrack_migrate *m);

#endif
