// SPDX-License-Identifier: GPL-2.0-only
/*
 * changer --control FILE [--userfaultfd | --guest]: mappings that become others and come back. Each step does all at
 * once what a program can do to its address space between two calls of who looks at it: odd steps take things away,
 * even ones bring them back.
 *
 * What each page must hold stands in FILE.book, which is mapped shared and so in no image: a page that comes back
 * stale can't bring along what was written down at its time. FILE.data is what is mapped as a file. On demand the
 * program has a userfaultfd of its own between odd and even steps, or leaves all to a guest: a process outside of its
 * tree that is in its memory, and goes on while the program is stopped.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "steps.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE	  4096ul
#define WORDS	  (PAGE / sizeof(uint64_t))
#define PAGES	  8u /* of a region */
#define MAX_ROOMS 32u
/* A region has that much address space for itself, with nothing next to it. */
#define ROOM	  (2ul << 20)

enum state {
	SHUT = 1, /* can't be read now */
	GONE = 2, /* nothing is mapped, or something else than the region's memory */
};

struct page_note {
	uint64_t seed; /* 0: zeroes */
	uint32_t state;
};

struct region {
	char *at;
	void (*odd)(struct region *r);
	void (*even)(struct region *r);
	struct page_note *page;
};

static struct control_slot *slot;
static uint64_t *next_seed;
static int data_fd;
static pid_t child;
static bool with_uffd, with_guest;
static int uffd = -1;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t word(uint64_t seed, size_t i)
{
	return seed ? seed * 0xd1342543de82ef95ull + i : 0;
}

static void write_page(struct region *r, unsigned int nr)
{
	uint64_t *p = (uint64_t *)(r->at + nr * PAGE), seed = ++*next_seed;

	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(seed, i);
	r->page[nr] = (struct page_note){ .seed = seed };
	atomic_fetch_add(&slot->writes, 1);
}

static void write_pages(struct region *r, unsigned int from, unsigned int to)
{
	while (from < to)
		write_page(r, from++);
}

static void note(struct region *r, unsigned int from, unsigned int to, uint32_t state)
{
	while (from < to)
		r->page[from++] = (struct page_note){ .state = state };
}

