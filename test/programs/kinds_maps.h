/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: one for each kind of private anonymous mapping, and the kernel's own. */
#ifndef WPTRACK_TEST_KINDS_MAPS_H
#define WPTRACK_TEST_KINDS_MAPS_H

#include <sys/prctl.h>

#include "kinds_book.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

#define RW	  (PROT_READ | PROT_WRITE)
#define GAP_PAGES 16u
#define PAGES	  64u /* of an ordinary case, */
#define FILLED	  48u /* written at the start; the rest are holes */
#define FIRST	  40u /* written in step 1 */
#define SECOND	  41u /* written in step 2, */
#define FRESH	  50u /* as is this hole */
#define TIB	  (1ul << 40)
#define SPOTS	  16u

static const char *control_path;
static char *stack_top;

/*
 * Address space that nothing else takes, aligned as a huge page, with a gap on either side.
 * Small mappings have to go into one: the kernel might put them into a hole that a case needs.
 */
static char *reserve(unsigned int pages)
{
	size_t gap = GAP_PAGES * PAGE, size = pages * PAGE + HUGE + 2 * gap;
	char *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : (char *)(((uintptr_t)p + gap + HUGE - 1) / HUGE * HUGE);
}

static int close_range_of(char *at, unsigned int pages)
{
	char *p = mmap(at, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

static int map_at(char *at, unsigned int pages, int prot, int flags)
{
	if (!(flags & (MAP_SHARED | MAP_PRIVATE)))
		flags |= MAP_PRIVATE;
	return mmap(at, pages * PAGE, prot, MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* Anonymous memory in a reservation of its own. */
static int area(struct state *s, unsigned int pages, unsigned int room, int flags)
{
	s->a = reserve(room);
	return s->a ? map_at(s->a, pages, RW, flags) : -ENOMEM;
}

static int advise(char *at, unsigned int pages, int advice)
{
	return madvise(at, pages * PAGE, advice) ? -errno : 0;
}

static int protect(char *at, unsigned int pages, int prot)
{
	return mprotect(at, pages * PAGE, prot) ? -errno : 0;
}

static int fill(struct state *s)
{
	rows_add(s, s->a, PAGES);
	rows_write(s, 0, FILLED);
	return 0;
}

static int setup_anon(struct state *s)
{
	int err = area(s, PAGES, PAGES, 0);

	return err ? err : fill(s);
}

static int write_first(struct state *s)
{
	row_write(s, FIRST);
	return 0;
}

static int write_second(struct state *s)
{
	row_write(s, SECOND);
	row_write(s, FRESH);
	return 0;
}

/* ---------------------------------------------------------------- private anonymous */

static int setup_advised(struct state *s, int advice, const char *what)
{
	int err = area(s, PAGES, PAGES, 0);

	if (!err && madvise(s->a, PAGES * PAGE, advice))
		return errno == EINVAL ? cannot(s, "the kernel has no %s", what) : -errno;
	return err ? err : fill(s);
}

static int setup_mergeable(struct state *s)
{
	return setup_advised(s, MADV_MERGEABLE, "same-page merging");
}

static int setup_wipeonfork(struct state *s)
{
	return setup_advised(s, MADV_WIPEONFORK, "MADV_WIPEONFORK");
}

static int setup_dontfork(struct state *s)
{
	return setup_advised(s, MADV_DONTFORK, "MADV_DONTFORK");
}

static int setup_mlocked(struct state *s)
{
	int err = area(s, PAGES, PAGES, 0);

	if (!err && mlock(s->a, PAGES * PAGE))
		return cannot(s, "mlock: %s", strerror(errno));
	if (err)
		return err;
	fill(s);
	/* The holes are populated, too. */
	rows_flag(s, FILLED, PAGES - FILLED, POPULATED | DIRTY, 0);
	return 0;
}

static int setup_readonly(struct state *s)
{
	int err = setup_anon(s);

	return err ? err : protect(s->a, PAGES, PROT_READ);
}

static int write_readonly(struct state *s)
{
	int err = protect(s->a, PAGES, RW);

	if (err)
		return err;
	row_write(s, FIRST);
	return protect(s->a, PAGES, PROT_READ);
}

/* A reservation with pages that were accessible once. */
static int setup_closed(struct state *s)
{
	int err = setup_anon(s);

	rows_flag(s, 0, PAGES, SHUT, 0);
	return err ? err : protect(s->a, PAGES, PROT_NONE);
}

static int write_closed(struct state *s)
{
	int err = protect(s->a + FIRST * PAGE, 1, RW);

	if (err)
		return err;
	row_write(s, FIRST);
	return protect(s->a + FIRST * PAGE, 1, PROT_NONE);
}

/* x86 can read what is only writable, but the kernel won't for others. */
static int setup_writeonly(struct state *s)
{
	int err = setup_anon(s);

	rows_flag(s, 0, PAGES, SHUT | WRITABLE, 0);
	return err ? err : protect(s->a, PAGES, PROT_WRITE);
}

static int setup_sparse(struct state *s)
{
	s->a = mmap(NULL, 16 * TIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->a == MAP_FAILED)
		return cannot(s, "16 TiB: %s", strerror(errno));
	/* Else a huge page would fill what is to stay empty. */
	if (madvise(s->a, 16 * TIB, MADV_NOHUGEPAGE) && errno != EINVAL)
		return -errno;
	for (unsigned int i = 0; i < SPOTS; i++)
		rows_write(s, rows_add(s, s->a + i * TIB, 4), 2);
	return 0;
}

static void write_spots(struct state *s)
{
	for (unsigned int i = 0; i < SPOTS; i += 4)
		row_write(s, i * 4);
}

static int write_sparse(struct state *s)
{
	write_spots(s);
	row_write(s, 3);
	return 0;
}

static int grow_heap(struct state *s)
{
	char *p = sbrk((intptr_t)(16 * PAGE));

	if (p == (void *)-1)
		return -errno;
	rows_write(s, rows_add(s, p, 16), 12);
	row_write(s, 2);
	return 0;
}

static int setup_heap(struct state *s)
{
	size_t odd = (uintptr_t)sbrk(0) % PAGE;

	if (odd && sbrk((intptr_t)(PAGE - odd)) == (void *)-1)
		return -errno;
	return grow_heap(s);
}

/* s->b is the lowest page so far. */
static int grow_down(struct state *s)
{
	s->b -= 16 * PAGE;
	rows_add(s, s->b, 16);
	/* From the top on, as a stack does. */
	for (unsigned int i = 0; i < 16; i++)
		row_write(s, s->nr_rows - 1 - i);
	row_write(s, 2);
	return 0;
}

/* Below what the functions in use may need. */
static int setup_stack(struct state *s)
{
	s->b = stack_top - 64 * PAGE;
	return grow_down(s);
}

/* The hole below is smaller than any reservation, so that none is put there; the kernel wants 1 MiB to stay free. */
static int setup_growsdown(struct state *s)
{
	unsigned int hole = 256 + 128;

	s->a = reserve(hole + 16);
	if (!s->a || munmap(s->a, (hole + 16) * PAGE))
		return -ENOMEM;
	s->b = s->a + (hole + 16) * PAGE;
	if (map_at(s->b - 16 * PAGE, 16, RW, MAP_GROWSDOWN))
		return -errno;
	return grow_down(s);
}

/* Pages 0 to 7 are the same, so that they may be merged. */
static int setup_same(struct state *s)
{
	int err = setup_mergeable(s);

	for (unsigned int i = 1; i < 8 && !err && s->nr_rows; i++) {
		s->row[i].seed = s->row[0].seed;
		page_image(&s->row[i], (uint64_t *)(uintptr_t)s->row[i].at);
	}
	return err;
}

/* The driver has the kernel merge them now. */
static int merge_same(struct state *s)
{
	rows_flag(s, 0, 8, TOUCHED, 0);
	return 0;
}

/* Which takes one of them out again. */
static int write_same(struct state *s)
{
	row_write(s, 1);
	return 0;
}

static int name_part(struct state *s)
{
	/* PR_SET_VMA, PR_SET_VMA_ANON_NAME */
	if (prctl(0x53564d41, 0, s->a + 16 * PAGE, 16 * PAGE, "part"))
		return cannot(s, "mappings can't be named");
	row_write(s, 20);
	return 0;
}

static int seal(struct state *s)
{
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
	int err = setup_anon(s);

	if (!err && syscall(SYS_mseal, s->a, PAGES * PAGE, 0))
		return cannot(s, "mseal: %s", strerror(errno));
	return err;
}

/* The break goes back over what was written, and forth again. */
static int shrink_heap(struct state *s)
{
	char *p = sbrk(0);

	if (p != s->b)
		return cannot(s, "somebody else has moved the break");
	if (sbrk(-(intptr_t)(8 * PAGE)) == (void *)-1 || sbrk(8 * PAGE) != p - 8 * PAGE)
		return -ENOMEM;
	rows_drop(s, 8, 8);
	row_write(s, 9);
	return 0;
}

static int setup_shrinking_heap(struct state *s)
{
	int err = setup_heap(s);

	if (!err)
		rows_write(s, 12, 4);
	s->b = sbrk(0);
	return err;
}

static int setup_guarded(struct state *s)
{
	int err = setup_anon(s);

	if (!err && madvise(s->a + 8 * PAGE, 8 * PAGE, MADV_GUARD_INSTALL))
		return errno == EINVAL ? cannot(s, "the kernel has no guard pages") : -errno;
	rows_drop(s, 8, 8);
	rows_flag(s, 8, 8, GUARD, 0);
	return err;
}

/* One page of those that are guards gets to be an ordinary one, others become guards. */
static int change_guards(struct state *s)
{
	int err = advise(s->a + 8 * PAGE, 1, MADV_GUARD_REMOVE);

	if (!err)
		err = advise(s->a + 16 * PAGE, 4, MADV_GUARD_INSTALL);
	rows_flag(s, 8, 1, 0, GUARD);
	row_write(s, 8);
	rows_drop(s, 16, 4);
	rows_flag(s, 16, 4, GUARD, 0);
	return err ? err : write_first(s);
}

static int setup_devzero(struct state *s)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);

	s->a = reserve(PAGES);
	if (fd < 0 || !s->a)
		return cannot(s, "/dev/zero: %s", strerror(errno));
	if (mmap(s->a, PAGES * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	close(fd);
	return fill(s);
}

/* The kernel may take its pages at any time, so that nobody can expect them to be there. */
static int setup_droppable(struct state *s)
{
	s->a = reserve(PAGES);
	if (!s->a || mmap(s->a, PAGES * PAGE, RW, MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return cannot(s, "the kernel has no MAP_DROPPABLE");
	fill(s);
	rows_flag(s, 0, PAGES, OPAQUE, 0);
	return 0;
}

/*
 * More mappings than the tracker registers, 32768 of a process: every other page is
 * read-only. The first ones are in the book of this case, the last ones in the next one's.
 */
#define MANY	   36000u
#define MANY_KNOWN 16u

static int setup_many(struct state *s)
{
	int err = area(s, MANY, MANY, 0);

	if (err)
		return err;
	rows_add(s, s->a, MANY_KNOWN);
	rows_write(s, 0, MANY_KNOWN);
	book->state[book->nr_cases].a = s->a + (MANY - MANY_KNOWN) * PAGE;
	memset(s->a + (MANY - MANY_KNOWN) * PAGE, 1, MANY_KNOWN * PAGE);
	for (unsigned int i = 1; i < MANY && !err; i += 2)
		err = protect(s->a + i * PAGE, 1, PROT_READ);
	return err == -ENOMEM ? cannot(s, "the kernel allows fewer mappings") : err;
}

static int setup_too_many(struct state *s)
{
	rows_add(s, s->a, MANY_KNOWN);
	for (unsigned int i = 0; i < MANY_KNOWN; i += 2)
		row_write(s, i);
	for (unsigned int i = 1; i < MANY_KNOWN; i += 2)
		rows_flag(s, i, 1, POPULATED | DIRTY | OPAQUE, 0);
	return 0;
}

static int write_one_of_many(struct state *s)
{
	row_write(s, 2);
	return 0;
}

/* ---------------------------------------------------------------- the kernel's own */

static char *find_mapping(const char *name, unsigned int *ret_pages)
{
	unsigned long start, end;
	char line[512], found[64];
	FILE *f = fopen("/proc/self/maps", "re");

	*ret_pages = 0;
	while (f && fgets(line, sizeof(line), f)) {
		found[0] = '\0';
		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %63s", &start, &end, found) == 3 && !strcmp(found, name)) {
			*ret_pages = (unsigned int)((end - start) / PAGE);
			break;
		}
	}
	if (f)
		fclose(f);
	return *ret_pages ? (char *)start : NULL;
}

static int setup_special(struct state *s, const char *name, uint32_t flags)
{
	unsigned int pages;

	s->a = find_mapping(name, &pages);
	if (!s->a)
		return cannot(s, "there is no %s", name);
	rows_add(s, s->a, pages);
	rows_flag(s, 0, pages, OPAQUE | flags, 0);
	return 0;
}

static int setup_vdso(struct state *s)
{
	return setup_special(s, "[vdso]", POPULATED | DIRTY);
}

static int setup_vvar(struct state *s)
{
	return setup_special(s, "[vvar]", 0);
}

#endif
