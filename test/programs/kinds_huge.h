/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: transparent huge pages. */
#ifndef WPTRACK_TEST_KINDS_HUGE_H
#define WPTRACK_TEST_KINDS_HUGE_H

#include <sys/wait.h>

#include "kinds_maps.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static bool has_huge_page(const char *at)
{
	unsigned long start, end, kb;
	bool here = false, found = false;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
			here = (unsigned long)at >= start && (unsigned long)at < end;
		else if (here && sscanf(line, "AnonHugePages: %lu kB", &kb) == 1 && kb >= HUGE / 1024)
			found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static int setup_thp(struct state *s)
{
	int err = area(s, HUGE_PAGES, HUGE_PAGES, 0);

	s->wants_huge = true;
	if (!err && madvise(s->a, HUGE, MADV_HUGEPAGE))
		return cannot(s, "no transparent huge pages");
	if (err)
		return err;
	rows_add(s, s->a, HUGE_PAGES);
	rows_write(s, 0, HUGE_PAGES);
	return has_huge_page(s->a) ? 0 : cannot(s, "the kernel gave no huge page");
}

static int one_byte(struct state *s)
{
	*(volatile char *)(uintptr_t)s->row[77].at = 0x5a;
	s->row[77].byte = 0x5a;
	s->row[77].flags |= DIRTY;
	return 0;
}

/* While a child has it in common, the one page is copied. */
static int fork_and_write_thp(struct state *s)
{
	int ends[2], status;
	char byte = 0;
	pid_t pid;

	if (pipe(ends))
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(ends[1]);
		_exit((int)read(ends[0], &byte, 1));
	}
	if (pid > 0)
		one_byte(s);
	/* Which lets the child go. */
	close(ends[1]);
	close(ends[0]);
	return pid < 0 || waitpid(pid, &status, 0) != pid ? -errno : 0;
}

/* A page in its middle gets another protection, and the same one again. */
static int split_thp(struct state *s)
{
	int err = protect(s->a + 100 * PAGE, 1, PROT_READ);

	if (!err)
		err = protect(s->a + 100 * PAGE, 1, RW);
	return !err && has_huge_page(s->a) ? cannot(s, "the huge page was not split") : err;
}

static int drop_part_of_thp(struct state *s)
{
	rows_drop(s, 200, 50);
	return advise(s->a + 200 * PAGE, 50, MADV_DONTNEED);
}

static int move_thp(struct state *s)
{
	char *to = reserve(HUGE_PAGES);

	if (!to || mremap(s->a, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		return -ENOMEM;
	rows_move(s, 0, HUGE_PAGES, to);
	return 0;
}

/* All of it goes, and one byte brings all of it back. */
static int drop_thp(struct state *s)
{
	if (madvise(s->a, HUGE, MADV_DONTNEED))
		return -errno;
	rows_drop(s, 0, HUGE_PAGES);
	row_write(s, 9);
	if (has_huge_page(s->a))
		rows_flag(s, 0, HUGE_PAGES, POPULATED | DIRTY, 0);
	return 0;
}

static int setup_collapse(struct state *s)
{
	int err = area(s, HUGE_PAGES, HUGE_PAGES, 0);

	if (err || madvise(s->a, HUGE, MADV_NOHUGEPAGE))
		return cannot(s, "no transparent huge pages");
	rows_add(s, s->a, HUGE_PAGES);
	rows_write(s, 0, HUGE_PAGES);
	return 0;
}

/* Armed pages are left as they are; whether the kernel says so is not our business. */
static int collapse_armed(struct state *s)
{
	if (madvise(s->a, HUGE, MADV_HUGEPAGE))
		return -errno;
	row_write(s, 5);
	(void)!madvise(s->a, HUGE, MADV_COLLAPSE);
	return 0;
}

static int collapse_rewritten(struct state *s)
{
	if (madvise(s->a, HUGE, MADV_DONTNEED))
		return -errno;
	rows_write(s, 0, HUGE_PAGES);
	if (madvise(s->a, HUGE, MADV_HUGEPAGE) || madvise(s->a, HUGE, MADV_COLLAPSE))
		return cannot(s, "MADV_COLLAPSE: %s", strerror(errno));
	return has_huge_page(s->a) ? 0 : cannot(s, "nothing was collapsed");
}

/* Never written, but read: the zero page, as a huge one. */
static int setup_huge_zero(struct state *s)
{
	int err = area(s, HUGE_PAGES, HUGE_PAGES, 0);

	s->wants_huge = true;
	if (err || madvise(s->a, HUGE, MADV_HUGEPAGE))
		return cannot(s, "no transparent huge pages");
	rows_add(s, s->a, HUGE_PAGES);
	if (*(volatile char *)s->a)
		return -EIO;
	rows_were_read(s, 0, HUGE_PAGES);
	return 0;
}

static int write_huge_zero(struct state *s)
{
	row_write(s, 7);
	/* Newer kernels put a huge page of its own there, and not the zero page 511 times. */
	if (has_huge_page(s->a))
		rows_flag(s, 0, HUGE_PAGES, POPULATED | DIRTY, 0);
	return 0;
}

#endif
