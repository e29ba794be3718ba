/* SPDX-License-Identifier: GPL-2.0-only */
/* What wptrack asks the keeper: which processes it holds, and to let go of them. No logging. */
#ifndef WPTRACK_TRACKED_H
#define WPTRACK_TRACKED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/wire.h"

struct wptrack_tracked {
	struct wptrack_task *tasks;
	size_t nr;
};

/**
 * wptrack_tracked_fetch - all processes that are tracked
 * @ret:	all zero before; to be freed with wptrack_tracked_free() whatever is returned
 *
 * No keeper is no error: nothing is tracked then. Return: 0 or -errno.
 */
int wptrack_tracked_fetch(struct wptrack_tracked *ret);

void wptrack_tracked_free(struct wptrack_tracked *tracked);

/* Return: the process, or NULL when it is not tracked. */
const struct wptrack_task *wptrack_tracked_find(const struct wptrack_tracked *tracked, pid_t pid);

/**
 * wptrack_tracked_release - end the tracking of a process, or of all
 * @pid:		0 for all
 * @ret_released:	how many there were
 *
 * Return: 0, -ENOENT when that process is not tracked, -EBUSY when a dump is at
 * work on it, or -errno.
 */
int wptrack_tracked_release(pid_t pid, uint32_t *ret_released);

#endif
