/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a dump of a tree would write, if it were made now upon the last round.
 * Pure reads: nothing is stopped, armed or reset. No logging.
 */
#ifndef WPTRACK_PENDING_H
#define WPTRACK_PENDING_H

#include <stdint.h>
#include <sys/types.h>

#include "lib/session.h"

/* Sizes are of populated pages. */
struct wptrack_pending {
	uint64_t written_bytes;	  /* since the round */
	uint64_t untracked_bytes; /* private, and dumped in full each time */
	uint64_t shared_bytes;	  /* of shared memory, which a pre-dump leaves to the dump */
	unsigned int processes;
	unsigned int untrusted; /* of these: dumped in full each time, as the record says */
};

/**
 * wptrack_pending_read - what a dump would write now
 * @root:	of the tree
 * @rec:	session record of the last round
 * @ret:	untouched on failure
 *
 * Processes that end meanwhile are left out. Return: 0, -ESRCH when @root has
 * ended, or -errno.
 */
int wptrack_pending_read(pid_t root, const struct wptrack_record *rec, struct wptrack_pending *ret);

#endif
