/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The populated private memory of a process, and what the kernel tells of it,
 * from the lowest address up. A pure read: nothing is armed or reset, and no
 * hole is touched. The memory it takes does not depend on the process.
 */
#ifndef WPTRACK_POPULATED_H
#define WPTRACK_POPULATED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "lib/uapi.h"

#define WPTRACK_POPULATED_REGS 512

struct wptrack_populated {
	int pagemap;
	FILE *maps;
	uint64_t vma_start;
	uint64_t vma_end;
	uint64_t scanned; /* up to here, in that VMA */
	struct page_region regs[WPTRACK_POPULATED_REGS];
	unsigned int nr_regs;
	unsigned int at;
};

/* Pages in a row that are alike. */
struct wptrack_populated_range {
	uint64_t start;
	uint64_t end;
	uint64_t vma_start;
	bool tracked; /* the VMA has asynchronous write-protection */
	bool clean;   /* tracked, and not written since it was armed */
	bool file;    /* the page is a file's, not the process's own */
	bool zero;    /* the zero page */
};

/**
 * wptrack_populated_open - begin with the memory the process has now
 * @pop:	to be closed when this has succeeded
 *
 * Return: 0 or -errno.
 */
int wptrack_populated_open(struct wptrack_populated *pop, pid_t pid);

/* The next range. Return: 1, 0 when there is no more, or -errno. */
int wptrack_populated_next(struct wptrack_populated *pop, struct wptrack_populated_range *ret);

void wptrack_populated_close(struct wptrack_populated *pop);

/* Has the VMA that starts at @start been made with MAP_DROPPABLE? CRIU does not dump that. Return: 1, 0 or -errno. */
int wptrack_vma_is_droppable(pid_t pid, uint64_t start);

#endif
