// SPDX-License-Identifier: GPL-2.0-only
/*
 * torture --control FILE --oracle FILE --data FILE --seed N [--threads N] [--processes N]
 *
 * Does all that can be done to memory, at random and as fast as it can: in
 * windows of address space, each worked on by one thread, in several processes,
 * which fork, exit and execute themselves. What every page must hold stands in
 * the oracle (oracle.h), and can be checked at any time. The same seed makes the
 * same sequence of operations in each window.
 *
 * Most of what is written lies in an eighth of each window, another one in each
 * epoch, so that there is something left that has not changed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "control.h"
#include "oracle.h"
#include "steps.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGES	   ORACLE_PAGES
#define PAGE	   ORACLE_PAGE
#define WORDS	   (PAGE / sizeof(uint64_t))
#define MAX_RANGE  128u
#define HUGE_PAGES 512u
#define HOT_PAGES  (PAGES / 8)
#define COLD_OPS   1024 /* one in so many goes anywhere */
#define FILE_BASE  (1u << 25)

#define MOVES	   16u

/* A move that may be taken back. */
struct move {
	unsigned int at, to, n;
	uint32_t epoch;
};

enum worker_state { WORKER_NONE, WORKER_RUNS, WORKER_PARKED, WORKER_ENDED };

struct worker {
	unsigned int window;
	bool huge; /* its mappings are made for huge pages */
	uint64_t rng;
	uint32_t epoch; /* when the operation under way began */
	pthread_t thread;
	_Atomic int state;
	struct oracle_page *page;
	struct oracle_want *shared;
	uint8_t *mem;
	uint8_t *alias[2]; /* two mappings of one memfd */
	int memfd;
	struct move moves[MOVES]; /* n = 0: none */
	unsigned int next_move;
};

static struct {
	unsigned int proc, threads, processes;
	uint64_t seed;
	const char *data_path;
	int data_fd;   /* the file that is mapped privately and read */
	int direct_fd; /* the same with O_DIRECT, -1: cannot be had */
	char **argv;
} conf = { .threads = 2, .processes = 2 };

static struct control *ctl;
static struct control_slot *slot;
static struct oracle *oracle;
static struct oracle_proc *self;
static struct worker worker[ORACLE_WINDOWS];
static _Atomic bool paused, leaving;
static pid_t child_pid[ORACLE_PROCS];

/* --- patterns ---------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t rnd(struct worker *w)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return mix(w->rng);
}

static unsigned int below(struct worker *w, unsigned int n)
{
	return rnd(w) % n;
}

static void fill(void *at, uint32_t base, uint32_t poke)
{
	uint64_t *p = at, key = mix(base);

	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = key + i * 0x9e3779b97f4a7c15ull;
	if (poke)
		p[base % WORDS] = mix(key + poke);
}

static bool holds(const void *at, uint32_t base, uint32_t poke)
{
	const uint64_t *p = at;
	uint64_t key = mix(base);

	for (unsigned int i = 0; i < WORDS; i++) {
		uint64_t want = key + i * 0x9e3779b97f4a7c15ull;

		if (poke && i == base % WORDS)
			want = mix(key + poke);
		if (p[i] != want)
			return false;
	}
	return true;
}

static bool is_fresh(const void *at, struct oracle_want want)
{
	static const uint8_t zero[PAGE];

	if (want.map == ORACLE_FILE_PRIVATE)
		return holds(at, FILE_BASE | want.file, 0);
	return !memcmp(at, zero, PAGE);
}

static bool is_right(const void *at, struct oracle_want want)
{
	if (want.state != ORACLE_FRESH && holds(at, want.base, want.poke))
		return true;
	return want.state != ORACLE_DATA && is_fresh(at, want);
}

/* --- the oracle -------------------------------------------------------------------------- */

static struct oracle_want want_of(struct worker *w, unsigned int i)
{
	struct oracle_page page = { .want_bits = atomic_load_explicit(&w->page[i].want_bits, memory_order_relaxed) };

	return page.want;
}

static void set_want(struct worker *w, unsigned int i, struct oracle_want want)
{
	struct oracle_page page = { .want = want };

	atomic_store_explicit(&w->page[i].want_bits, page.want_bits, memory_order_relaxed);
}

/*
 * To be called when it is done, and for what a tracker may report too early
 * before as well. If the epoch has changed since the operation began, nobody
 * knows in which one it was: then it is one in which a tracker may report it.
 */
