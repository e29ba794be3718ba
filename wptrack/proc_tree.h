/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree of processes that criu dumps with --tree PID. No logging. */
#ifndef WPTRACK_PROC_TREE_H
#define WPTRACK_PROC_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct wptrack_tree {
	pid_t *pids; /* the root first */
	size_t nr;
};

/**
 * wptrack_tree_read - a process and all that descend from it
 * @ret:	all zero before; to be freed with wptrack_tree_free() whatever is returned
 *
 * Processes that come and go meanwhile are in it or not. Source:
 * /proc/PID/task/TID/children. Return: 0, -ESRCH when there is no process @root,
 * or -errno.
 */
int wptrack_tree_read(pid_t root, struct wptrack_tree *ret);

bool wptrack_tree_has(const struct wptrack_tree *tree, pid_t pid);

void wptrack_tree_free(struct wptrack_tree *tree);

/* Who traces a process, by the TracerPid of /proc/PID/status. Return: 0 when nobody does, or it has ended. */
pid_t wptrack_proc_tracer(pid_t pid);

#endif