static void map(struct region *r, unsigned int from, unsigned int to, int flags, int fd)
{
	if (mmap(r->at + from * PAGE, (to - from) * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		die("mmap");
}

static void map_anon(struct region *r, unsigned int from, unsigned int to)
{
	map(r, from, to, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	note(r, from, to, 0);
}

static void unmap(struct region *r, unsigned int from, unsigned int to)
{
	if (munmap(r->at + from * PAGE, (to - from) * PAGE))
		die("munmap");
	note(r, from, to, GONE);
}

static void write_some(struct region *r)
{
	write_pages(r, 2, 4);
}

/*
 * Two pages, of which the second is away every other step: when it is back the kernel merges the two mappings, and
 * neither is registered any more. The first one is written then. Nothing else is mapped in the region.
 */
static void split(struct region *r)
{
	if (mremap(r->at + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r->at + PAGES * PAGE) == MAP_FAILED)
		die("mremap");
	r->page[PAGES] = r->page[1];
	note(r, 1, 2, GONE);
}

static void join(struct region *r)
{
	if (mremap(r->at + PAGES * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r->at + PAGE) == MAP_FAILED)
		die("mremap");
	r->page[1] = r->page[PAGES];
	note(r, PAGES, PAGES + 1, GONE);
	write_page(r, 0);
}

static void setup_pair(struct region *r)
{
	unmap(r, 2, PAGES);
}

static void replace(struct region *r)
{
	map_anon(r, 0, PAGES);
	write_page(r, PAGES - 1);
}

static void replace_middle(struct region *r)
{
	map_anon(r, 3, 5);
	write_page(r, 3);
}

static void replace_by_file(struct region *r)
{
	map(r, 0, PAGES, MAP_PRIVATE, data_fd);
	write_pages(r, 0, 2);
	note(r, 2, PAGES, GONE); /* the file's, which nobody writes */
}

static void replace_by_shared(struct region *r)
{
	map(r, 0, PAGES, MAP_SHARED | MAP_ANONYMOUS, -1);
	note(r, 0, PAGES, 0);
	write_page(r, 1);
}

static void renew(struct region *r)
{
	map_anon(r, 0, PAGES);
	write_pages(r, 0, PAGES / 2);
}

static void take_away(struct region *r)
{
	unmap(r, 0, PAGES);
}

static void take_first(struct region *r)
{
	unmap(r, 0, 1);
}

static void give_first(struct region *r)
{
	map_anon(r, 0, 1);
	write_page(r, 0);
}

static void drop(struct region *r)
{
	if (madvise(r->at, PAGES * PAGE, MADV_DONTNEED))
		die("madvise");
	note(r, 0, PAGES, 0);
	write_page(r, 4);
}

static void protect(struct region *r, int prot, uint32_t state)
{
	if (mprotect(r->at, PAGES * PAGE, prot))
		die("mprotect");
	for (unsigned int i = 0; i < PAGES; i++)
		r->page[i].state = state;
}

/* CRIU itself makes what can't be read readable for a while, and has nobody else do so meanwhile. */
static void shut(struct region *r)
{
	write_some(r);
	if (with_guest)
		return;
	protect(r, PROT_NONE, SHUT);
}

static void open_up(struct region *r)
{
	if (!with_guest)
		protect(r, PROT_READ | PROT_WRITE, 0);
	write_page(r, 0);
}

/* Somewhere else, and something new at the old place. */
static void move(struct region *r)
{
	if (mremap(r->at, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r->at + PAGES * PAGE) == MAP_FAILED)
		die("mremap");
	memcpy(r->page + PAGES, r->page, PAGES * sizeof(*r->page));
	map_anon(r, 0, PAGES);
	write_pages(r, PAGES, 2 * PAGES);
	write_page(r, 2);
}

static void move_back(struct region *r)
{
	if (mremap(r->at + PAGES * PAGE, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, r->at) == MAP_FAILED)
		die("mremap");
	memcpy(r->page, r->page + PAGES, PAGES * sizeof(*r->page));
	note(r, PAGES, 2 * PAGES, GONE);
	write_some(r);
}

static void grow(struct region *r)
{
	map_anon(r, PAGES, PAGES + 2);
	write_pages(r, PAGES - 1, PAGES + 1);
}

static void shrink(struct region *r)
{
	unmap(r, PAGES, PAGES + 2);
}

/* A process more, with memory of its own, that has nothing to do. */
static void fork_child(struct region *r)
{
	write_some(r);
	child = fork();
	if (child < 0)
		die("fork");
	if (child)
		return;
	memset(r->at, 1, PAGES * PAGE);
	for (;;)
		pause();
}

/* Nobody waits for it: it may be stopped, and then its end comes later. */
static void end_child(struct region *r)
{
	if (kill(child, SIGKILL))
		die("kill");
	for (int i = 0; i < 100 && !kill(child, 0); i++)
		steps_nap_ms(1);
	write_some(r);
}

static const struct {
	void (*odd)(struct region *r);
	void (*even)(struct region *r);
	void (*setup)(struct region *r);
} kinds[] = {
	{ split, join, setup_pair },
	{ split, join, setup_pair },
	{ write_some, write_some, NULL },
	{ replace, replace, NULL },
	{ replace_middle, replace_middle, NULL },
	{ replace_by_file, renew, NULL },
	{ replace_by_shared, renew, NULL },
	{ take_away, renew, NULL },
	{ take_first, give_first, NULL },
	{ drop, write_some, NULL },
	{ shut, open_up, NULL },
	{ move, move_back, NULL },
	{ grow, shrink, NULL },
	{ fork_child, end_child, NULL },
};

#define NR_REGIONS (sizeof(kinds) / sizeof(kinds[0]))

#define SPACE	   ((NR_REGIONS + 1) * ROOM)

static struct region regions[NR_REGIONS];
static unsigned int step_nr;

static int toggle_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };

	if (uffd >= 0) {
		close(uffd);
		uffd = -1;
		return 0;
	}
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	/* One that has not been enabled can't register anything; without a feature it would look as if it had not. */
	api.features = UFFD_FEATURE_THREAD_ID;
	return uffd < 0 || ioctl(uffd, UFFDIO_API, &api) ? -errno : 0;
}

static int step(void)
{
	/* From behind, against the direction in which they are looked at. */
	step_nr++;
	for (unsigned int i = NR_REGIONS; i-- > 0;)
		(step_nr & 1 ? regions[i].odd : regions[i].even)(&regions[i]);
	return with_uffd ? toggle_uffd() : 0;
}

static bool is_right(const struct region *r, unsigned int nr)
{
	const uint64_t *p = (const uint64_t *)(r->at + nr * PAGE);

	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != word(r->page[nr].seed, i))
			return false;
	return true;
}

