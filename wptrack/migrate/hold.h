/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A criu that holds at a point of no return until it is told what to do: a dump
 * whose processes are stopped and not killed yet, and a restore whose processes
 * have not executed an instruction.
 *
 * criu runs wptrack as its action script (--action-script). At those points that
 * process, the guard, asks whoever has started it: the controller. It is the
 * guard that decides, once, and by one word:
 *
 *	at the source		WPTRACK_HOLD_SURE	whatever happens, wait for one of the others
 *				WPTRACK_HOLD_RESUME	the processes run on
 *				WPTRACK_HOLD_DISCARD	criu kills them
 *	at the destination	WPTRACK_HOLD_GO		the processes run
 *				WPTRACK_HOLD_ABORT	criu kills them
 *
 * A controller that is gone means RESUME and ABORT, but after SURE: then the guard
 * listens at a socket for another controller. That of a destination always does.
 * With SURE, all processes get a SIGSTOP. They do not run on if criu is killed, or the guard. That they are to be
 * stopped is on record before (doubt.h), so a controller does without a guard.
 * A guard that decides without a controller has the user's hook told (hook.h).
 */
#ifndef WPTRACK_HOLD_H
#define WPTRACK_HOLD_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define WPTRACK_HOLD_SURE    "sure"
#define WPTRACK_HOLD_RESUME  "resume"
#define WPTRACK_HOLD_DISCARD "discard"
#define WPTRACK_HOLD_GO	     "go"
#define WPTRACK_HOLD_ABORT   "abort"

/* In a destination's directory: the guard's socket, whom it guards, whether they run, or will never. */
#define WPTRACK_HOLD_GUARD   "guard"
#define WPTRACK_HOLD_HELD    "held"
#define WPTRACK_HOLD_RUNNING "running"
#define WPTRACK_HOLD_ABORTED "aborted"

/* Leave one of the latter two in @dir, and see whether it is there. */
void wptrack_hold_note(const char *dir, const char *name);
bool wptrack_hold_is_noted(const char *dir, const char *name);

/* The controller's end. */
struct wptrack_hold {
	int listener; /* where scripts come; below 0: none */
	int guard;    /* the one that holds; below 0: none does */
	char path[PATH_MAX];
};

struct wptrack_hold_event {
	char name[32]; /* as criu names it in CRTOOLS_SCRIPT_ACTION */
};

/**
 * wptrack_hold_open - be the controller of a criu that is started next
 * @dir:	for its socket, ours alone
 * @guard:	path of the socket at which its guard is to listen for others
 * @hook:	of the user's; NULL: none
 *
 * Sets the environment of what is started from here on. Return: 0 or -errno.
 */
int wptrack_hold_open(struct wptrack_hold *hold, const char *dir, const char *guard, const char *hook);
void wptrack_hold_close(struct wptrack_hold *hold);

/* Path of this program, to be given to criu as its action script. Return: NULL when it is not known. */
const char *wptrack_hold_script(void);

/**
 * wptrack_hold_event - what criu does next
 *
 * To be called when listener can be read. After "post-dump" and "post-restore"
 * the guard waits for a word. Return: 0, or -errno.
 */
int wptrack_hold_event(struct wptrack_hold *hold, struct wptrack_hold_event *ret);

/* Tell the guard. Return: 0 when it does so, -EIO when SURE could not be recorded, or -errno: it is gone, or has
 * decided otherwise. */
int wptrack_hold_tell(struct wptrack_hold *hold, const char *word);

/**
 * wptrack_hold_tell_at - the same, of a guard whose controller is gone
 * @path:	of its socket
 *
 * Return: 0, -ENOENT when none listens there, -EBUSY when its controller lives, or -errno.
 */
int wptrack_hold_tell_at(const char *path, const char *word);

/* Remove the socket of a guard that was killed. One that lives keeps its own. */
void wptrack_hold_forget(const char *path);

#endif
