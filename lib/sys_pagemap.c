// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "controls.h"
#include "page.h"
#include "sys_pagemap.h"
#include "uapi.h"

#define WRITTEN_REGS 512

/* How many ranges to look at closer are taken down at a time. */
#define MAX_SUSPECTS 512

/* A system call takes as long as scanning that much more of armed memory. */
#define NEAR_PAGES 64

/* PAGE_IS_GUARD, or 0 where the kernel does not know it. */
static uint64_t guard_category(int pagemap_fd)
{
	static bool asked;
	static uint64_t category;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.category_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD,
	};

	/* An empty range: only the arguments are looked at. */
	if (!asked && !ioctl(pagemap_fd, PAGEMAP_SCAN, &arg))
		category = PAGE_IS_GUARD;
	asked = true;
	return category;
}

/* What is not worth dumping in anonymous memory: the zero page and guard pages. */
static uint64_t boring_categories(int pagemap_fd)
{
	return PAGE_IS_PFNZERO | guard_category(pagemap_fd);
}

/*
 * The kernel's walk_end may lie behind what it has reported and re-armed when
 * it runs out of regions: the last region's end counts then, too.
 */
static uint64_t scanned_up_to(const struct pm_scan_arg *arg, unsigned int nr_regs)
{
	const struct page_region *regs = (const struct page_region *)(uintptr_t)arg->vec;
	uint64_t end = arg->walk_end;

	if (nr_regs < arg->vec_len)
		return arg->end;
	if (regs[nr_regs - 1].end > end)
		end = regs[nr_regs - 1].end;
	return end;
}

int wptrack_pagemap_open(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * The first page that matches, of @arg's range and categories, which is all that it has to have. A pure read.
 * @ret:	its address, or NULL
 *
 * Return: 0, -ENOENT when there is none, or -errno.
 */
static int find_first(int pagemap_fd, struct pm_scan_arg arg, uint64_t *ret)
{
	struct page_region reg;
	int found;

	arg.size = sizeof(arg);
	arg.vec = (uintptr_t)&reg;
	arg.vec_len = 1;
	arg.max_pages = 1;
	arg.return_mask = arg.category_mask;
	found = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);
	if (found < 0)
		return -errno;
	if (!found)
		return -ENOENT;
	if (ret)
		*ret = reg.start;
	return 0;
}

/* Does one page match? Return: 1, 0 or -errno. */
static int matches(int pagemap_fd, uint64_t page, struct pm_scan_arg arg)
{
	int err;

	arg.start = page;
	arg.end = page + wptrack_page_bytes();
	err = find_first(pagemap_fd, arg, NULL);
	return err == -ENOENT ? 0 : err ? err : 1;
}

int wptrack_pagemap_is_armable(int pagemap_fd, uint64_t start)
{
	return matches(pagemap_fd, start, (struct pm_scan_arg){ .category_mask = PAGE_IS_WPALLOWED });
}

int wptrack_pagemap_is_marked(int pagemap_fd, uint64_t page)
{
	return matches(pagemap_fd, page,
		       (struct pm_scan_arg){ .category_inverted = PAGE_IS_WRITTEN, .category_mask = PAGE_IS_WRITTEN });
}

int wptrack_pagemap_find(int pagemap_fd, uint64_t start, uint64_t end, bool armable, uint64_t *ret)
{
	struct pm_scan_arg arg = {
		.start = start,
		.end = end,
		.category_inverted = armable ? 0 : PAGE_IS_WPALLOWED,
		.category_mask = PAGE_IS_WPALLOWED,
	};

	return start < end ? find_first(pagemap_fd, arg, ret) : -ENOENT;
}

int wptrack_pagemap_find_unmarked(int pagemap_fd, uint64_t start, uint64_t end, uint64_t *ret)
{
	/* This category alone, as the kernel has a faster way to look for it; a hole counts as written. */
	const struct pm_scan_arg arg = { .start = start, .end = end, .category_mask = PAGE_IS_WRITTEN };

	return find_first(pagemap_fd, arg, ret);
}

int wptrack_pagemap_armed(int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regs,
			  unsigned int max_regs, uint64_t *next)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)regs,
		.vec_len = max_regs,
		.category_inverted = PAGE_IS_WRITTEN,
		.category_mask = PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WPALLOWED,
	};
	int ret = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	if (ret < 0)
		return -errno;
	*next = scanned_up_to(&arg, ret);
	return ret;
}

int wptrack_pagemap_populated(int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regs,
			      unsigned int max_regs, uint64_t *next)
{
	const uint64_t guard = guard_category(pagemap_fd);
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)regs,
		.vec_len = max_regs,
		.category_inverted = guard,
		.category_mask = guard,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_FILE | PAGE_IS_PFNZERO,
	};
	int ret = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	if (ret < 0)
		return -errno;
	*next = scanned_up_to(&arg, ret);
	return ret;
}

