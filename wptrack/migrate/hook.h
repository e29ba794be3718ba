/* SPDX-License-Identifier: GPL-2.0-only */
/* The user's command that is told when a program leaves a host or arrives there: for addresses, routes and the like. */
#ifndef WPTRACK_MIGRATE_HOOK_H
#define WPTRACK_MIGRATE_HOOK_H

/* At the source: it is stopped; it runs on after all; it runs at the destination, and is gone here. */
#define WPTRACK_HOOK_STOPPED "stopped"
#define WPTRACK_HOOK_RESUMED "resumed"
#define WPTRACK_HOOK_GONE    "gone"

/* At the destination: it is going to be restored; it is going to run; it is not. */
#define WPTRACK_HOOK_RESTORE "restore"
#define WPTRACK_HOOK_RUN     "run"
#define WPTRACK_HOOK_ABORTED "aborted"

/**
 * wptrack_hook_run - run it, with WPTRACK_EVENT in its environment, and wait
 * @command:	for the shell; NULL: there is none
 *
 * Its output goes to stderr. It is killed when it takes more than ten seconds.
 * Return: 0, or -EIO when it has failed.
 */
int wptrack_hook_run(const char *command, const char *event);

#endif
