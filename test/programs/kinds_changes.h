/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: one for each thing that happens to anonymous memory between rounds. */
#ifndef WPTRACK_TEST_KINDS_CHANGES_H
#define WPTRACK_TEST_KINDS_CHANGES_H

#include <pthread.h>
#include <sys/wait.h>

#include "kinds_files.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLD
#define MADV_COLD    20
#define MADV_PAGEOUT 21
#endif

/* ---------------------------------------------------------------- content */

static int zero_by_hand(struct state *s)
{
	memset((char *)(uintptr_t)s->row[FIRST].at, 0, PAGE);
	s->row[FIRST].seed = 0;
	s->row[FIRST].flags |= DIRTY;
	return 0;
}

/* The kernel knows that it was written, not that it is the same. */
static int write_the_same(struct state *s)
{
	volatile char *p = (volatile char *)(uintptr_t)s->row[FIRST].at;

	*p = *p;
	s->row[FIRST].flags |= DIRTY;
	return 0;
}

/* A hole that is read gets the zero page. */
static int read_hole(struct state *s)
{
	volatile char *p = (volatile char *)(uintptr_t)s->row[FRESH].at;
	char byte = *p;

	rows_were_read(s, FRESH, 1);
	return byte ? -EIO : 0;
}

static int write_fresh(struct state *s)
{
	row_write(s, FRESH);
	return 0;
}

static int fill_by_read(struct state *s, int flags)
{
	char *page = (char *)(uintptr_t)s->row[FIRST].at;
	int fd = open_file(s, O_TRUNC), err;

	if (fd < 0)
		return fd;
	err = write_file(s, fd, FIRST, 0);
	close(fd);
	fd = err ? err : open_file(s, flags);
	if (fd == -EINVAL && flags)
		return cannot(s, "no O_DIRECT in this file system");
	if (fd < 0)
		return fd;
	if (read(fd, page, PAGE) != (ssize_t)PAGE)
		err = -EIO;
	close(fd);
	return err;
}

static int read_buffered(struct state *s)
{
	return fill_by_read(s, 0);
}

static int read_direct(struct state *s)
{
	return fill_by_read(s, O_DIRECT);
}

static void *write_in_thread(void *arg)
{
	row_write(arg, FIRST);
	return NULL;
}

static int write_by_thread(struct state *s)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, write_in_thread, s);

	return err ? -err : -pthread_join(thread, NULL);
}

static int write_by_vfork(struct state *s)
{
	pid_t pid = vfork();

	if (pid == 0) {
		row_write(s, FIRST);
		_exit(0);
	}
	return pid < 0 || waitpid(pid, NULL, 0) != pid ? -errno : 0;
}

/* What a child writes is its own; the parent writes some that they had in common. */
static int fork_and_write(struct state *s)
{
	pid_t pid = fork();

	if (pid == 0) {
		memset(s->a, 1, FILLED * PAGE);
		_exit(0);
	}
	if (pid < 0)
		return -errno;
	row_write(s, FIRST);
	if (waitpid(pid, NULL, 0) != pid)
		return -errno;
	row_write(s, FIRST + 1);
	return 0;
}

/* ---------------------------------------------------------------- advice */

static int drop_some(struct state *s)
{
	rows_drop(s, 8, 8);
	return advise(s->a + 8 * PAGE, 8, MADV_DONTNEED);
}

/* Of the dropped pages one is read and one written. */
static int use_dropped(struct state *s)
{
	volatile char *p = (volatile char *)(uintptr_t)s->row[9].at;
	char byte;

	row_write(s, 10);
	byte = *p;
	rows_were_read(s, 9, 1);
	return byte ? -EIO : 0;
}

static int write_and_drop(struct state *s)
{
	rows_write(s, 8, 8);
	return drop_some(s);
}

/* Freed lazily: some are written again, which keeps them. */
static int free_lazily(struct state *s)
{
	rows_flag(s, 8, 8, FREED, 0);
	if (advise(s->a + 8 * PAGE, 8, MADV_FREE))
		return -errno;
	row_write(s, 10);
	return 0;
}

static int go_cold(struct state *s)
{
	return advise(s->a, PAGES, MADV_COLD);
}

/* Page @nr of a case is swapped out. */
static bool is_swapped(struct state *s, unsigned int nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (off_t)(s->row[nr].at / PAGE * sizeof(entry))) < 0)
		entry = 0;
	if (fd >= 0)
		close(fd);
	return entry >> 62 & 1;
}

static int swap_out(struct state *s)
{
	int err = advise(s->a, PAGES, MADV_PAGEOUT);

	return err || is_swapped(s, 0) ? err : cannot(s, "nothing is swapped out here (/proc/swaps)");
}

/* Some are read, which brings them back, and one is written. */
static int swap_in(struct state *s)
{
	for (unsigned int i = 0; i < 16; i++)
		if (!row_is_right(&s->row[i]))
			return -EIO;
	return s->nr_rows ? write_first(s) : 0;
}

static int toggle_wipeonfork(struct state *s)
{
	int err = advise(s->a, PAGES, book->round == 2 ? MADV_WIPEONFORK : MADV_KEEPONFORK);

	return err ? err : write_first(s);
}

