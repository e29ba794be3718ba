// SPDX-License-Identifier: GPL-2.0-only
/*
 * runs --control FILE: thousands of small mappings side by side, in which each
 * step writes pages, maps some anew, drops some, lets some change places and
 * makes others out of neighbours. The third step writes every second page as well.
 * Every page is checked against what it must be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define PAGE	 4096u
#define PAGES	 4u
#define PIECE	 (PAGES * PAGE)
#define WORDS	 (PAGE / sizeof(uint64_t))
#define PIECES	 4096u
#define PER_STEP 40u

static uint64_t *mem, *spare;
static uint32_t seed[PIECES][PAGES]; /* what the page must hold, 0: zeroes */
static uint32_t next_seed, steps, rnd = 12345;

static uint64_t *at(unsigned int i)
{
	return mem + i * PAGES * WORDS;
}

static unsigned int any(void)
{
	rnd = rnd * 1103515245u + 12345u;
	return (rnd >> 8) % PIECES;
}

/* Neighbours differ, so that they stay apart. */
static int prot_of(unsigned int i)
{
	return i % 2 ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC;
}

static void fill(unsigned int i, unsigned int page)
{
	seed[i][page] = ++next_seed;
	for (unsigned int w = 0; w < WORDS; w++)
		at(i)[page * WORDS + w] = seed[i][page] * 0x9e3779b97f4a7c15ull + w;
}

static int map_anew(unsigned int i)
{
	memset(seed[i], 0, sizeof(seed[i]));
	return mmap(at(i), PIECE, prot_of(i), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno
													    : 0;
}

static int move(void *from, void *to)
{
	return mremap(from, PIECE, PIECE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -errno : 0;
}

static int swap(unsigned int i, unsigned int j)
{
	uint32_t other[PAGES];
	int err;

	if (i == j)
		return 0;
	err = move(at(i), spare);
	if (!err)
		err = move(at(j), at(i));
	if (!err)
		err = move(spare, at(j));
	memcpy(other, seed[i], sizeof(other));
	memcpy(seed[i], seed[j], sizeof(other));
	memcpy(seed[j], other, sizeof(other));
	return err;
}

static int step(void)
{
	int err = 0;

	if (++steps == 3)
		for (unsigned int i = 0; i < PIECES * PAGES; i += 2)
			fill(i / PAGES, i % PAGES);
	for (unsigned int n = 0; n < PER_STEP && !err; n++) {
		unsigned int i = any();

		fill(any(), n % PAGES);
		/* With and without something in it */
		err = map_anew(i);
		if (n % 2)
			fill(i, n % PAGES);
		if (!err && !(n % 8))
			err = swap(any(), any());
		i = any();
		if (!err && n % 4 == 1 && madvise(at(i), PIECE, MADV_DONTNEED))
			err = -errno;
		else if (n % 4 == 1)
			memset(seed[i], 0, sizeof(seed[i]));
		i = any();
		if (!err && n % 8 == 3 && mprotect(at(i), PIECE, prot_of(i + 1)))
			err = -errno;
	}
	return err;
}

static void verify(struct control_slot *slot)
{
	const void *first = NULL;
	uint64_t bad = 0;

	for (unsigned int i = 0; i < PIECES * PAGES; i++) {
		const uint32_t is = seed[i / PAGES][i % PAGES];
		const uint64_t *p = mem + i * WORDS;
		bool good = true;

		for (unsigned int w = 0; w < WORDS; w++)
			good &= p[w] == (is ? is * 0x9e3779b97f4a7c15ull + w : 0);
		bad += !good;
		if (!good && !first)
			first = p;
	}
	control_report(slot, PIECES * PAGES, bad, 0, first);
}

static int setup(void)
{
	mem = mmap(NULL, (size_t)PIECES * PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	spare = mmap(NULL, PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || spare == MAP_FAILED)
		return -errno;
	for (unsigned int i = 0; i < PIECES; i++) {
		if (mprotect(at(i), PIECE, prot_of(i)))
			return -errno;
		for (unsigned int page = 0; page < PAGES; page++)
			fill(i, page);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	struct control *ctl = NULL;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: runs --control FILE\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	if (setup())
		return 1;
	steps_serve(ctl, slot, &ops);
	_exit(0);
}
