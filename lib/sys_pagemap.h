/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * PAGEMAP_SCAN, the only place that calls it. No logging. Addresses are
 * page-aligned, ranges half-open. None of these allocates page tables for holes.
 */
#ifndef WPTRACK_SYS_PAGEMAP_H
#define WPTRACK_SYS_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct page_region;

/**
 * wptrack_pagemap_open - open /proc/PID/pagemap
 * Return: descriptor the caller owns, bound to the memory the process has now, or -errno.
 */
int wptrack_pagemap_open(pid_t pid);

/**
 * wptrack_pagemap_is_armable - does a VMA have asynchronous write-protection?
 * @start:	start of a VMA
 *
 * Tells nothing of whose userfaultfd it is. Return: 1, 0 or -errno.
 */
int wptrack_pagemap_is_armable(int pagemap_fd, uint64_t start);

/**
 * wptrack_pagemap_find - the first page that has, or has not, asynchronous write-protection
 * @armable:	which of the two is looked for
 * @ret:	its address
 *
 * Addresses where nothing is mapped are neither. Return: 0, -ENOENT when there is none, or -errno.
 */
int wptrack_pagemap_find(int pagemap_fd, uint64_t start, uint64_t end, bool armable, uint64_t *ret);

/**
 * wptrack_pagemap_find_unmarked - the first page that is a hole or does not read as write-protected
 * @start, @end:	not empty
 * @ret:		its address
 *
 * Zero pages may be passed over. A pure read. Return: 0, -ENOENT when there is none, or -errno.
 */
int wptrack_pagemap_find_unmarked(int pagemap_fd, uint64_t start, uint64_t end, uint64_t *ret);

/* Does a page read as write-protected, registered or not? Return: 1, 0 or -errno. */
int wptrack_pagemap_is_marked(int pagemap_fd, uint64_t page);

/**
 * wptrack_pagemap_armed - list armed pages
 * @regs:	gets up to @max_regs sorted ranges of pages that are write-protected
 * @next:	all up to here has been looked at
 *
 * A pure read. Return: number of ranges, or -errno.
 */
int wptrack_pagemap_armed(int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regs,
			  unsigned int max_regs, uint64_t *next);

/**
 * wptrack_pagemap_populated - list populated pages, whatever they are
 * @regs:	gets up to @max_regs sorted ranges; categories has PAGE_IS_WPALLOWED, WRITTEN, FILE and PFNZERO or not
 * @next:	all up to here has been looked at
 *
 * Guard pages and holes are not reported. A pure read. Return: number of ranges, or -errno.
 */
int wptrack_pagemap_populated(int pagemap_fd, uint64_t start, uint64_t end, struct page_region *regs,
			      unsigned int max_regs, uint64_t *next);

/* One collecting scan: what to look at, and what has come of it. */
struct wptrack_scan {
	uint64_t start;		  /* in */
	uint64_t end;		  /* in: within one VMA */
	struct page_region *regs; /* out: populated pages, sorted; categories has PAGE_IS_WRITTEN or not */
	unsigned int max_regs;	  /* in */
	bool keep;		  /* in: reset nothing: what has been written is reported again next time */
	unsigned int nr_regs;	  /* out, also when the scan fails: these have been reset */
	uint64_t next;		  /* out: all up to here is told */
};

/**
 * wptrack_pagemap_collect - report populated pages of a VMA and re-arm the written ones
 *
 * The pages are reported and re-armed in one pass, under the page-table lock.
 * Zero pages, guard pages and holes are not reported. The VMA has to be private
 * and anonymous: to tell untouched pages of a file would make the kernel look
 * up the struct page of every page, which takes several times as long.
 *
 * Return: 0, -EPERM when the VMA has no asynchronous write-protection, or -errno.
 */
int wptrack_pagemap_collect(int pagemap_fd, struct wptrack_scan *scan);

/**
 * wptrack_pagemap_collect_changes - the same for a VMA of which little has been written
 *
 * Looks first, without resetting anything, for what may be other than clean
 * and populated, and collects just that. The rest needs no look at each page:
 * it is reported as it is, in ranges that may touch each other.
 *
 * All of the range has to stay mapped during the call: a part that is unmapped
 * meanwhile is called clean. So whoever collects from a running process must
 * know that, or use wptrack_pagemap_collect(). A page that is written between
 * the two steps may be reported as clean, and is reported as written next time.
 *
 * Return: as above.
 */
int wptrack_pagemap_collect_changes(int pagemap_fd, struct wptrack_scan *scan);

/**
 * wptrack_pagemap_written - how much of the armed memory has been written
 * @ret_bytes:	bytes of populated pages written since they were armed
 *
 * A pure read over the whole address space. Return: 0 or -errno.
 */
int wptrack_pagemap_written(int pagemap_fd, uint64_t *ret_bytes);

#endif
