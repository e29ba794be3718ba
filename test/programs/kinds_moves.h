/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: anonymous memory that moves or changes its size between rounds. */
#ifndef WPTRACK_TEST_KINDS_MOVES_H
#define WPTRACK_TEST_KINDS_MOVES_H

#include "kinds_files.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static int setup_movable(struct state *s)
{
	int err = area(s, PAGES, 2 * PAGES, 0);

	s->b = s->a + (PAGES + 7) * PAGE;
	return err ? err : fill(s);
}

/* mremap, and close what it leaves behind. */
static int move(char *from, unsigned int pages, char *to)
{
	if (mremap(from, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		return -errno;
	return close_range_of(from, pages);
}

static int move_away(struct state *s)
{
	rows_move(s, 0, PAGES, s->b);
	return move(s->a, PAGES, s->b);
}

static int move_middle_away(struct state *s)
{
	rows_move(s, 16, 16, s->b);
	return move(s->a + 16 * PAGE, 16, s->b);
}

/* Two regions change places: each of them is a parent's, at the other's address. */
static int setup_pair(struct state *s)
{
	int err = area(s, 32, 4 * 32, 0);

	s->b = s->a + 40 * PAGE;
	if (!err)
		err = map_at(s->b, 32, RW, 0);
	rows_add(s, s->a, 32);
	rows_add(s, s->b, 32);
	rows_write(s, 0, 64);
	return err;
}

static int swap_pair(struct state *s)
{
	char *aside = s->a + 80 * PAGE;
	int err = move(s->a, 32, aside);

	if (!err)
		err = move(s->b, 32, s->a);
	if (!err)
		err = move(aside, 32, s->b);
	for (unsigned int i = 0; i < 32; i++) {
		s->row[i].at = (uintptr_t)s->b + i * PAGE;
		s->row[32 + i].at = (uintptr_t)s->a + i * PAGE;
	}
	rows_flag(s, 0, 64, 0, HAD);
	return err;
}

/* Over 2 MiB of 4 KiB pages, between addresses aligned alike: whole page tables move. */
#define COALIGNED (HUGE_PAGES + 32)

static int setup_coaligned(struct state *s)
{
	int err = area(s, COALIGNED, 4 * HUGE_PAGES, 0);

	if (err)
		return err;
	(void)!madvise(s->a, COALIGNED * PAGE, MADV_NOHUGEPAGE);
	rows_add(s, s->a, COALIGNED);
	rows_write(s, 0, COALIGNED);
	return 0;
}

static int move_coaligned(struct state *s)
{
	char *to = s->a + 2 * HUGE;

	rows_move(s, 0, COALIGNED, to);
	return move(s->a, COALIGNED, to);
}

/* Another region's armed pages are put where the middle of a mapping was. */
static int setup_three(struct state *s)
{
	int err = area(s, PAGES, 3 * PAGES, 0);

	s->b = s->a + (PAGES + 8) * PAGE;
	if (!err)
		err = map_at(s->b, 16, RW, 0);
	if (err)
		return err;
	rows_add(s, s->a, 16);
	rows_add(s, s->a + 32 * PAGE, 16);
	rows_add(s, s->b, 16);
	rows_write(s, 0, 48);
	return 0;
}

static int move_into_middle(struct state *s)
{
	int err = munmap(s->a + 16 * PAGE, 16 * PAGE) ? -errno : 0;

	rows_move(s, 32, 16, s->a + 16 * PAGE);
	if (!err)
		err = move(s->b, 16, s->a + 16 * PAGE);
	row_write(s, 1);
	row_write(s, 17);
	row_write(s, 33);
	return err;
}

static int write_in_middle(struct state *s)
{
	row_write(s, 2);
	row_write(s, 18);
	row_write(s, 34);
	return 0;
}

/*
 * The middle comes back and is merged with its neighbours: all three lose their
 * registration, and the marks in the page tables stay or go as the kernel likes.
 */
static int move_middle_back(struct state *s)
{
	int err;

	s->nr_rows -= 16;
	rows_move(s, 16, 16, s->a + 16 * PAGE);
	err = move(s->b, 16, s->a + 16 * PAGE);
	rows_flag(s, 0, FILLED, TOUCHED, 0);
	row_write(s, 1);
	row_write(s, 17);
	row_write(s, 33);
	rows_flag(s, 1, 1, 0, TOUCHED);
	rows_flag(s, 17, 1, 0, TOUCHED);
	rows_flag(s, 33, 1, 0, TOUCHED);
	rows_flag(s, 16, 16, 0, TOUCHED);
	return err;
}

/* A mark that was left in the page tables would hide this. */
static int write_where_merged(struct state *s)
{
	row_write(s, 1);
	row_write(s, 17);
	row_write(s, 33);
	return 0;
}

static int move_dontunmap(struct state *s)
{
	unsigned int left;

	if (mremap(s->a, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, s->b) ==
	    MAP_FAILED)
		return errno == EINVAL ? cannot(s, "the kernel has no MREMAP_DONTUNMAP") : -errno;
	rows_move(s, 0, PAGES, s->b);
	/* What is left behind is mapped, and empty. */
	left = s->nr_rows - PAGES;
	rows_flag(s, left, PAGES, 0, GONE);
	row_write(s, left + 3);
	return 0;
}

static int setup_growing(struct state *s)
{
	int err = area(s, PAGES, 3 * PAGES, 0);

	/* Room to grow into has to be free. */
	if (!err && munmap(s->a + PAGES * PAGE, PAGES * PAGE))
		err = -errno;
	return err ? err : fill(s);
}

static int grow(struct state *s)
{
	if (mremap(s->a, PAGES * PAGE, 2 * PAGES * PAGE, 0) == MAP_FAILED)
		return -errno;
	rows_write(s, rows_add(s, s->a + PAGES * PAGE, PAGES), 8);
	return write_first(s);
}

/* It shrinks, and grows again over what it had there. */
static int shrink(struct state *s)
{
	if (mremap(s->a, 2 * PAGES * PAGE, 32 * PAGE, 0) == MAP_FAILED ||
	    mremap(s->a, 32 * PAGE, PAGES * PAGE, 0) == MAP_FAILED)
		return -errno;
	rows_drop(s, 32, 2 * PAGES - 32);
	rows_flag(s, PAGES, PAGES, GONE, 0);
	row_write(s, SECOND);
	return 0;
}

static int grow_elsewhere(struct state *s)
{
	char *to = reserve(2 * PAGES);

	if (!to || mremap(s->a, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		return -ENOMEM;
	rows_move(s, 0, PAGES, to);
	rows_write(s, rows_add(s, to + PAGES * PAGE, PAGES), 8);
	return close_range_of(s->a, PAGES);
}

#endif