static int populate_for_reading(struct state *s)
{
	int err = advise(s->a, PAGES, MADV_POPULATE_READ);

	rows_were_read(s, 0, PAGES);
	return err;
}

/* Holes are there now, as zeroes; what was there has been written to for all the kernel knows. */
static int populate_for_writing(struct state *s)
{
	rows_flag(s, 0, 8, TOUCHED, 0);
	rows_flag(s, FRESH, 4, POPULATED | DIRTY, 0);
	if (advise(s->a, 8, MADV_POPULATE_WRITE))
		return -errno;
	return advise(s->a + FRESH * PAGE, 4, MADV_POPULATE_WRITE);
}

static int lock_some(struct state *s)
{
	rows_flag(s, 0, 8, TOUCHED, 0);
	return mlock(s->a, 8 * PAGE) || munlock(s->a, 8 * PAGE) ? -errno : 0;
}

/* ---------------------------------------------------------------- mappings */

static int setup_late(struct state *s)
{
	s->a = reserve(PAGES);
	return s->a ? 0 : -ENOMEM;
}

static int map_late(struct state *s)
{
	int err = map_at(s->a, PAGES, RW, 0);

	return err ? err : fill(s);
}

static int unmap(struct state *s)
{
	rows_drop(s, 0, PAGES);
	rows_flag(s, 0, PAGES, GONE, 0);
	return munmap(s->a, PAGES * PAGE) ? -errno : 0;
}

static int map_again(struct state *s)
{
	rows_flag(s, 0, PAGES, 0, GONE | HAD);
	rows_write(s, 20, 4);
	return 0;
}

static int remap_late(struct state *s)
{
	int err = map_at(s->a, PAGES, RW, 0);

	return err ? err : map_again(s);
}

static int remap_anon(struct state *s)
{
	int err = unmap(s);

	if (!err)
		err = map_at(s->a, PAGES, RW, 0);
	return err ? err : map_again(s);
}

/* A hole is punched into it and mapped anew. */
static int replace_middle(struct state *s)
{
	rows_drop(s, 16, 16);
	return map_at(s->a + 16 * PAGE, 16, RW, 0);
}

/* What was anonymous is a file's now; pages that nobody copies are in no image. */
static int remap_file(struct state *s)
{
	int fd = open_file(s, O_TRUNC), err = fd < 0 ? fd : 0;

	for (unsigned int i = 0; i < PAGES && !err; i++)
		err = write_file(s, fd, i, i);
	if (!err && mmap(s->a, PAGES * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
		err = -errno;
	if (fd >= 0)
		close(fd);
	s->kind = WHOLE;
	rows_flag(s, 0, PAGES, 0, POPULATED | DIRTY);
	row_write(s, 3);
	return err;
}

static int remap_shared(struct state *s)
{
	s->kind = ELSEWHERE;
	rows_drop(s, 0, PAGES);
	if (map_at(s->a, PAGES, RW, MAP_SHARED))
		return -errno;
	row_write(s, 3);
	return 0;
}

static int remap_from_file(struct state *s)
{
	int err = map_at(s->a, PAGES, RW, 0);

	s->kind = TRACKED;
	rows_drop(s, 0, PAGES);
	rows_flag(s, 0, PAGES, 0, HAD);
	return err ? err : write_first(s);
}

static int split_by_mprotect(struct state *s)
{
	row_write(s, FIRST);
	return protect(s->a + 32 * PAGE, 16, PROT_READ);
}

static int merge_by_mprotect(struct state *s)
{
	int err = protect(s->a + 32 * PAGE, 16, RW);

	return err ? err : write_second(s);
}

/* As a compiler of code at run time does it. */
static int write_code(struct state *s)
{
	int err = protect(s->a, PAGES, RW);

	row_write(s, FIRST + book->round);
	return err ? err : protect(s->a, PAGES, PROT_READ | PROT_EXEC);
}

static int split_by_advice(struct state *s)
{
	row_write(s, FIRST);
	return advise(s->a + 32 * PAGE, 16, MADV_DONTDUMP);
}

static int merge_by_advice(struct state *s)
{
	int err = advise(s->a + 32 * PAGE, 16, MADV_DODUMP);

	return err ? err : write_second(s);
}

static int split_by_munmap(struct state *s)
{
	rows_drop(s, 16, 16);
	rows_flag(s, 16, 16, GONE, 0);
	row_write(s, FIRST);
	return munmap(s->a + 16 * PAGE, 16 * PAGE) ? -errno : 0;
}

/* ---------------------------------------------------------------- unreadable at times */

static int shut(struct state *s)
{
	rows_flag(s, 0, PAGES, SHUT, 0);
	return protect(s->a, PAGES, PROT_NONE);
}

static int reopen(struct state *s)
{
	rows_flag(s, 0, PAGES, 0, SHUT);
	return protect(s->a, PAGES, RW);
}

static int write_and_shut(struct state *s)
{
	row_write(s, FIRST);
	return shut(s);
}

static int reopen_and_write(struct state *s)
{
	int err = reopen(s);

	row_write(s, SECOND);
	return err;
}

/* Shut in one round, open in the next. */
static int setup_shut(struct state *s)
{
	int err = setup_anon(s);

	return err ? err : shut(s);
}

#endif
