/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The record of a program that is stopped at the source by a signal, until it is decided which copy of it runs. It is
 * written before the program is stopped so, and outlives whoever is killed. No logging.
 *
 * It lies beside the socket of the dump's guard, of which @guard is the path in all that follows.
 */
#ifndef WPTRACK_MIGRATE_DOUBT_H
#define WPTRACK_MIGRATE_DOUBT_H

#include <stdbool.h>
#include <sys/types.h>

#include "migrate.pb-c.h"
#include "wptrack/proc_tree.h"

/**
 * wptrack_doubt_write - before anybody is stopped
 * @controller:	the wptrack migrate that is going to decide
 * @tree:	all processes that are held
 * @ran:	those of them that were not stopped before
 * @hook:	of the user's; NULL: none
 *
 * One that was there is replaced. Return: 0 or -errno.
 */
int wptrack_doubt_write(const char *guard, pid_t controller, const struct wptrack_tree *tree,
			const struct wptrack_tree *ran, const char *hook);

/**
 * wptrack_doubt_read - what is in doubt
 * @ret:	to be freed with wptrack_doubt_free()
 *
 * Return: 0, -ENOENT when nothing is: there is no record, or none of its processes. -EBADMSG when it is not
 * well-formed, -EPERM when it is somebody else's, or -errno.
 */
int wptrack_doubt_read(const char *guard, Wptrack__MigrateDoubt **ret);
void wptrack_doubt_free(Wptrack__MigrateDoubt **doubt);

/* It is decided. */
void wptrack_doubt_forget(const char *guard);

/* Is the wptrack migrate still there? */
bool wptrack_doubt_has_controller(const Wptrack__MigrateDoubt *doubt);

/* Is any of its processes neither stopped nor about to be, though it ran before? */
bool wptrack_doubt_runs(const Wptrack__MigrateDoubt *doubt);

/* They run on as they did before. */
void wptrack_doubt_resume(const Wptrack__MigrateDoubt *doubt);
void wptrack_doubt_kill(const Wptrack__MigrateDoubt *doubt);

#endif