static void note(struct worker *w, unsigned int i, bool written)
{
	struct oracle_page page = { .journal_bits = atomic_load_explicit(&w->page[i].journal_bits,
									  memory_order_relaxed) };
	uint32_t epoch = atomic_load(&ctl->epoch), shift = epoch - page.journal.epoch, since = epoch - w->epoch;

	page.journal.written = shift < 16 ? page.journal.written << shift : 0;
	page.journal.disturbed = shift < 16 ? page.journal.disturbed << shift : 0;
	page.journal.epoch = epoch;
	if (written && !since)
		page.journal.written |= 1;
	else
		page.journal.disturbed |= since < 15 ? (2u << since) - 1 : 0xffff;
	atomic_store_explicit(&w->page[i].journal_bits, page.journal_bits, memory_order_relaxed);
}

static void disturb(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++)
		note(w, i, false);
}

/* All of the mappings that a range lies in and next to. */
static void disturb_run(struct worker *w, unsigned int at, unsigned int n)
{
	unsigned int from = at, to = at + n;

	while (from > 0 && want_of(w, from - 1).map != ORACLE_NONE)
		from--;
	while (to < PAGES && want_of(w, to).map != ORACLE_NONE)
		to++;
	disturb(w, from, to - from);
}

/* One touch may make a whole huge page appear. */
static void disturb_huge(struct worker *w, unsigned int i)
{
	if (w->huge && want_of(w, i).state != ORACLE_DATA)
		disturb(w, i / HUGE_PAGES * HUGE_PAGES, HUGE_PAGES);
}

static void *addr(struct worker *w, unsigned int i)
{
	return w->mem + (size_t)i * PAGE;
}

static bool is_writable(struct oracle_want want)
{
	return want.map != ORACLE_NONE && want.prot == ORACLE_RW && !want.guard;
}

static bool all_mapped(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++)
		if (want_of(w, i).map == ORACLE_NONE)
			return false;
	return true;
}

static bool all_writable(struct worker *w, unsigned int at, unsigned int n)
{
	for (unsigned int i = at; i < at + n; i++)
		if (!is_writable(want_of(w, i)))
			return false;
	return true;
}

static bool kernel_has(struct worker *w, unsigned int i)
{
	unsigned char vec;

	return !mincore(addr(w, i), PAGE, &vec);
}

static void found_bad(struct worker *w, unsigned int i, const char *what)
{
	struct oracle_want want = want_of(w, i);

	fprintf(stderr, "torture: process %u window %u page %u (%p): %s; map %u state %u prot %u guard %u\n", conf.proc,
		w->window, i, addr(w, i), what, (unsigned int)want.map, (unsigned int)want.state,
		(unsigned int)want.prot, (unsigned int)want.guard);
	fflush(stderr);
	atomic_fetch_add(&self->bad, 1);
}

/* Reads whatever the protection says. Return: false if nothing is there. */
static bool read_page(int mem_fd, const void *at, void *buf)
{
	return pread(mem_fd, buf, PAGE, (off_t)(uintptr_t)at) == PAGE;
}

/* After a call that has failed half-way: each page is as before or fresh; anything else is wrong. */
static void settle(struct worker *w, unsigned int at, unsigned int n)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	uint8_t buf[PAGE];

	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.map == ORACLE_NONE || want.guard || !read_page(fd, addr(w, i), buf) || is_right(buf, want))
			continue;
		if (!is_fresh(buf, want))
			found_bad(w, i, "neither as before nor fresh");
		want.state = ORACLE_FRESH;
		set_want(w, i, want);
		note(w, i, true);
	}
	close(fd);
}

