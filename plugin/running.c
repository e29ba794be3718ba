// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tracked task that runs: its mappings may become others between any two
 * calls. What holds all the same:
 *
 * - A mapping that is registered has been so since the last call of ours that
 *   registered it: one that is new, moved or merged is not. So page tables hold
 *   wrong marks only where we register something that was not, and every such
 *   range is un-armed before it is looked at.
 * - What is found to be registered is not registered again: it may lose that in
 *   between, and would get it back with its marks. See ask_owner().
 * - Pages that are armed have been reported in this round or an earlier one.
 *   What a round does not report must not stay armed, see
 *   wptrack_running_unarm().
 *
 * docs/design.md goes through the pairs of calls.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "criu.h"

#include "lib/clock.h"
#include "lib/controls.h"
#include "lib/page.h"
#include "lib/sys_pagemap.h"
#include "lib/sys_uffd.h"
#include "lib/uapi.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

/* The mappings are locked while one call looks at so much; more if it is empty. */
#define WINDOW_BYTES (64ull << 20)
#define WINDOW_MAX   (1ull << 46)
/* A search that took longer goes on in smaller steps. */
#define WINDOW_US    1000

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

static int find_unmarked(struct wptrack_target *target, const struct wptrack_vma *vma, uint64_t *ret_page)
{
	uint64_t start, end, began, window = WINDOW_BYTES;
	int err;

	for (start = vma->start; start < vma->end; start = end) {
		end = vma->end - start > window ? start + window : vma->end;
		began = wptrack_now_us();
		err = wptrack_pagemap_find_unmarked(target->pagemap, start, end, ret_page);
		if (err != -ENOENT)
			return err;
		if (wptrack_now_us() - began > WINDOW_US)
			window = window / 2 > WINDOW_BYTES ? window / 2 : WINDOW_BYTES;
		else if (window < WINDOW_MAX)
			window *= 2;
	}
	return -ENOENT;
}

/*
 * Is a mapping that is registered ours? The only way to ask is to register a
 * part of it once more. If the mapping has lost its registration by then, that
 * part gets a new one, with its marks in place. So we ask with a page that has
 * no mark, and see afterwards that it still has none.
 *
 * Where all pages are populated and marked there is nothing to ask with, and
 * nothing to reset: it is taken for ours, but nothing in it will be reset. If
 * there may be other userfaultfds, a page is un-armed, and so reported once more.
 */
static int ask_owner(struct wptrack_target *target, struct wptrack_vma *vma)
{
	uint64_t page;
	int marked, err;

	err = find_unmarked(target, vma, &page);
	if (err == -ENOENT && !target->rivals) {
		vma->unasked = true;
		return 0;
	}
	if (err == -ENOENT) {
		page = vma->start;
		err = wptrack_running_unarm(target, page, page + wptrack_page_bytes());
	}
	if (!err)
		err = wptrack_uffd_register(target->uffd, page, page + wptrack_page_bytes());
	if (err)
		return err;
	/* Should it have had none, it has one now, whatever lies there. */
	vma->fresh = true;

	marked = wptrack_pagemap_is_marked(target->pagemap, page);
	return marked > 0 ? wptrack_running_unarm(target, page, page + wptrack_page_bytes()) : marked;
}

/* Register a mapping that has been read from a list which may be out of date, or see that it is ours. */
int wptrack_running_register(struct wptrack_target *target, struct wptrack_vma *vma)
{
	int armed, err;

	armed = wptrack_pagemap_is_armable(target->pagemap, vma->start);
	if (armed < 0)
		return armed;

	if (armed && target->basis == WPTRACK_BASIS_INCREMENTAL && !wptrack_control("register-first-page")) {
		vma->armed = true;
		return ask_owner(target, vma);
	}

	/* What has come to lie in there meanwhile is un-armed with the rest. */
	err = wptrack_uffd_register(target->uffd, vma->start, armed ? vma->start + wptrack_page_bytes() : vma->end);
	if (err)
		return err;

	vma->armed = armed;
	vma->fresh = !armed;
	if ((armed && target->basis == WPTRACK_BASIS_INCREMENTAL) || wptrack_control("no-unprotect"))
		return 0;
	return wptrack_running_unarm(target, vma->start, vma->end);
}

/* One line of maps: is it anything but private anonymous memory? */
static bool is_other_kind(const char *line, uint64_t *start, uint64_t *end)
{
	unsigned long inode;
	char shared;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*c%*c%*c%c %*x %*x:%*x %lu", start, end, &shared, &inode) != 4)
		return false;
	return shared != 'p' || inode;
}

/*
 * The list of mappings was out of date when we registered from it. A file, shared
 * memory or huge pages that had come to lie there have been taken for anonymous
 * memory. Whatever comes later is not registered, so one more look is enough.
 */
int wptrack_running_check_kinds(struct wptrack_target *target)
{
	char *line = NULL, path[64];
	size_t size = 0, i = 0;
	uint64_t start, end;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", target->info.pid);
	maps = fopen(path, "re");
	if (!maps)
		return -errno;

	while (i < target->nr_vmas && getline(&line, &size, maps) > 0) {
		if (!is_other_kind(line, &start, &end))
			continue;
		while (i < target->nr_vmas && target->vmas[i].end <= start)
			i++;
		for (size_t j = i; j < target->nr_vmas && target->vmas[j].start < end; j++) {
			struct wptrack_vma *vma = &target->vmas[j];

			if (!vma->fresh)
				continue;
			wptrack_uffd_unregister(target->uffd, start > vma->start ? start : vma->start,
						end < vma->end ? end : vma->end);
			vma->other = true;
		}
	}
	free(line);
	fclose(maps);
	return 0;
}

/* There is something in the mapping that is not registered: where does what is begin and end? */
static int follow_change(struct wptrack_target *target, struct wptrack_vma *vma, struct wptrack_scan *scan)
{
	uint64_t addr;
	int err;

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
