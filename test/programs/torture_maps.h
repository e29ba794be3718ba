/* SPDX-License-Identifier: GPL-2.0-only */
/* torture: operations that write, and those that change mappings. */
#ifndef WPTRACK_TEST_TORTURE_MAPS_H
#define WPTRACK_TEST_TORTURE_MAPS_H

#include "torture_book.h"


static void set_data(struct worker *w, unsigned int i, uint32_t base, uint32_t poke)
{
	struct oracle_want want = want_of(w, i);

	want.state = ORACLE_DATA;
	want.base = base;
	want.poke = poke;
	set_want(w, i, want);
	note(w, i, true);
}

static void op_write(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++) {
		uint32_t base = below(w, FILE_BASE);

		if (!is_writable(want_of(w, i)))
			continue;
		disturb_huge(w, i);
		fill(addr(w, i), base, 0);
		set_data(w, i, base, 0);
	}
}

/* One word of a page, and of the next one but three. */
static void op_poke(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i += 4) {
		struct oracle_want want = want_of(w, i);
		uint32_t poke = (want.poke + 1) & 0xffff;

		if (!is_writable(want) || want.state != ORACLE_DATA || !poke)
			continue;
		((uint64_t *)addr(w, i))[want.base % WORDS] = mix(mix(want.base) + poke);
		set_data(w, i, want.base, poke);
	}
}

static void op_check(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.map == ORACLE_NONE || want.prot == ORACLE_NO || want.guard)
			continue;
		disturb_huge(w, i);
		if (!is_right(addr(w, i), want))
			found_bad(w, i, "wrong when looked at");
		atomic_fetch_add_explicit(&self->compared, 1, memory_order_relaxed);
	}
}

static void set_mapped(struct worker *w, unsigned int at, unsigned int n, enum oracle_map map, unsigned int file)
{
	for (unsigned int i = 0; i < n; i++) {
		set_want(w, at + i, (struct oracle_want){ .map = map, .file = file + i });
		note(w, at + i, false);
		note(w, at + i, true);
	}
}

