// SPDX-License-Identifier: GPL-2.0-only
/*
 * manyvmas --control FILE: nearly as many mappings as a process may have. Each
 * step writes every hundredth of them.
 */
#include <stdio.h>
#include <string.h>

#include "steps.h"

#define PAGE  4096u
#define WORDS (PAGE / sizeof(uint64_t))
#define VMAS  60000u

static uint64_t *mem;
static uint32_t seed[VMAS]; /* what the page must hold */
static uint32_t steps;

static int open_page(unsigned int i, bool open)
{
	/* Neighbours differ, so that they stay apart. */
	int prot = open || i % 2 ? PROT_READ | PROT_WRITE : PROT_READ;

	return mprotect(mem + i * WORDS, PAGE, prot) ? -errno : 0;
}

static void fill(unsigned int i)
{
	seed[i] = steps + 1;
	for (unsigned int w = 0; w < WORDS; w++)
		mem[i * WORDS + w] = ((uint64_t)seed[i] << 32 | i) * 0x9e3779b97f4a7c15ull + w;
}

/* Odd ones, which are open. */
static int step(void)
{
	steps++;
	for (unsigned int i = 1; i < VMAS; i += 100)
		fill(i);
	return 0;
}

static void verify(struct control_slot *slot)
{
	const void *first = NULL;
	uint64_t bad = 0;

	for (unsigned int i = 0; i < VMAS; i++) {
		const uint64_t *p = mem + i * WORDS;
		bool good = true;

		for (unsigned int w = 0; w < WORDS; w++)
			good &= p[w] == ((uint64_t)seed[i] << 32 | i) * 0x9e3779b97f4a7c15ull + w;
		bad += !good;
		if (!good && !first)
			first = p;
	}
	control_report(slot, VMAS, bad, 0, first);
}

static int setup(void)
{
	int err = 0;

	mem = mmap(NULL, (size_t)VMAS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return -errno;
	for (unsigned int i = 0; i < VMAS; i++)
		fill(i);
	for (unsigned int i = 0; i < VMAS && !err; i += 2)
		err = open_page(i, false);
	return err;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	struct control *ctl = NULL;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: manyvmas --control FILE\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	if (setup())
		return 1;
	steps_serve(ctl, slot, &ops);
	_exit(0);
}
