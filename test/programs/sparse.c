// SPDX-License-Identifier: GPL-2.0-only
/*
 * sparse --control FILE [--tib N] [--parts N] [--dense PAGES] [--open] [--shared]
 * [--fork]: a large reservation with few pages in it, as runtimes of many
 * languages make one. A step writes some more pages, opens and closes pieces of
 * it, and puts up guards. More than there is in a row goes in parts, 1, 2, 4 or 8.
 * With --open all of it is accessible and stays in one mapping for each part:
 * steps only write.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define PAGE	   4096ull
#define TIB	   (1ull << 40)
#define NR_PIECES  256u	  /* each with a page at its start, spread over all of it */
#define PIECE	   (16 * PAGE)
#define PER_STEP   32u
#define MAX_PARTS  8u

static struct control *ctl;
static struct control_slot *slot;
static unsigned int slot_nr, step_nr;
static char *parts[MAX_PARTS];
static unsigned int nr_parts = 1;
static uint64_t size = 64 * TIB;
static bool shared, accessible;
static unsigned int nr_pages = NR_PIECES + 2048; /* the latter in a row, behind the first piece */
static uint64_t *expected;

/* Pieces are spread evenly; dense pages follow the first one. */
static char *page_at(unsigned int i)
{
	unsigned int per_part = NR_PIECES / nr_parts;

	return i < NR_PIECES ? parts[i / per_part] + size / NR_PIECES * (i % per_part) : parts[0] + PIECE + (i - NR_PIECES) * PAGE;
}

static void write_page(unsigned int i)
{
	uint64_t *p = (uint64_t *)page_at(i);

	/* Shared pages hold what any of the processes has written: all write the same. */
	expected[i] = (shared ? 0 : (uint64_t)slot_nr << 48) + ((uint64_t)step_nr << 32) + i + 1;
	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		p[w] = expected[i] * 0x9e3779b97f4a7c15ull + w;
}

static bool page_is_right(unsigned int i)
{
	const uint64_t *p = (const uint64_t *)page_at(i);

	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		if (p[w] != expected[i] * 0x9e3779b97f4a7c15ull + w)
			return false;
	return true;
}

static void verify(struct control_slot *s)
{
	uint64_t bad = 0;
	const void *first = NULL;

	for (unsigned int i = 0; i < nr_pages; i++) {
		if (page_is_right(i))
			continue;
		bad++;
		if (!first)
			first = page_at(i);
	}
	control_report(s, nr_pages, bad, 0, first);
}

static int setup(void)
{
	int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);

	expected = calloc(nr_pages, sizeof(*expected));
	if (!expected)
		return -errno;
	for (unsigned int i = 0; i < nr_parts; i++) {
		parts[i] = mmap(NULL, size / nr_parts, accessible ? PROT_READ | PROT_WRITE : PROT_NONE, flags, -1, 0);
		if (parts[i] == MAP_FAILED)
			return -errno;
		/* A huge page would fill what is to stay empty. */
		if (accessible && madvise(parts[i], size / nr_parts, MADV_NOHUGEPAGE) && errno != EINVAL)
			return -errno;
	}
	for (unsigned int i = 0; i < NR_PIECES && !accessible; i++)
		if (mprotect(page_at(i), PIECE, PROT_READ | PROT_WRITE))
			return -errno;
	if (!accessible && mprotect(parts[0], PIECE + (nr_pages - NR_PIECES) * PAGE, PROT_READ | PROT_WRITE))
		return -errno;
	for (unsigned int i = 0; i < nr_pages; i++)
		write_page(i);
	return 0;
}

static int step(void)
{
	unsigned int piece = ++step_nr * 7 % NR_PIECES;
	char *spare = page_at(piece) + 8 * PAGE;

	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page((step_nr * 131 + i * 61) % nr_pages);
	if (piece == 0 || shared || accessible)
		return 0;
	/* A page that comes and goes, a guard behind it, and a piece closed and opened again. */
	*spare = 1;
	if (madvise(spare, PAGE, MADV_DONTNEED))
		return -errno;
	if (madvise(spare + PAGE, PAGE, MADV_GUARD_INSTALL) && errno != EINVAL)
		return -errno;
	if (mprotect(spare + 2 * PAGE, PAGE, PROT_NONE))
		return -errno;
	return 0;
}

static int fork_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		slot_nr = 1;
		slot = control_take_slot(ctl, slot_nr);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	const char *control = NULL;
	bool want_child = false;
	int err;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--shared"))
			shared = true;
		else if (!strcmp(argv[i], "--open"))
			accessible = true;
		else if (!strcmp(argv[i], "--fork"))
			want_child = true;
		else if (!strcmp(argv[i], "--tib") && i + 1 < argc)
			size = strtoull(argv[++i], NULL, 10) * TIB;
		else if (!strcmp(argv[i], "--parts") && i + 1 < argc)
			nr_parts = (unsigned int)strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--dense") && i + 1 < argc)
			nr_pages = NR_PIECES + (unsigned int)strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--control") && i + 1 < argc)
			control = argv[++i];
	}
	if (!control || !size || nr_parts < 1 || nr_parts > MAX_PARTS || (nr_parts & (nr_parts - 1)) ||
	    (nr_pages - NR_PIECES) * PAGE + PIECE > size / NR_PIECES) {
		fprintf(stderr, "usage: sparse --control FILE [--tib N] [--parts 1|2|4|8] [--dense PAGES] [--open] [--shared] [--fork]\n");
		return 2;
	}
	err = control_map(control, false, &ctl);
	if (!err) {
		slot = control_take_slot(ctl, 0);
		err = setup();
	}
	if (!err && want_child)
		err = fork_child();
	if (err) {
		fprintf(stderr, "sparse: %s\n", strerror(-err));
		return 1;
	}
	steps_serve(ctl, slot, &ops);
	return 0;
}