/* --- operations -------------------------------------------------------------------------- */

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
	struct oracle_want from[MAX_RANGE];

	for (unsigned int i = 0; i < n; i++)
		from[i] = want_of(w, at + i);
	disturb_run(w, at, n);
	disturb_run(w, to, n);
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
		} else if (!kernel_has(w, to + i)) {
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
	struct oracle_want from = want_of(w, at), fresh = from;

	(void)n;
	if (to == at || from.map != ORACLE_ANON)
		return;
	disturb_run(w, at, 1);
	disturb_run(w, to, 1);
	if (mremap(addr(w, at), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, addr(w, to)) ==
	    MAP_FAILED) {
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
	if (!all_mapped(w, at, n))
		return;
	munlock(addr(w, at), (size_t)n * PAGE);
	if (madvise(addr(w, at), (size_t)n * PAGE, MADV_DONTNEED)) {
		settle(w, at, n);
		return;
	}
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (want.guard)
			continue;
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
	bool install = below(w, 2);

	for (unsigned int i = at; i < at + n; i++)
		if (want_of(w, i).map != ORACLE_ANON)
			return;
	if (munlock(addr(w, at), (size_t)n * PAGE) ||
	    madvise(addr(w, at), (size_t)n * PAGE, install ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE)) {
		settle(w, at, n);
		return;
	}
	for (unsigned int i = at; i < at + n; i++) {
		struct oracle_want want = want_of(w, i);

		if (!install && !want.guard)
			continue;
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

/* --- workers ----------------------------------------------------------------------------- */

static bool is_asked(void)
{
	return atomic_load(&paused) || atomic_load(&ctl->request) != atomic_load(&slot->acked);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&leaving)) {
		if (is_asked()) {
			atomic_store(&w->state, WORKER_PARKED);
			while (is_asked() && !atomic_load(&leaving))
				steps_nap_ms(1);
			atomic_store(&w->state, WORKER_RUNS);
			/* Asked again while it was on its way: the one who asks may not have seen it run. */
			continue;
		}
		one_op(w);
		if (!below(w, 100000))
			break;
	}
	atomic_store(&w->state, WORKER_ENDED);
	return NULL;
}

static int start_worker(struct worker *w)
{
	atomic_store(&w->state, WORKER_RUNS);
	return pthread_create(&w->thread, NULL, work, w);
}

/* Wait until none of them works. */
static void await_parked(void)
{
	for (unsigned int i = 0; i < conf.threads; i++)
		while (atomic_load(&worker[i].state) == WORKER_RUNS)
			steps_nap_ms(1);
}

static int setup_window(struct worker *w, unsigned int window)
{
	size_t size = (size_t)ORACLE_SHARED * PAGE;

	*w = (struct worker){
		.window = window,
		.huge = window % 2,
		.rng = conf.seed * 1000003 + conf.proc * 101 + window,
		.epoch = atomic_load(&ctl->epoch),
		.page = self->page[window],
		.shared = self->shared[window],
		.mem = (uint8_t *)oracle_window(window),
		.memfd = memfd_create("torture", MFD_CLOEXEC),
	};
	memset(w->page, 0, sizeof(self->page[window]));
	memset(w->shared, 0, sizeof(self->shared[window]));
	if (w->memfd < 0 || ftruncate(w->memfd, (off_t)size))
		return -errno;
	for (unsigned int i = 0; i < 2; i++) {
		w->alias[i] = mmap(w->mem + (8 + i) * 0x1000000ull, size, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED_NOREPLACE, w->memfd, 0);
		if (w->alias[i] == MAP_FAILED)
			return -errno;
	}
	/* Something to start from. */
	for (unsigned int at = 0; at < PAGES; at += 4 * MAX_RANGE) {
		op_map(w, at, MAX_RANGE);
		op_write(w, at, MAX_RANGE);
	}
	return start_worker(w);
}

/* --- verification ------------------------------------------------------------------------ */

struct result {
	uint64_t checked, bad;
	const void *first;
};

static void judge(struct result *result, struct worker *w, unsigned int i, const void *at, bool right, const char *what)
{
	result->checked++;
	if (right)
		return;
	result->bad++;
	if (!result->first)
		result->first = at;
	if (result->bad <= 10)
		found_bad(w, i, what);
}

static bool faults(const void *at)
{
	uint64_t word;
	struct iovec local = { &word, sizeof(word) }, remote = { (void *)at, sizeof(word) };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0 && errno == EFAULT;
}

/* As /proc/self/maps has it, "---" where nothing is mapped. */
static void read_protections(struct worker *w, char prot[PAGES][4])
{
	uint64_t base = oracle_window(w->window), start, end;
	FILE *f = fopen("/proc/self/maps", "re");
	char perms[5], line[512];

	for (unsigned int i = 0; i < PAGES; i++)
		memcpy(prot[i], "---", 4);
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, perms) != 3)
			continue;
		for (; start < end; start += PAGE)
			if (start >= base && start < base + PAGES * PAGE)
				memcpy(prot[(start - base) / PAGE], perms, 3);
	}
	if (f)
		fclose(f);
}

