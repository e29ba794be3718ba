// SPDX-License-Identifier: GPL-2.0-only
/*
 * crowded --control FILE: a region whose pages never change. Odd steps put so many mappings below it that a tracker
 * stops before it gets there, and close it; even ones take them away and open it again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define PAGE	4096ul
#define PAGES	16ul
#define CROWD	33500ul
#define CONTENT 7

static char *crowd, *region;
static unsigned int step_nr;

static int map_crowd(void)
{
	for (unsigned long i = 0; i < CROWD; i++)
		if (mmap(crowd + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			 0) == MAP_FAILED)
			return -errno;
	return 0;
}

static int step(void)
{
	int err;

	if (++step_nr & 1) {
		err = map_crowd();
		return err ? err : mprotect(region, PAGES * PAGE, PROT_NONE) ? -errno : 0;
	}
	if (munmap(crowd, 2 * CROWD * PAGE) || mprotect(region, PAGES * PAGE, PROT_READ | PROT_WRITE))
		return -errno;
	return 0;
}

static void verify(struct control_slot *slot)
{
	const char *first = NULL;
	uint64_t bad = 0;

	for (unsigned long i = 0; i < PAGES; i++) {
		char want[PAGE];

		memset(want, CONTENT, PAGE);
		if (memcmp(region + i * PAGE, want, PAGE) && !bad++)
			first = region + i * PAGE;
	}
	control_report(slot, PAGES, bad, 0, first);
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { step, verify };
	struct control_slot *slot;
	struct control *ctl = NULL;
	size_t size = 2 * CROWD * PAGE;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: %s --control FILE\n", argv[0]);
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	crowd = mmap(NULL, size + (PAGES + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	region = crowd + size + PAGE;
	if (crowd == MAP_FAILED || munmap(crowd, size + PAGE) || mprotect(region, PAGES * PAGE, PROT_READ | PROT_WRITE)) {
		perror("mmap");
		return 1;
	}
	memset(region, CONTENT, PAGES * PAGE);
	steps_serve(ctl, slot, &ops);
	return 0;
}