int wptrack_pagemap_collect(int pagemap_fd, struct wptrack_scan *scan)
{
	uint64_t boring = boring_categories(pagemap_fd);
	uint64_t pages = (scan->end - scan->start) / wptrack_page_bytes();
	unsigned int max_regs = pages < scan->max_regs ? pages : scan->max_regs;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = (scan->keep ? 0 : PM_SCAN_WP_MATCHING) | PM_SCAN_CHECK_WPASYNC,
		.start = scan->start,
		.end = scan->end,
		.vec = (uintptr_t)scan->regs,
		.vec_len = max_regs,
		.category_inverted = boring,
		.category_mask = boring,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret, err;

	/* A failing call may have reset pages already: it leaves their regions, but not how many. */
	memset(scan->regs, 0, max_regs * sizeof(*scan->regs));
	ret = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);
	if (ret < 0 && errno == EPERM && wptrack_control("drop-eperm")) {
		scan->nr_regs = 0;
		scan->next = scan->end;
		return 0;
	}
	if (ret < 0) {
		err = -errno;
		scan->nr_regs = 0;
		while (scan->nr_regs < max_regs && scan->regs[scan->nr_regs].end)
			scan->nr_regs++;
		return err;
	}

	scan->nr_regs = ret;
	scan->next = scanned_up_to(&arg, ret);
	if (wptrack_control("trust-walk-end") && scan->nr_regs == max_regs) {
		scan->next = arg.walk_end;
		while (scan->nr_regs && scan->regs[scan->nr_regs - 1].end > arg.walk_end)
			scan->nr_regs--;
	}
	return 0;
}

/*
 * Ask which pages may be anything else than present, armed and worth dumping.
 * What is neither present nor swapped comes without a category: a hole.
 *
 * Pages that are not present are asked for, too: a hole is not armed, but a
 * marker in its place may be. Return: how many ranges, or -errno.
 */
static int find_suspects(int pagemap_fd, const struct wptrack_scan *scan, struct page_region *suspects,
			 unsigned int max_suspects)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		/* Elsewhere a page that does not read as written has not been proven to be clean. */
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = scan->start,
		.end = scan->end,
		.vec = (uintptr_t)suspects,
		.vec_len = max_suspects,
		.category_inverted = PAGE_IS_PRESENT,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_WRITTEN | boring_categories(pagemap_fd),
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};
	int ret = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);

	return ret < 0 ? -errno : ret;
}

static bool is_hole(const struct page_region *reg)
{
	return !(reg->categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED));
}

/* The end of what is looked at together with suspect *@i, which becomes the last of them. */
static uint64_t end_of_group(const struct page_region *suspects, unsigned int nr, unsigned int *i)
{
	uint64_t end = suspects[*i].end;
	unsigned int j;

	for (j = *i + 1; j < nr && suspects[j].start - end <= NEAR_PAGES * wptrack_page_bytes(); j++) {
		if (is_hole(&suspects[j]))
			continue;
		end = suspects[j].end;
		*i = j;
	}
	return end;
}

static void add_clean(struct wptrack_scan *scan, uint64_t end)
{
	if (scan->next < end)
		scan->regs[scan->nr_regs++] = (struct page_region){ .start = scan->next, .end = end };
	scan->next = end;
}

/* Collect [scan->next, @end) behind what is there already. */
static int add_collected(int pagemap_fd, struct wptrack_scan *scan, uint64_t end)
{
	struct wptrack_scan part = {
		.start = scan->next,
		.end = end,
		.regs = scan->regs + scan->nr_regs,
		.max_regs = scan->max_regs - scan->nr_regs,
		.keep = scan->keep,
	};
	int err = wptrack_pagemap_collect(pagemap_fd, &part);

	scan->nr_regs += part.nr_regs;
	if (!err)
		scan->next = part.next;
	return err;
}

int wptrack_pagemap_collect_changes(int pagemap_fd, struct wptrack_scan *scan)
{
	struct page_region suspects[MAX_SUSPECTS];
	/* Each may end a clean range and start another one: more than fit would be looked for twice. */
	unsigned int max = scan->max_regs / 2 < MAX_SUSPECTS ? scan->max_regs / 2 : MAX_SUSPECTS;
	uint64_t end = scan->end, group_end;
	unsigned int i;
	int nr, err;

	nr = max ? find_suspects(pagemap_fd, scan, suspects, max) : 0;
	/* Nothing has been reset: a complete scan may get further, or tells why not. */
	if (!max || nr < 0)
		return wptrack_pagemap_collect(pagemap_fd, scan);

	/* The kernel's walk_end is not asked how far a scan has got that ran out of regions. */
	if ((unsigned int)nr == max)
		end = suspects[nr - 1].end;

	scan->nr_regs = 0;
	scan->next = scan->start;
	for (i = 0; i < (unsigned int)nr; i++) {
		/* Room for a clean range and for one more, so that it goes on in any case */
		if (scan->max_regs - scan->nr_regs < 2)
			return 0;

		add_clean(scan, suspects[i].start);
		if (is_hole(&suspects[i])) {
			scan->next = suspects[i].end;
			continue;
		}

		group_end = end_of_group(suspects, nr, &i);
		err = add_collected(pagemap_fd, scan, group_end);
		if (err || scan->next < group_end)
			return err;
	}

	if (scan->nr_regs < scan->max_regs)
		add_clean(scan, end);
	return 0;
}

int wptrack_pagemap_written(int pagemap_fd, uint64_t *ret_bytes)
{
	uint64_t boring = boring_categories(pagemap_fd) | PAGE_IS_FILE, bytes = 0;
	struct page_region regs[WRITTEN_REGS];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.end = WPTRACK_USER_END,
		.vec = (uintptr_t)regs,
		.vec_len = WRITTEN_REGS,
		.category_inverted = boring,
		.category_mask = boring | PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret, i;

	arg.end -= wptrack_page_bytes(); /* the highest page is not the user's */
	while (arg.start < arg.end) {
		ret = ioctl(pagemap_fd, PAGEMAP_SCAN, &arg);
		if (ret < 0)
			return -errno;
		for (i = 0; i < ret; i++)
			bytes += regs[i].end - regs[i].start;
		arg.start = scanned_up_to(&arg, ret);
	}

	*ret_bytes = bytes;
	return 0;
}