static void op_map(struct worker *w, unsigned int at, unsigned int n)
{
	unsigned int file = below(w, ORACLE_FILE - 4 * MAX_RANGE);
	bool anon = below(w, 5);
	void *mem;

	if (below(w, 2))
		n = n * 4 > PAGES - at ? PAGES - at : n * 4;
	disturb_run(w, at, n);
	doubt(w, at, n, NULL);
	mem = mmap(addr(w, at), (size_t)n * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_FIXED | (anon ? MAP_ANONYMOUS : 0) | (below(w, 2) ? MAP_NORESERVE : 0),
		   anon ? -1 : conf.data_fd, anon ? 0 : (off_t)file * PAGE);
	if (mem == MAP_FAILED) {
		found_bad(w, at, "mmap failed");
		return;
	}
	if (anon)
		madvise(mem, (size_t)n * PAGE, w->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	set_mapped(w, at, n, anon ? ORACLE_ANON : ORACLE_FILE_PRIVATE, anon ? 0 : file);
	disturb_run(w, at, n);
}

static void op_unmap(struct worker *w, unsigned int at, unsigned int n)
{
	doubt(w, at, n, NULL);
	if (munmap(addr(w, at), (size_t)n * PAGE))
		found_bad(w, at, "munmap failed");
	for (unsigned int i = at; i < at + n; i++) {
		set_want(w, i, (struct oracle_want){ .map = ORACLE_NONE });
		note(w, i, true);
	}
}

/* A move that fails may have been done in part, so the kernel is asked what is where. */
static void move_pages_to(struct worker *w, unsigned int at, unsigned int to, unsigned int n)
{
	struct oracle_want from[MAX_RANGE], target[MAX_RANGE];

	disturb_run(w, at, n);
	disturb_run(w, to, n);
	doubt(w, at, n, from);
	doubt(w, to, n, target);
	if (mremap(addr(w, at), (size_t)n * PAGE, (size_t)n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, addr(w, to)) ==
		    MAP_FAILED &&
	    errno == EFAULT && all_mapped(w, at, n))
		atomic_fetch_add(&self->lost_moves, 1);

	for (unsigned int i = 0; i < n; i++) {
		if (from[i].map != ORACLE_NONE && !kernel_has(w, at + i)) {
			set_want(w, to + i, from[i]);
			set_want(w, at + i, (struct oracle_want){ .map = ORACLE_NONE });
			note(w, at + i, true);
			note(w, to + i, true);
			continue;
		}
		trust(w, at + i, 1, &from[i]);
		trust(w, to + i, 1, &target[i]);
		if (!kernel_has(w, to + i)) {
			set_want(w, to + i, (struct oracle_want){ .map = ORACLE_NONE });
			note(w, to + i, true);
		}
	}
	disturb_run(w, to, n);
	disturb_run(w, at, n);
}

static void op_move(struct worker *w, unsigned int at, unsigned int n)
{
	unsigned int to = below(w, PAGES - n);

	if (below(w, 3) == 0) /* where page tables may be moved as they are */
		to = (to / HUGE_PAGES * HUGE_PAGES + at % HUGE_PAGES) % (PAGES - n);
	if (to < at + n && at < to + n)
		return;
	move_pages_to(w, at, to, n);
	w->moves[w->next_move++ % MOVES] = (struct move){ at, to, n, atomic_load(&ctl->epoch) };
}

/*
 * Back to where it came from, after a round: there it merges with its old
 * neighbours. These are written before the next round and after it.
 */
static void op_return(struct worker *w, unsigned int at, unsigned int n)
{
	struct move *move = &w->moves[below(w, MOVES)];

	if (!move->n || move->epoch / 2 == atomic_load(&ctl->epoch) / 2)
		return;
	move_pages_to(w, move->to, move->at, move->n);
	at = move->at > n ? move->at - n : 0;
	n = 2 * n + move->n;
	op_poke(w, at, at + n > PAGES ? PAGES - at : n);
	*move = (struct move){ 0 };
}

/* The pages go elsewhere, the mapping stays and is fresh. */
static void op_dontunmap(struct worker *w, unsigned int at, unsigned int n)
{
	unsigned int to = below(w, PAGES - 1);
	struct oracle_want from = want_of(w, at), fresh = from, target;

	(void)n;
	if (to == at || from.map != ORACLE_ANON)
		return;
	disturb_run(w, at, 1);
	disturb_run(w, to, 1);
	doubt(w, at, 1, NULL);
	doubt(w, to, 1, &target);
	if (mremap(addr(w, at), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, addr(w, to)) ==
	    MAP_FAILED) {
		trust(w, at, 1, &from);
		trust(w, to, 1, &target);
		if (!kernel_has(w, to)) {
			set_want(w, to, (struct oracle_want){ .map = ORACLE_NONE });
			note(w, to, true);
		}
		return;
	}
	fresh.state = ORACLE_FRESH;
	fresh.guard = 0;
	set_want(w, to, from);
	set_want(w, at, fresh);
	note(w, at, true);
	note(w, to, true);
	disturb_run(w, at, 1);
	disturb_run(w, to, 1);
}

static void op_grow(struct worker *w, unsigned int at, unsigned int n)
{
	struct oracle_want want = want_of(w, at);
	unsigned int more = 0;

	(void)n;
	if (want.map != ORACLE_ANON)
		return;
	while (at + 1 + more < PAGES && more < MAX_RANGE && want_of(w, at + 1 + more).map == ORACLE_NONE)
		more++;
	if (!more || mremap(addr(w, at), PAGE, (size_t)(1 + more) * PAGE, 0) == MAP_FAILED)
		return;
	set_mapped(w, at + 1, more, ORACLE_ANON, 0);
	for (unsigned int i = at + 1; i <= at + more; i++) {
		struct oracle_want grown = want_of(w, i);

		grown.prot = want.prot;
		set_want(w, i, grown);
	}
	disturb_run(w, at, 1 + more);
}

#endif
