/* SPDX-License-Identifier: GPL-2.0-only */
/* The statistics that criu leaves in an images directory. No logging. */
#ifndef WPTRACK_CRIU_STATS_H
#define WPTRACK_CRIU_STATS_H

#include <stdint.h>

/* Some fields of criu's dump_stats_entry. Pages are of 4 KiB. */
struct wptrack_criu_stats {
	uint64_t freezing_us; /* until all tasks are stopped */
	uint64_t frozen_us;   /* from then on, until they run or are dead */
	uint64_t memwrite_us; /* of that or after it: pages are written or sent */
	uint64_t pages_written;
	uint64_t pages_skipped_parent;
	uint64_t shpages_written; /* of shared memory */
};

/**
 * wptrack_criu_stats_read - read stats-dump of an images directory
 * @ret:	untouched on failure
 *
 * Return: 0, -EBADMSG when it is not well-formed, or -errno.
 */
int wptrack_criu_stats_read(const char *dir, struct wptrack_criu_stats *ret);

#endif
