/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The other host of wptrack migrate --to, as the source has it: a wptrack receive
 * at the end of a remote shell. docs/migrate.md has a diagram of what is said.
 */
#ifndef WPTRACK_MIGRATE_REMOTE_H
#define WPTRACK_MIGRATE_REMOTE_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hold.h"
#include "peer.h"
#include "show.h"

struct wptrack_migrate;

struct wptrack_remote_options {
	const char *to;	     /* HOST:DIR; NULL: the migration is local */
	const char *rsh;     /* words of a command */
	const char *wptrack; /* there */
	const char *criu;    /* there */
	const char *hook;    /* NULL: none */
	int timeout_ms;	     /* how long the program may be stopped before it is let run here */
};

struct wptrack_remote {
	struct wptrack_peer peer;
	struct wptrack_hold hold;
	struct wptrack_migrate *m;
	char guard[PATH_MAX]; /* of the socket where the guard can be told by others */
	pthread_t thread;     /* talks to both while criu has the program stopped */
	atomic_bool criu_ended;
	enum wptrack_migrate_end end; /* GOES_ON: criu has not come so far */
	char why[WPTRACK_MIGRATE_WHY_LEN];
	uint64_t stop_us;	    /* by our clock: criu was about to stop the program */
	uint64_t sent_us;	    /* for sending the dump */
	uint64_t held_us;	    /* for restoring it, as the destination says */
	uint64_t away_us;	    /* from stop_us to the answer that it runs */
	uint64_t there_us;	    /* the same as the destination has it, without the ways of messages */
	struct wptrack_task *tasks; /* of the tree that has been dumped */
	size_t nr_tasks;
};

/**
 * wptrack_remote_begin - start the other side, and ask whether the program can be taken
 *
 * Says on stderr why it cannot. Return: 0 or WPTRACK_EXIT_FAILED; wptrack_remote_end() follows in any case.
 */
int wptrack_remote_begin(struct wptrack_remote *remote, struct wptrack_migrate *m);
void wptrack_remote_end(struct wptrack_remote *remote);

/**
 * wptrack_remote_round - send a pre-dump, and wait until its memory is there
 * @dir:	of its images, of which the pages are removed
 * @ret_why:	why its memory is not there, which is no failure; NULL if it is. To be freed.
 *
 * Return: 0, -ECONNABORTED and why when the destination has given up, or what
 * wptrack_peer_send() and wptrack_peer_receive() say.
 */
int wptrack_remote_round(struct wptrack_remote *remote, const char *dir, unsigned int number, char **ret_why);

/* In words. */
const char *wptrack_remote_error(int err);

/**
 * wptrack_remote_dump_begin - before criu dumps with wptrack_hold_script() as its action script
 * wptrack_remote_dump_end - after it has ended, or was left
 *
 * What has become of the program is in end and why then. Return: 0 or -errno.
 */
int wptrack_remote_dump_begin(struct wptrack_remote *remote);
void wptrack_remote_dump_end(struct wptrack_remote *remote);

/* Is a migration of that process in doubt, or under way? */
bool wptrack_remote_is_held(pid_t pid);

/**
 * wptrack_remote_decide - what is to become of a program that is stopped here, as nobody knows whether it runs there
 * @resume:	it runs on here; it is killed otherwise
 *
 * Says on stderr what cannot be done. Return: 0 or WPTRACK_EXIT_FAILED.
 */
int wptrack_remote_decide(struct wptrack_migrate *m, bool resume);

/* ---- for its parts */

/* Fill in what is said of the program. Its parts live until wptrack_remote_hello_free(). Return: 0 or -errno. */
int wptrack_remote_hello(const struct wptrack_migrate *m, Wptrack__MigrateHello *ret);
void wptrack_remote_hello_free(Wptrack__MigrateHello *hello);

/* Start wptrack receive, with the arguments in @options, which are quoted for a shell. Return: 0 or -errno. */
int wptrack_remote_connect(const struct wptrack_migrate *m, const char *options, struct wptrack_peer *ret);

#endif