static void verify_window(struct worker *w, int mem_fd, struct result *result)
{
	static const char *const prots[] = { [ORACLE_RW] = "rw-", [ORACLE_RO] = "r--", [ORACLE_NO] = "---" };
	static char prot[PAGES][4];
	uint8_t buf[PAGE];

	read_protections(w, prot);
	for (unsigned int i = 0; i < PAGES; i++) {
		struct oracle_want want = want_of(w, i);
		void *at = addr(w, i);

		if (want.map != ORACLE_NONE && strcmp(prot[i], prots[want.prot])) {
			judge(result, w, i, at, false, "wrong protection");
			continue;
		}

		if (want.map == ORACLE_NONE)
			judge(result, w, i, at, !kernel_has(w, i), "mapped, but must not be");
		else if (want.guard)
			judge(result, w, i, at, faults(at), "no guard page any more");
		else
			judge(result, w, i, at, read_page(mem_fd, at, buf) && is_right(buf, want), "wrong content");
	}
	for (unsigned int i = 0; i < ORACLE_SHARED; i++) {
		struct oracle_want want = w->shared[i];

		for (unsigned int way = 0; way < 2; way++) {
			void *at = w->alias[way] + (size_t)i * PAGE;

			judge(result, w, i, at, is_right(at, want), "wrong shared content");
		}
		judge(result, w, i, w->alias[0] + (size_t)i * PAGE,
		      pread(w->memfd, buf, PAGE, (off_t)i * PAGE) == PAGE && is_right(buf, want), "wrong in the memfd");
	}
}

static void verify(void)
{
	int mem_fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	struct result result = { 0 };
	uint64_t others = atomic_exchange(&self->bad, 0);

	for (unsigned int i = 0; i < conf.threads; i++)
		verify_window(&worker[i], mem_fd, &result);
	close(mem_fd);
	atomic_store(&self->bad, 0);
	atomic_fetch_add(&self->compared, result.checked);
	control_report(slot, result.checked, result.bad + others, 0, result.first);
}

/* --- processes --------------------------------------------------------------------------- */

static int open_data(void)
{
	uint64_t buf[WORDS];

	conf.data_fd = open(conf.data_path, O_RDWR | O_CLOEXEC | O_CREAT, 0600);
	if (conf.data_fd < 0)
		return -errno;
	if (!conf.proc)
		for (unsigned int i = 0; i < ORACLE_FILE; i++) {
			fill(buf, FILE_BASE | i, 0);
			if (pwrite(conf.data_fd, buf, PAGE, (off_t)i * PAGE) != PAGE)
				return -EIO;
		}
	conf.direct_fd = open(conf.data_path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	return 0;
}

static int setup_process(void)
{
	slot = control_take_slot(ctl, conf.proc);
	/* Born too late to be told. */
	if (atomic_load(&ctl->op) == CONTROL_QUIT) {
		atomic_store(&slot->state, CONTROL_GONE);
		_exit(0);
	}
	self = &oracle->proc[conf.proc];
	atomic_store(&self->born, atomic_load(&ctl->epoch));
	atomic_store(&self->pid, (uint32_t)getpid());
	for (unsigned int i = 0; i < conf.threads; i++) {
		int err = setup_window(&worker[i], i);

		if (err)
			return err;
	}
	atomic_store(&slot->state, CONTROL_RUNNING);
	return 0;
}

/* The parent's windows are not the child's business. */
static void drop_windows(void)
{
	for (unsigned int i = 0; i < conf.threads; i++) {
		munmap((void *)oracle_window(i), ORACLE_STRIDE);
		if (worker[i].mem)
			close(worker[i].memfd);
	}
}

static void serve(void);

static int start_child(unsigned int proc)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid) {
		child_pid[proc] = pid;
		return 0;
	}
	conf.proc = proc;
	atomic_store(&leaving, false);
	memset(child_pid, 0, sizeof(child_pid));
	drop_windows();
	if (setup_process())
		_exit(1);
	serve();
	_exit(0);
}

static void end_workers(void)
{
	atomic_store(&leaving, true);
	for (unsigned int i = 0; i < conf.threads; i++)
		pthread_join(worker[i].thread, NULL);
}

/* Go, or become another process of the same pid; the parent sees to the first. */
static void change_life(uint64_t dice)
{
	char proc[16];

	/* What a round under way has of it from now on is not to be judged. */
	atomic_store(&self->born, atomic_load(&ctl->epoch));
	atomic_store(&slot->state, CONTROL_GONE);
	end_workers();
	if (dice % 2)
		_exit(0);
	snprintf(proc, sizeof(proc), "%u", conf.proc);
	setenv("TORTURE_PROC", proc, 1);
	execv("/proc/self/exe", conf.argv);
	_exit(1);
}

