/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program that arrives: the criu that has its memory before the dump comes,
 * restores it, and holds it until it is to run. No logging.
 */
#ifndef WPTRACK_MIGRATE_LANDING_H
#define WPTRACK_MIGRATE_LANDING_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "hold.h"
#include "migrate.pb-c.h"

#define WPTRACK_LANDING_WHY_LEN 768

struct wptrack_landing {
	char dir[PATH_MAX];  /* that holds the directories of the rounds */
	char dump[PATH_MAX]; /* the one of the dump */
	char *hook;	     /* NULL: none */
	pid_t criu;	     /* 0: it has ended */
	int status;	     /* then: as waitpid() has it */
	int criu_fd;	     /* a pidfd */
	int names, answers;  /* of criu restore --pre-restore */
	struct wptrack_hold hold;
	char why[WPTRACK_LANDING_WHY_LEN]; /* what has failed, a sentence */
};

/**
 * wptrack_landing_begin - start the criu that waits for rounds
 * @dir:	exists, and is empty
 *
 * Return: 0, or -1 and why.
 */
int wptrack_landing_begin(struct wptrack_landing *landing, const char *dir, const Wptrack__MigrateHello *hello);

/*
 * A pre-dump is complete, in a directory of that name. Return: 0 when its memory is there, 1 when it is
 * not and why, which is no failure, -1 and why: criu has ended.
 */
int wptrack_landing_load(struct wptrack_landing *landing, unsigned int number);

/**
 * wptrack_landing_restore - the dump is complete: restore it, up to its first instruction
 * @source:	a descriptor that can be read when this is not wanted any more
 *
 * Return: 0, -1 and why, -ECONNRESET when the source has something to say.
 */
int wptrack_landing_restore(struct wptrack_landing *landing, int source);

/* Let it run. Return: 0 when it does, or -1 and why: then nothing of it is left. */
int wptrack_landing_go(struct wptrack_landing *landing);

/**
 * wptrack_landing_stop - undo it, whatever there is
 *
 * No process is left, and an asker is told so from then on. Return: false when somebody
 * else has let the program run: then nothing has been undone.
 */
bool wptrack_landing_stop(struct wptrack_landing *landing);

/* After it was stopped: remove what has come. */
void wptrack_landing_clean(struct wptrack_landing *landing);

/* After it runs: what has been used for it. */
void wptrack_landing_end(struct wptrack_landing *landing);

/**
 * wptrack_landing_ask - what has become of a program that was held in @dir?
 * @go:		it is let run, if nobody has decided yet, and @hook is told before; it is given up otherwise
 *
 * Return: 1 when it runs, 0 when nothing of it is left and never will be, -ENOENT when
 * none was held there: nothing can be said.
 */
int wptrack_landing_ask(const char *dir, bool go, const char *hook);

#endif
