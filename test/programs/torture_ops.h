/* SPDX-License-Identifier: GPL-2.0-only */
/* torture: protection, advice, and writes by the kernel; how often each operation is done. */
#ifndef WPTRACK_TEST_TORTURE_OPS_H
#define WPTRACK_TEST_TORTURE_OPS_H

#include "torture_maps.h"

static void op_protect(struct worker *w, unsigned int at, unsigned int n)
{
	static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE };
	enum oracle_prot prot = below(w, 4) ? below(w, 3) : ORACLE_RW;

	if (!all_mapped(w, at, n))
		return;
	disturb(w, at, n);
	if (mprotect(addr(w, at), (size_t)n * PAGE, prots[prot])) {
		found_bad(w, at, "mprotect failed");
		return;
	}
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		want.prot = prot;
		set_want(w, i, want);
		note(w, i, false);
	}
}

static void op_dontneed(struct worker *w, unsigned int at, unsigned int n)
{
	struct oracle_want was[MAX_RANGE];

	if (!all_mapped(w, at, n))
		return;
	munlock(addr(w, at), (size_t)n * PAGE);
	doubt(w, at, n, was);
	if (madvise(addr(w, at), (size_t)n * PAGE, MADV_DONTNEED)) {
		trust(w, at, n, was);
		settle(w, at, n);
		return;
	}
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.guard) {
			trust(w, i, 1, &was[i - at]);
			continue;
		}
		want.state = ORACLE_FRESH;
		set_want(w, i, want);
		note(w, i, true);
	}
}

static void op_free(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.map != ORACLE_ANON || want.guard)
			return;
	}
	munlock(addr(w, at), (size_t)n * PAGE);
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.state == ORACLE_DATA)
			want.state = ORACLE_MAYBE;
		set_want(w, i, want);
		note(w, i, false);
	}
	/* No write: the parent's content is as good as none. */
	madvise(addr(w, at), (size_t)n * PAGE, MADV_FREE);
	disturb(w, at, n);
}

/* Nothing of the content changes, whatever comes of it. */
static void op_advise(struct worker *w, unsigned int at, unsigned int n)
{
	static const int advices[] = { MADV_COLD,	   MADV_PAGEOUT,  MADV_COLLAPSE,   MADV_POPULATE_READ,
				       MADV_POPULATE_WRITE, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_WILLNEED,
				       MADV_RANDOM,	   MADV_NORMAL };
	unsigned int which = below(w, sizeof(advices) / sizeof(advices[0]));

	if (advices[which] == MADV_COLLAPSE) {
		at = at / HUGE_PAGES * HUGE_PAGES;
		n = HUGE_PAGES;
	}
	disturb(w, at, n);
	if (w->huge) {
		disturb(w, at / HUGE_PAGES * HUGE_PAGES, HUGE_PAGES);
		disturb(w, (at + n - 1) / HUGE_PAGES * HUGE_PAGES, HUGE_PAGES);
	}
	madvise(addr(w, at), (size_t)n * PAGE, advices[which]);
	disturb(w, at, n);
}

static void op_lock(struct worker *w, unsigned int at, unsigned int n)
{
	disturb(w, at, n);
	if (below(w, 2)) {
		mlock(addr(w, at), (size_t)(n > 16 ? 16 : n) * PAGE);
	} else {
		munlock(addr(w, 0), (size_t)PAGES * PAGE);
	}
	disturb(w, at, n);
}

static void op_guard(struct worker *w, unsigned int at, unsigned int n)
{
	struct oracle_want was[MAX_RANGE];
	bool install = below(w, 2);

	for (unsigned int i = at; i < at + n; i++)
		if (want_of(w, i).map != ORACLE_ANON)
			return;
	doubt(w, at, n, was);
	if (munlock(addr(w, at), (size_t)n * PAGE) ||
	    madvise(addr(w, at), (size_t)n * PAGE, install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE)) {
		trust(w, at, n, was);
		settle(w, at, n);
		return;
	}
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (!install && !want.guard) {
			trust(w, i, 1, &was[i - at]);
			continue;
		}
		want.state = ORACLE_FRESH;
		want.guard = install;
		set_want(w, i, want);
		note(w, i, true);
	}
}

/* The kernel writes: read(2) from the page cache, or past it. */
static void read_file(struct worker *w, unsigned int at, unsigned int n, int fd)
{
	unsigned int file = below(w, ORACLE_FILE - MAX_RANGE);

	if (fd < 0 || !all_writable(w, at, n))
		return;
	for (unsigned int i = at; i < at + n; i++)
		disturb_huge(w, i);
	if (pread(fd, addr(w, at), (size_t)n * PAGE, (off_t)file * PAGE) != (ssize_t)n * PAGE) {
		found_bad(w, at, "pread failed");
		return;
	}
	for (unsigned int i = 0; i < n; i++)
		set_data(w, at + i, FILE_BASE | (file + i), 0);
}

