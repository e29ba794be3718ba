// SPDX-License-Identifier: GPL-2.0-only
/*
 * layout --control FILE locked|inherited|few|vast: mappings that are easily restored as something else.
 *
 * locked	locked after it has got guard pages
 * inherited	four mappings, which the parent has closed and its child has not
 * few		no huge pages are wanted, and one page of each such is used
 * vast		one mapping of 12 TiB, which a child has, too
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "steps.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define PAGE	4096ull
#define HUGE	(2ull << 20)
#define VAST	(12ull << 40)
#define PAGES	16u /* of each mapping, or of these in use */
#define AREAS	4u
#define GUARD	4u /* the first of them */
#define GUARDS	4u

static struct {
	char *at[AREAS];
	size_t size, stride; /* from one page in use to the next */
	unsigned int areas;
	bool guarded, closed;
} the = { .size = PAGES * PAGE, .areas = 1 };

static struct control *ctl;
static struct control_slot *slot;

static bool is_guard(unsigned int page)
{
	return the.guarded && page >= GUARD && page < GUARD + GUARDS;
}

static char *page_of(unsigned int area, unsigned int page)
{
	return the.at[area] + page * the.stride;
}

static bool is_accessible(char *page)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { page, 1 };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

static bool is_right(unsigned int area, unsigned int page)
{
	const uint64_t *p = (const uint64_t *)page_of(area, page);

	if (is_guard(page) || the.closed)
		return !is_accessible(page_of(area, page));
	if (!is_accessible(page_of(area, page)))
		return false;
	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		if (p[w] != area * 1000 + page + 1)
			return false;
	return true;
}

static void verify(struct control_slot *s)
{
	const void *first = NULL;
	uint64_t bad = 0;

	for (unsigned int area = 0; area < the.areas; area++) {
		for (unsigned int page = 0; page < PAGES; page++) {
			if (is_right(area, page))
				continue;
			bad++;
			if (!first)
				first = page_of(area, page);
		}
	}
	control_report(s, (uint64_t)the.areas * PAGES, bad, 0, first);
}

static int map(void)
{
	for (unsigned int area = 0; area < the.areas; area++) {
		/* With a gap before the next, so that each stays one of its own. At a multiple of HUGE. */
		char *at = mmap(NULL, the.size + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (at == MAP_FAILED)
			return -errno;
		munmap(at, the.size + 2 * HUGE);
		at = (char *)(((uintptr_t)at + HUGE - 1) / HUGE * HUGE);
		at = mmap(at, the.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		if (at == MAP_FAILED)
			return -errno;
		the.at[area] = at;
		if (the.stride == HUGE && madvise(at, the.size, MADV_NOHUGEPAGE) && errno != EINVAL)
			return -errno;
		for (unsigned int page = 0; page < PAGES; page++)
			for (size_t w = 0; w < PAGE / sizeof(uint64_t); w++)
				((uint64_t *)page_of(area, page))[w] = area * 1000 + page + 1;
	}
	return 0;
}

static int lock(void)
{
	char *at = page_of(0, GUARD);

	if (madvise(at, GUARDS * PAGE, MADV_GUARD_INSTALL)) {
		if (errno != EINVAL)
			return -errno;
		the.guarded = false;
		puts("this kernel has no guard pages");
	}
	/* It can't populate them, and says so when all is locked. */
	(void)!mlock(the.at[0], the.size);
	return 0;
}

/* Returns the child's pid, 0 in the child, or -errno. */
static int fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		slot = control_take_slot(ctl, 1);
	return pid < 0 ? -errno : pid;
}

/* The child may read one, write one, run one, and do all with the last. */
static int inherit(void)
{
	static const int prot[AREAS] = { PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC };
	int pid = fork_child();

	if (pid < 0)
		return pid;
	the.closed = pid != 0;
	for (unsigned int area = 0; area < the.areas; area++)
		if (mprotect(the.at[area], the.size, pid ? PROT_NONE : prot[area]))
			return -errno;
	return 0;
}

static int step(void)
{
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	const char *kind = argc == 4 ? argv[3] : "";
	int err;

	if (strcmp(kind, "locked") && strcmp(kind, "inherited") && strcmp(kind, "few") && strcmp(kind, "vast")) {
		fprintf(stderr, "usage: layout --control FILE locked|inherited|few|vast\n");
		return 2;
	}
	if (*kind == 'f' || *kind == 'v')
		the.size = *kind == 'f' ? PAGES * HUGE : VAST;
	the.stride = the.size / PAGES;
	if (*kind == 'i')
		the.areas = AREAS;
	the.guarded = *kind == 'l';
	err = control_map(argv[2], false, &ctl);
	if (!err) {
		slot = control_take_slot(ctl, 0);
		err = map();
	}
	if (!err && *kind == 'l')
		err = lock();
	if (!err && *kind == 'i')
		err = inherit();
	if (!err && *kind == 'v')
		err = fork_child();
	if (err < 0) {
		fprintf(stderr, "layout: %s\n", strerror(-err));
		return 1;
	}
	fflush(stdout);
	steps_serve(ctl, slot, &ops);
	return 0;
}
