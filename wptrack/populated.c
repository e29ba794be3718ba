// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/sys_pagemap.h"
#include "populated.h"

/* Enough for all of a line of maps but its name. */
#define LINE_BYTES 512

static FILE *open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return fopen(path, "re");
}

int wptrack_populated_open(struct wptrack_populated *pop, pid_t pid)
{
	const int pagemap = wptrack_pagemap_open(pid);
	FILE *maps;

	if (pagemap < 0)
		return pagemap;
	maps = open_proc(pid, "maps");
	if (!maps) {
		const int err = -errno;

		close(pagemap);
		return err;
	}
	*pop = (struct wptrack_populated){ .pagemap = pagemap, .maps = maps };
	return 0;
}

void wptrack_populated_close(struct wptrack_populated *pop)
{
	fclose(pop->maps);
	close(pop->pagemap);
}

/* One line, the end of which is dropped if it is too long. Return: false at the end of the file. */
static bool read_line(FILE *f, char line[LINE_BYTES])
{
	if (!fgets(line, LINE_BYTES, f))
		return false;
	if (!strchr(line, '\n'))
		for (int c = 0; c != '\n' && c != EOF;)
			c = getc(f);
	return true;
}

/* Is its content in pagemap-ID.img, by CRIU's rules? */
static bool is_private(const char *perms, const char *name)
{
	/* The ring of an AIO context counts as private, though it is mapped shared. */
	if (!strncmp(name, "/[aio]", 6))
		return true;
	/* These are the kernel's. */
	if (!strncmp(name, "[vvar", 5) || !strncmp(name, "[vsyscall]", 10) || !strncmp(name, "[uprobes]", 9))
		return false;
	return perms[3] == 'p';
}

/* Return: 1, 0 when there is no other VMA, or -errno. */
static int next_vma(struct wptrack_populated *pop)
{
	char line[LINE_BYTES], perms[5];
	int name = 0;

	do {
		if (!read_line(pop->maps, line))
			return ferror(pop->maps) ? -EIO : 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &pop->vma_start, &pop->vma_end, perms,
			   &name) != 3)
			return -EBADMSG;
	} while (!is_private(perms, line + name));
	pop->scanned = pop->vma_start;
	return 1;
}

static int scan(struct wptrack_populated *pop)
{
	const int nr = wptrack_pagemap_populated(pop->pagemap, pop->scanned, pop->vma_end, pop->regs,
						 WPTRACK_POPULATED_REGS, &pop->scanned);

	if (nr < 0)
		return nr;
	pop->nr_regs = (unsigned int)nr;
	pop->at = 0;
	return 0;
}

int wptrack_populated_next(struct wptrack_populated *pop, struct wptrack_populated_range *ret)
{
	const struct page_region *reg;
	int err;

	while (pop->at == pop->nr_regs) {
		if (pop->scanned >= pop->vma_end) {
			err = next_vma(pop);
			if (err <= 0)
				return err;
		}
		err = scan(pop);
		if (err)
			return err;
	}

	reg = &pop->regs[pop->at++];
	*ret = (struct wptrack_populated_range){
		.start = reg->start,
		.end = reg->end,
		.vma_start = pop->vma_start,
		.tracked = reg->categories & PAGE_IS_WPALLOWED,
		/* Without write-protection, some kernels call nothing written. */
		.clean = (reg->categories & (PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN)) == PAGE_IS_WPALLOWED,
		.file = reg->categories & PAGE_IS_FILE,
		.zero = reg->categories & PAGE_IS_PFNZERO,
	};
	return 1;
}

int wptrack_vma_is_droppable(pid_t pid, uint64_t start)
{
	FILE *smaps = open_proc(pid, "smaps");
	char line[LINE_BYTES];
	uint64_t at = 0, end;
	int ret = 0;

	if (!smaps)
		return -errno;
	while (read_line(smaps, line)) {
		uint64_t low;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &low, &end) == 2)
			at = low;
		else if (at == start && !strncmp(line, "VmFlags:", 8)) {
			ret = strstr(line, " dp") != NULL;
			break;
		}
	}
	fclose(smaps);
	return ret;
}
