// SPDX-License-Identifier: GPL-2.0-only
/*
 * Small mappings side by side are scanned in one go: with tens of thousands of
 * them the calls take longer than the pages, and the task is stopped meanwhile.
 * CRIU asks for one mapping after the other, and is answered from what there is.
 */
#include <errno.h>
#include <stdlib.h>

#include "criu.h"

#include "lib/sys_pagemap.h"
#include "lib/uapi.h"
#include "track.h"

#define AHEAD_REGS 1024

struct wptrack_ahead {
	uint64_t start, next; /* what is known */
	uint64_t failed;      /* up to here, from next on: pages may have been reset that nobody was told of */
	int err;
	unsigned int nr, at;
	struct page_region regs[AHEAD_REGS];
};

static int scan_ahead(struct wptrack_target *target, const struct wptrack_vma *vma, const struct wptrack_scan *one,
		      bool proven)
{
	struct wptrack_ahead *ahead = target->ahead;
	struct wptrack_scan scan = {
		.start = one->start,
		.end = vma->run,
		.regs = ahead->regs,
		.max_regs = AHEAD_REGS,
		.keep = one->keep,
	};
	int err;

	ahead->at = 0;
	ahead->start = ahead->next = one->start;
	err = proven ? wptrack_pagemap_collect_changes(target->pagemap, &scan) :
		       wptrack_pagemap_collect(target->pagemap, &scan);
	if (err) {
		ahead->nr = 0;
		ahead->err = err;
		ahead->failed = vma->run;
		return err;
	}
	ahead->nr = scan.nr_regs;
	ahead->next = scan.next;
	return 0;
}

int wptrack_ahead_collect(struct wptrack_target *target, const struct wptrack_vma *vma, struct wptrack_scan *scan,
			  bool proven)
{
	struct wptrack_ahead *ahead = target->ahead;
	uint64_t end;
	int err;

	if (!ahead) {
		ahead = target->ahead = calloc(1, sizeof(*ahead));
		if (!ahead)
			return -ENOMEM;
	}

	if (scan->start >= ahead->next && scan->start < ahead->failed)
		return ahead->err;
	if (scan->start < ahead->start || scan->start >= ahead->next) {
		err = scan_ahead(target, vma, scan, proven);
		if (err)
			return err;
	}

	while (ahead->at && ahead->regs[ahead->at - 1].end > scan->start)
		ahead->at--;
	while (ahead->at < ahead->nr && ahead->regs[ahead->at].end <= scan->start)
		ahead->at++;

	end = scan->end < ahead->next ? scan->end : ahead->next;
	scan->next = end;
	for (scan->nr_regs = 0; ahead->at < ahead->nr && ahead->regs[ahead->at].start < end; ahead->at++) {
		struct page_region reg = ahead->regs[ahead->at];

		if (scan->nr_regs == scan->max_regs) {
			scan->next = scan->regs[scan->nr_regs - 1].end;
			break;
		}
		if (reg.start < scan->start)
			reg.start = scan->start;
		if (reg.end > end)
			reg.end = end;
		scan->regs[scan->nr_regs++] = reg;
	}
	return 0;
}
