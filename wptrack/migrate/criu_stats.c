// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "criu_stats.h"
#include "lib/cleanup.h"
#include "stats.pb-c.h"

#define SERVICE_MAGIC 0x55105940u
#define STATS_MAGIC   0x57093306u
#define PAYLOAD_MAX   8192u

static void free_stats(StatsEntry **stats)
{
	if (*stats)
		stats_entry__free_unpacked(*stats, NULL);
}

int wptrack_criu_stats_read(const char *dir, struct wptrack_criu_stats *ret)
{
	StatsEntry *stats WPTRACK_CLEANUP(free_stats) = NULL;
	struct {
		uint32_t service, kind, bytes;
	} head = { 0 };
	uint8_t payload[PAYLOAD_MAX];
	char path[PATH_MAX];
	FILE *f;

	if (snprintf(path, sizeof(path), "%s/stats-dump", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	f = fopen(path, "re");
	if (!f)
		return -errno;
	if (fread(&head, sizeof(head), 1, f) == 1 && head.service == SERVICE_MAGIC && head.kind == STATS_MAGIC &&
	    head.bytes <= sizeof(payload) && fread(payload, 1, head.bytes, f) == head.bytes)
		stats = stats_entry__unpack(NULL, head.bytes, payload);
	fclose(f);
	if (!stats || !stats->dump)
		return -EBADMSG;
	*ret = (struct wptrack_criu_stats){
		.freezing_us = stats->dump->freezing_time,
		.frozen_us = stats->dump->frozen_time,
		.memwrite_us = stats->dump->memwrite_time,
		.pages_written = stats->dump->pages_written,
		.pages_skipped_parent = stats->dump->pages_skipped_parent,
		.shpages_written = stats->dump->has_shpages_written ? stats->dump->shpages_written : 0,
	};
	return 0;
}
