// SPDX-License-Identifier: GPL-2.0-only
/*
 * sparse --control FILE --kind closed|open|shared [--tib N] [--spots N] [--child]
 *
 * A process that reserves tens of TiB and uses a few pages of them, as JVMs, Go
 * and WebAssembly runtimes do. The reservation is cut into equal strides with
 * one used page, a spot, somewhere in each.
 *
 *   closed   private, PROT_NONE; spots are made accessible one by one
 *   open     private, NORESERVE and accessible as a whole: one mapping
 *   shared   shared anonymous, accessible as a whole
 *
 * A spot's number says what a step does with it (enum use). Half of them are
 * written once and never again. Shared memory is written by its maker; a child
 * knows of the spots nobody writes, and writes those of the last use.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "steps.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

#define PAGE	    4096ul
#define WORDS	    (PAGE / sizeof(uint64_t))
#define TIB	    (1ul << 40)
#define USES	    16u
#define STEP_PAGES  8 /* own tables, stack and heap that a step dirties besides its spots */

enum kind { CLOSED, OPEN, SHARED };

/* What a step does to a spot: numbers modulo USES from each one up to the next. */
enum use {
	STEADY = 0,	/* written at the start, then left alone */
	WRITTEN = 8,	/* written in each step */
	TOGGLED = 10,	/* written and made inaccessible, accessible again in the next step */
	FLIPPED = 11,	/* a guard page in every other step */
	DROPPED = 12,	/* given back, written in the next step */
	GUARDED = 13,	/* a guard page from the start on */
	SHUT = 14,	/* written at the start, inaccessible since */
	OTHERS = 15,	/* written by the child, if there is one; else as WRITTEN */
};

/* How a spot must look to the process. */
enum state { ACCESSIBLE, INACCESSIBLE, GUARD };

struct spot {
	char *page;
	uint64_t seed; /* what is in it; 0: zeroes */
	enum state state;
};

static struct {
	const char *control;
	enum kind kind;
	unsigned long tib, spots;
	bool child;
} opt = { .kind = CLOSED, .tib = 64, .spots = 4000 };

static struct control *ctl;
static struct control_slot *slot;
static unsigned int slot_nr, step_nr;
static struct spot *spots;
static char *area;
static uint64_t last_seed;
static bool have_guards;

static uint64_t word(uint64_t seed, size_t i)
{
	return seed ? seed * 0x9e3779b97f4a7c15ull + i : 0;
}

/* A different one for each write of each process. */
static uint64_t next_seed(void)
{
	return ((uint64_t)slot_nr + 1) << 48 | ++last_seed;
}

static enum use use_of(unsigned int nr)
{
	unsigned int n = nr % USES;

	return n < WRITTEN ? STEADY : n < TOGGLED ? WRITTEN : (enum use)n;
}

static void write_spot(struct spot *s)
{
	uint64_t *p = (uint64_t *)s->page;

	s->seed = next_seed();
	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(s->seed, i);
	atomic_fetch_add(&slot->writes, 1);
	atomic_fetch_add(&slot->dirtied[atomic_load(&ctl->epoch) % CONTROL_EPOCHS], 1);
}

/* Can the page be read? It is not touched by ourselves, so nothing has to be caught. */
static bool is_readable(const char *page)
{
	char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)page, .iov_len = 1 };

	return syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0) == 1;
}

static int protect(struct spot *s, bool accessible)
{
	if (mprotect(s->page, PAGE, accessible ? PROT_READ | PROT_WRITE : PROT_NONE))
		return -errno;
	s->state = accessible ? ACCESSIBLE : INACCESSIBLE;
	return 0;
}

/* Installing a guard gives the page's content back. */
static int set_guard(struct spot *s, bool guard)
{
	if (madvise(s->page, PAGE, guard ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE))
		return -errno;
	s->state = guard ? GUARD : ACCESSIBLE;
	if (guard && opt.kind != SHARED)
		s->seed = 0;
	return 0;
}

static int give_back(struct spot *s)
{
	if (madvise(s->page, PAGE, opt.kind == SHARED ? MADV_REMOVE : MADV_DONTNEED))
		return -errno;
	s->seed = 0;
	return 0;
}

/* Does this process write the spot's memory? */
static bool is_mine(enum use use)
{
	if (opt.kind != SHARED)
		return true;
	return slot_nr ? use == OTHERS : use != OTHERS || !opt.child;
}

/* Does this process know what is in it? */
static bool is_known(enum use use)
{
	return is_mine(use) || use == STEADY || use == GUARDED || use == SHUT;
}

static int step_spot(unsigned int nr)
{
	struct spot *s = &spots[nr];
	enum use use = use_of(nr);
	bool odd = step_nr % 2;

	if (!is_mine(use))
		return 0;
	switch (use) {
	case WRITTEN:
	case OTHERS:
		write_spot(s);
		return 0;
	case TOGGLED:
		if (!odd)
			return protect(s, true);
		write_spot(s);
		return protect(s, false);
	case FLIPPED:
		if (!have_guards || odd)
			return have_guards ? set_guard(s, true) : 0;
		if (set_guard(s, false))
			return -errno;
		write_spot(s);
		return 0;
	case DROPPED:
		if (odd)
			return give_back(s);
		write_spot(s);
		return 0;
	default:
		return 0;
	}
}

static bool holds(const struct spot *s, uint64_t seed)
{
	const uint64_t *p = (const uint64_t *)s->page;

	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != word(seed, i))
			return false;
	return true;
}