static void op_read(struct worker *w, unsigned int at, unsigned int n)
{
	read_file(w, at, n, conf.data_fd);
}

static void op_direct(struct worker *w, unsigned int at, unsigned int n)
{
	read_file(w, at, n, conf.direct_fd);
}

static void op_vm_write(struct worker *w, unsigned int at, unsigned int n)
{
	uint32_t base = below(w, FILE_BASE);
	struct iovec local, remote = { addr(w, at), PAGE };
	uint64_t buf[WORDS];

	(void)n;
	if (!is_writable(want_of(w, at)))
		return;
	disturb_huge(w, at);
	fill(buf, base, 0);
	local = (struct iovec){ buf, PAGE };
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) != PAGE)
		found_bad(w, at, "process_vm_writev failed");
	set_data(w, at, base, 0);
}

/* The same memory through two mappings and a descriptor. */
static void op_shared(struct worker *w, unsigned int at, unsigned int n)
{
	unsigned int page = at % ORACLE_SHARED, way = below(w, 4);
	struct oracle_want want = { .map = ORACLE_ANON, .state = ORACLE_DATA, .base = below(w, FILE_BASE) };
	size_t offset = (size_t)page * PAGE;
	uint64_t buf[WORDS];

	(void)n;
	fill(buf, want.base, 0);
	if (way < 2) {
		memcpy(w->alias[way] + offset, buf, PAGE);
	} else if (way == 2) {
		if (pwrite(w->memfd, buf, PAGE, (off_t)offset) != PAGE)
			found_bad(w, page, "pwrite to the memfd failed");
	} else {
		if (madvise(w->alias[0] + offset, PAGE, MADV_REMOVE))
			found_bad(w, page, "MADV_REMOVE failed");
		want.state = ORACLE_FRESH;
	}
	w->shared[page] = want;
}

/* A child looks at what it has inherited, and writes its own copy. */
static void op_fork(struct worker *w, unsigned int at, unsigned int n)
{
	int status = -1;
	pid_t pid;

	(void)at;
	(void)n;
	pid = fork();
	if (!pid) {
		uint64_t before = atomic_load(&self->bad);

		for (unsigned int i = 0; i < 64; i++) {
			unsigned int page = below(w, PAGES);
			struct oracle_want want = want_of(w, page);

			if (want.map == ORACLE_NONE || want.prot == ORACLE_NO || want.guard)
				continue;
			if (!is_right(addr(w, page), want))
				found_bad(w, page, "wrong in a child");
		}
		for (unsigned int i = 0; i < 64; i++) {
			unsigned int page = below(w, PAGES);

			if (is_writable(want_of(w, page)))
				fill(addr(w, page), FILE_BASE - 1, 0);
		}
		_exit(atomic_load(&self->bad) != before);
	}
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	/* The window's pages are shared until written: nothing that a tracker has to see. */
	rnd(w);
}

static const struct {
	void (*run)(struct worker *w, unsigned int at, unsigned int n);
	unsigned int weight;
} ops[] = {
	{ op_write, 300 },   { op_poke, 200 },	  { op_check, 60 }, { op_map, 24 },    { op_unmap, 6 },
	{ op_move, 24 },     { op_return, 12 },  { op_dontunmap, 6 }, { op_grow, 20 },  { op_protect, 40 }, { op_dontneed, 30 },
	{ op_free, 6 },	     { op_advise, 20 },	  { op_lock, 4 },   { op_guard, 8 },   { op_read, 30 },
	{ op_direct, 6 },    { op_vm_write, 30 }, { op_shared, 40 }, { op_fork, 1 },
};

#define NR_OPS (sizeof(ops) / sizeof(ops[0]))

static void one_op(struct worker *w)
{
	unsigned int total = 0, sum = 0, pick, n, at, i;
	uint32_t epoch = atomic_load(&ctl->epoch);

	for (i = 0; i < NR_OPS; i++)
		total += ops[i].weight;

	n = 1 + (below(w, MAX_RANGE) >> below(w, 8));
	at = below(w, HOT_PAGES) + mix(conf.seed + epoch / 2 * 64 + conf.proc * 8 + w->window) % 8 * HOT_PAGES;
	if (!below(w, COLD_OPS))
		at = below(w, PAGES);
	if (at + n > PAGES)
		at = PAGES - n;
	pick = below(w, total);
	w->epoch = epoch;
	for (i = 0; i < NR_OPS; i++) {
		sum += ops[i].weight;
		if (pick < sum)
			break;
	}
	ops[i].run(w, at, n);
	atomic_fetch_add_explicit(&self->ops, 1, memory_order_relaxed);
}

#endif
