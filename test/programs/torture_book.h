/* SPDX-License-Identifier: GPL-2.0-only */
/* torture: what all of it needs, patterns, and how the oracle (oracle.h) is kept. */
#ifndef WPTRACK_TEST_TORTURE_BOOK_H
#define WPTRACK_TEST_TORTURE_BOOK_H

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
	int direct_fd; /* the same with O_DIRECT, -1: there is none */
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

/*
 * Before a call that takes content away: a round may be made when it is gone and
 * what comes after the call has not been entered yet. What was wanted goes to
 * @was, unless that is NULL.
 */
static void doubt(struct worker *w, unsigned int at, unsigned int n, struct oracle_want *was)
{
	for (unsigned int i = 0; i < n; i++) {
		struct oracle_want want = want_of(w, at + i);

		if (was)
			was[i] = want;
		if (want.state != ORACLE_DATA)
			continue;
		want.state = ORACLE_MAYBE;
		set_want(w, at + i, want);
	}
}

/* The call has failed, or left this alone. */
static void trust(struct worker *w, unsigned int at, unsigned int n, const struct oracle_want *was)
{
	for (unsigned int i = 0; i < n; i++)
		set_want(w, at + i, was[i]);
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

#endif
