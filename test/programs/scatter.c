// SPDX-License-Identifier: GPL-2.0-only
/*
 * scatter --control FILE: one mapping in which each step writes every second
 * page, so that the changes are more ranges than any scan returns at once.
 */
#include <stdio.h>
#include <string.h>

#include "steps.h"

#define PAGE  4096u
#define WORDS (PAGE / sizeof(uint64_t))
#define PAGES 32768u

static uint64_t *mem;
static uint32_t seed[PAGES]; /* what the page must hold */
static uint32_t steps;

static void write_page(unsigned int page)
{
	seed[page] = steps + 1;
	for (unsigned int i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = ((uint64_t)seed[page] << 32 | page) * 0x9e3779b97f4a7c15ull + i;
}

static int step(void)
{
	steps++;
	for (unsigned int page = 0; page < PAGES; page += 2)
		write_page(page);
	return 0;
}

static void verify(struct control_slot *slot)
{
	const void *first = NULL;
	uint64_t bad = 0;

	for (unsigned int page = 0; page < PAGES; page++) {
		const uint64_t *p = mem + page * WORDS;
		bool good = true;

		for (unsigned int i = 0; i < WORDS; i++)
			good &= p[i] == ((uint64_t)seed[page] << 32 | page) * 0x9e3779b97f4a7c15ull + i;
		bad += !good;
		if (!good && !first)
			first = p;
	}
	control_report(slot, PAGES, bad, 0, first);
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	struct control *ctl;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: scatter --control FILE\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	mem = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED || madvise(mem, (size_t)PAGES * PAGE, MADV_NOHUGEPAGE))
		return 1;
	for (unsigned int page = 0; page < PAGES; page++)
		write_page(page);
	steps_serve(ctl, slot, &ops);
	_exit(0);
}
