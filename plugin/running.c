// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tracked task that runs: its mappings may become others between any two
 * calls. What holds all the same:
 *
 * - Nobody but us registers anything with our userfaultfd, so whatever is
 *   registered has been since before this round, or since we did it just now.
 *   A mapping that is new, moved or merged is not.
 * - Pages that are armed have been reported in this round or an earlier one.
 *   What a round does not report must not stay armed, see
 *   wptrack_running_unarm().
 */
#include <errno.h>
#include <inttypes.h>

#include "criu.h"

#include "controls.h"
#include "sys_pagemap.h"
#include "sys_uffd.h"
#include "track.h"
#include "uapi.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

#define PAGE_BYTES 4096ull

/* The mappings are locked while one call looks at so much; more if it is empty. */
#define WINDOW_BYTES (64ull << 20)
#define WINDOW_MAX   (1ull << 46)

/* How often a mapping may change while one answer is made up. */
#define MAX_CHANGES 64
/* How often a range is gone through until nothing in it is armed. Nobody arms meanwhile. */
#define UNARM_PASSES 16
#define UNARM_REGS   256

static int unarm_pass(struct wptrack_target *target, uint64_t start, uint64_t end, bool *ret_found)
{
	struct page_region regs[UNARM_REGS];
	int nr, i, err;

	*ret_found = false;
	while (start < end) {
		nr = wptrack_pagemap_armed(target->pagemap, start, end, regs, UNARM_REGS, &start);
		if (nr < 0)
			return nr;
		for (i = 0; i < nr; i++) {
			*ret_found = true;
			err = wptrack_uffd_unprotect(target->uffd, regs[i].start, regs[i].end);
			if (err && err != -ENOENT)
				return err;
		}
	}
	return 0;
}

/* Return: 0 when nothing in the range is armed any more, or its memory has gone; -errno. */
int wptrack_running_unarm(struct wptrack_target *target, uint64_t start, uint64_t end)
{
	bool found = false;
	int err, i;

	err = wptrack_uffd_unprotect(target->uffd, start, end);
	/* Parts of it may not be registered any more: then by what is found to be armed. */
	if (err == -ENOENT) {
		i = 0;
		do
			err = unarm_pass(target, start, end, &found);
		while (!err && found && ++i < UNARM_PASSES);
	}
	if (err == -ESRCH) {
		target->gone = true;
		return 0;
	}
	return err ? err : found ? -EAGAIN : 0;
}

/*
 * Register a mapping that has been read from a list which may be out of date.
 *
 * One that is armed already is not registered again as a whole: what has come
 * to lie in there meanwhile would be taken for something old. It is enough to
 * see that the kernel lets us register its first page, so that it is ours.
 */
int wptrack_running_register(struct wptrack_target *target, struct wptrack_vma *vma)
{
	int armed, err;

	armed = wptrack_pagemap_is_armable(target->pagemap, vma->start);
	if (armed < 0)
		return armed;

	err = wptrack_uffd_register(target->uffd, vma->start, armed ? vma->start + PAGE_BYTES : vma->end);
	if (err)
		return err;

	vma->armed = armed;
	if (armed && target->basis == WPTRACK_BASIS_INCREMENTAL)
		return 0;
	return wptrack_control("no-unprotect") ? 0 : wptrack_running_unarm(target, vma->start, vma->end);
}

/*
 * There is something in the mapping that is not registered: where does what is
 * begin and end? The first page has been registered anew just now, maybe as a
 * part of another mapping, so it is reported again.
 */
static int follow_change(struct wptrack_target *target, struct wptrack_vma *vma, struct wptrack_scan *scan)
{
	uint64_t addr;
	int err;

	if (!vma->changed) {
		err = wptrack_running_unarm(target, vma->start, vma->start + PAGE_BYTES);
		if (err)
			return err;
		vma->changed = true;
	}

	err = wptrack_pagemap_find(target->pagemap, scan->start, vma->end, true, &addr);
	if (err == -ENOENT) {
		scan->start = vma->end;
		return 0;
	}
	if (err)
		return err;
	scan->start = addr;

	err = wptrack_pagemap_find(target->pagemap, addr, vma->end, false, &vma->limit);
	if (err == -ENOENT)
		vma->limit = vma->end;
	return err == -ENOENT ? 0 : err;
}

/* As wptrack_pagemap_collect(), over as much as is good for the task, around what is not registered. */
int wptrack_running_collect(struct wptrack_target *target, struct wptrack_vma *vma, struct wptrack_scan *scan)
{
	const uint64_t end = vma->end;
	int tries, err = 0;

	if (!target->window)
		target->window = WINDOW_BYTES;

	for (tries = 0; tries < MAX_CHANGES; tries++) {
		if (scan->start >= end) {
			scan->nr_regs = 0;
			scan->next = end;
			return 0;
		}
		scan->end = vma->limit > scan->start ? vma->limit : end;
		if (scan->end - scan->start > target->window)
			scan->end = scan->start + target->window;

		err = wptrack_pagemap_collect(target->pagemap, scan);
		if (!err) {
			if (scan->nr_regs)
				target->window = WINDOW_BYTES;
			else if (target->window < WINDOW_MAX)
				target->window *= 2;
			return 0;
		}
		if (err != -EPERM)
			break;

		/* What has been reset is told, the rest is looked at anew. */
		if (scan->nr_regs) {
			scan->next = scan->regs[scan->nr_regs - 1].end;
			return 0;
		}
		err = follow_change(target, vma, scan);
		if (err)
			break;
	}

	if (err == -ESRCH)
		target->gone = true;
	return err ? err : -EAGAIN;
}