static void tend_children(void)
{
	for (unsigned int i = 1; i < conf.processes && !conf.proc; i++) {
		int status;

		if (!child_pid[i] || waitpid(child_pid[i], &status, WNOHANG) != child_pid[i])
			continue;
		if (status) {
			fprintf(stderr, "torture: process %u ended with status %x\n", i, (unsigned int)status);
			fflush(stderr);
			atomic_fetch_add(&self->bad, 1);
		}
		child_pid[i] = 0;
		if (start_child(i))
			atomic_fetch_add(&self->bad, 1);
	}
}

static void tend_workers(void)
{
	for (unsigned int i = 0; i < conf.threads; i++) {
		if (atomic_load(&worker[i].state) != WORKER_ENDED)
			continue;
		pthread_join(worker[i].thread, NULL);
		if (start_worker(&worker[i]))
			atomic_fetch_add(&self->bad, 1);
	}
}

static void obey(uint32_t request)
{
	enum control_op op = atomic_load(&ctl->op);

	await_parked();
	if (op == CONTROL_PAUSE || op == CONTROL_RESUME)
		atomic_store(&paused, op == CONTROL_PAUSE);
	if (op == CONTROL_VERIFY)
		verify();
	if (op == CONTROL_QUIT)
		atomic_store(&slot->state, CONTROL_GONE);
	else
		atomic_store(&slot->state, atomic_load(&paused) ? CONTROL_PAUSED : CONTROL_RUNNING);
	atomic_store(&slot->acked, request);
	if (op == CONTROL_QUIT) {
		/* Our children are told the same. */
		for (unsigned int i = 1; i < conf.processes; i++)
			if (child_pid[i])
				waitpid(child_pid[i], NULL, 0);
		_exit(0);
	}
}

static void serve(void)
{
	uint64_t dice = mix(conf.seed + conf.proc + (uint64_t)getpid());

	for (;;) {
		uint32_t request = atomic_load(&ctl->request);

		control_beat(slot, atomic_load(&paused));
		atomic_store(&slot->writes, atomic_load(&self->ops));
		if (request != atomic_load(&slot->acked)) {
			obey(request);
			continue;
		}
		steps_nap_ms(1);
		if (atomic_load(&paused))
			continue;
		tend_workers();
		tend_children();
		dice = mix(dice);
		if (conf.proc && dice % 3000 < 2)
			change_life(dice / 3000);
	}
}

static int map_oracle(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*oracle)))
		return -errno;
	oracle = mmap(NULL, sizeof(*oracle), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (oracle == MAP_FAILED)
		return -errno;
	oracle->magic = ORACLE_MAGIC;
	return 0;
}

static int parse(int argc, char **argv, const char **ret_control, const char **ret_oracle)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' }, { "oracle", required_argument, NULL, 'o' },
		{ "data", required_argument, NULL, 'd' },    { "seed", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' }, { "processes", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*ret_control = *ret_oracle = NULL;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			*ret_control = optarg;
		else if (c == 'o')
			*ret_oracle = optarg;
		else if (c == 'd')
			conf.data_path = optarg;
		else if (c == 's')
			conf.seed = strtoull(optarg, NULL, 0);
		else if (c == 't')
			conf.threads = (unsigned int)atoi(optarg);
		else if (c == 'p')
			conf.processes = (unsigned int)atoi(optarg);
		else
			return -1;
	}
	if (optind != argc || !*ret_control || !*ret_oracle || !conf.data_path || !conf.threads ||
	    conf.threads > ORACLE_WINDOWS || !conf.processes || conf.processes > ORACLE_PROCS)
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	const char *control_path, *oracle_path, *proc = getenv("TORTURE_PROC");
	int err;

	if (parse(argc, argv, &control_path, &oracle_path)) {
		fprintf(stderr, "usage: torture --control FILE --oracle FILE --data FILE --seed N [--threads N] "
				"[--processes N]\n");
		return 2;
	}
	conf.argv = argv;
	conf.proc = proc ? (unsigned int)atoi(proc) : 0;
	err = control_map(control_path, false, &ctl) || map_oracle(oracle_path) || open_data();
	for (unsigned int i = 1; i < conf.processes && !conf.proc && !err; i++)
		err = start_child(i);
	if (!err)
		err = setup_process();
	if (err) {
		fprintf(stderr, "torture: cannot be set up: %d\n", err);
		return 1;
	}
	serve();
}