static void verify(struct control_slot *s)
{
	uint64_t checked = 0, bad = 0;
	const void *first = NULL;

	for (unsigned int i = 0; i < NR_REGIONS; i++) {
		for (unsigned int nr = 0; nr < MAX_ROOMS; nr++) {
			if (regions[i].page[nr].state)
				continue;
			checked++;
			if (is_right(&regions[i], nr))
				continue;
			fprintf(stderr, "changer: step %u: page %u of region %u is wrong\n", step_nr, nr, i);
			if (!bad++)
				first = regions[i].at + nr * PAGE;
		}
	}
	control_report(s, checked, bad, 0, first);
}

static void *map_beside(const char *control, const char *suffix, size_t size, int *ret_fd)
{
	char path[4096];
	void *p;

	snprintf(path, sizeof(path), "%s.%s", control, suffix);
	*ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*ret_fd < 0 || ftruncate(*ret_fd, size))
		die(path);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void setup(const char *control)
{
	struct page_note *book;
	char *room;
	int fd;

	next_seed = map_beside(control, "book", PAGE + NR_REGIONS * MAX_ROOMS * sizeof(*book), &fd);
	book = (struct page_note *)((char *)next_seed + PAGE);
	munmap(map_beside(control, "data", PAGES * PAGE, &data_fd), PAGES * PAGE);
	/* The space above stays free for who maps something where the kernel wants it, such as CRIU. */
	room = mmap(NULL, 2 * SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED || munmap(room, 2 * SPACE))
		die("mmap");

	for (unsigned int i = 0; i < NR_REGIONS; i++) {
		struct region *r = &regions[i];

		*r = (struct region){ room + i * ROOM, kinds[i].odd, kinds[i].even, book + i * MAX_ROOMS };
		note(r, 0, MAX_ROOMS, GONE);
		map_anon(r, 0, PAGES);
		write_pages(r, 0, PAGES);
		if (kinds[i].setup)
			kinds[i].setup(r);
	}
}

static const struct steps_ops ops = { step, verify };

static int serve(void *ctl)
{
	steps_serve(ctl, slot, &ops);
	if (child)
		kill(child, SIGKILL);
	return 0;
}

/* Whoever has started this program is its parent, too, and waits for it. */
static void leave_it_to_a_guest(struct control *ctl)
{
	const size_t size = 64 * PAGE;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED || clone(serve, stack + size, CLONE_VM | CLONE_PARENT | SIGCHLD, ctl) < 0)
		die("clone");
	while (atomic_load(&slot->state) != CONTROL_GONE)
		steps_nap_ms(1);
}

int main(int argc, char **argv)
{
	struct control *ctl;

	with_uffd = argc == 4 && !strcmp(argv[3], "--userfaultfd");
	with_guest = argc == 4 && !strcmp(argv[3], "--guest");
	if (argc != 3 + (with_uffd || with_guest) || strcmp(argv[1], "--control")) {
		fprintf(stderr, "usage: %s --control FILE [--userfaultfd | --guest]\n", argv[0]);
		return 2;
	}
	if (control_map(argv[2], false, &ctl))
		die(argv[2]);
	signal(SIGCHLD, SIG_IGN);
	slot = control_take_slot(ctl, 0);
	setup(argv[2]);
	if (with_guest)
		leave_it_to_a_guest(ctl);
	else
		serve(ctl);
	return 0;
}