/* An inaccessible page is opened to look into it. */
static bool is_right(struct spot *s)
{
	bool right;

	if (s->state == ACCESSIBLE)
		return holds(s, s->seed);
	if (is_readable(s->page))
		return false;
	if (s->state == GUARD)
		return true;
	if (mprotect(s->page, PAGE, PROT_READ))
		return false;
	right = holds(s, s->seed);
	return !mprotect(s->page, PAGE, PROT_NONE) && right;
}

/* Between the spots there is nothing: inaccessible, or zeroes. */
static bool neighbour_is_right(const struct spot *s)
{
	const char *page = s->page + PAGE;

	if (opt.kind == CLOSED)
		return !is_readable(page);
	/* Reading would populate a page of shared memory. */
	return opt.kind == SHARED || (!*page && !page[PAGE - 1]);
}

static void verify(struct control_slot *s)
{
	uint64_t checked = 0, bad = 0;
	const void *first = NULL;

	for (unsigned int nr = 0; nr < opt.spots; nr++) {
		if (!is_known(use_of(nr)))
			continue;
		checked++;
		if (is_right(&spots[nr]) && (nr % 8 || neighbour_is_right(&spots[nr])))
			continue;
		if (!bad++)
			first = spots[nr].page;
		fprintf(stderr, "sparse: slot %u step %u: spot %u (use %u, state %d) at %p is wrong\n", slot_nr, step_nr,
			nr, (unsigned int)use_of(nr), (int)spots[nr].state, (void *)spots[nr].page);
	}
	control_report(s, checked, bad, 0, first);
}

static int step(void);

static const struct steps_ops ops = { .step = step, .verify = verify };

static int fork_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid)
		return 0;
	slot_nr = 1;
	slot = control_take_slot(ctl, slot_nr);
	steps_serve(ctl, slot, &ops);
	_exit(0);
}

static int step(void)
{
	step_nr++;
	atomic_fetch_add(&slot->dirtied[atomic_load(&ctl->epoch) % CONTROL_EPOCHS],
			 STEP_PAGES + (uint32_t)(opt.spots * sizeof(*spots) / PAGE));
	for (unsigned int nr = 0; nr < opt.spots; nr++) {
		int err = step_spot(nr);

		if (err) {
			fprintf(stderr, "sparse: slot %u step %u: spot %u: %s\n", slot_nr, step_nr, nr, strerror(-err));
			return err;
		}
	}
	return 0;
}

static int setup_spot(unsigned int nr)
{
	unsigned long stride = opt.tib * TIB / opt.spots / PAGE;
	struct spot *s = &spots[nr];

	/* Somewhere in the first half of its stride, so that there is a hole behind it. */
	s->page = area + (nr * stride + (nr * 2654435761ul >> 3) % (stride / 2)) * PAGE;
	if (opt.kind == CLOSED && protect(s, true))
		return -errno;
	if (use_of(nr) == GUARDED)
		return have_guards ? set_guard(s, true) : 0;
	write_spot(s);
	return use_of(nr) == SHUT ? protect(s, false) : 0;
}

static int setup(void)
{
	int share = opt.kind == SHARED ? MAP_SHARED : MAP_PRIVATE;
	int prot = opt.kind == CLOSED ? PROT_NONE : PROT_READ | PROT_WRITE;

	spots = calloc(opt.spots, sizeof(*spots));
	area = mmap(NULL, opt.tib * TIB, prot, share | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!spots || area == MAP_FAILED)
		return -errno;
	/* Page by page on purpose: a huge page would fill what is to stay empty. */
	if (madvise(area, opt.tib * TIB, MADV_NOHUGEPAGE) && errno != EINVAL)
		return -errno;
	have_guards = !madvise(area, PAGE, MADV_GUARD_INSTALL) && !madvise(area, PAGE, MADV_GUARD_REMOVE);
	for (unsigned int nr = 0; nr < opt.spots; nr++) {
		int err = setup_spot(nr);

		if (err)
			return err;
	}
	return opt.child ? fork_child() : 0;
}

static int parse_kind(const char *name)
{
	static const char *const names[] = { [CLOSED] = "closed", [OPEN] = "open", [SHARED] = "shared" };

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -EINVAL;
}

static int parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' }, { "kind", required_argument, NULL, 'k' },
		{ "tib", required_argument, NULL, 't' },     { "spots", required_argument, NULL, 's' },
		{ "child", no_argument, NULL, 'f' },	     { NULL, 0, NULL, 0 },
	};
	int o, kind = CLOSED;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'c')
			opt.control = optarg;
		else if (o == 'k')
			kind = parse_kind(optarg);
		else if (o == 't')
			opt.tib = strtoul(optarg, NULL, 0);
		else if (o == 's')
			opt.spots = strtoul(optarg, NULL, 0);
		else if (o == 'f')
			opt.child = true;
		else
			return -EINVAL;
	}
	if (kind < 0 || !opt.control || !opt.tib || opt.tib > 127 || opt.spots < USES || opt.spots > 20000)
		return -EINVAL;
	opt.kind = (enum kind)kind;
	return 0;
}

int main(int argc, char **argv)
{
	int err = parse(argc, argv);

	if (err) {
		fprintf(stderr, "usage: sparse --control FILE --kind closed|open|shared [--tib N] [--spots N] [--child]\n");
		return 2;
	}
	err = control_map(opt.control, false, &ctl);
	if (!err) {
		slot = control_take_slot(ctl, 0);
		err = setup();
	}
	if (err) {
		fprintf(stderr, "sparse: %s\n", strerror(-err));
		return 1;
	}
	steps_serve(ctl, slot, &ops);
	_exit(0);
}
