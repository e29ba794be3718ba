/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: mappings of files, shared memory and huge pages from the pool. */
#ifndef WPTRACK_TEST_KINDS_FILES_H
#define WPTRACK_TEST_KINDS_FILES_H

#include <sched.h>
#include <sys/shm.h>

#include "kinds_maps.h"

/* A file of the case's own, beside the control file. */
static int open_file(const struct state *s, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s.%s", control_path, s->name);
	fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | flags, 0600);
	return fd < 0 ? -errno : fd;
}

/* Put new content into a page of a file; the row's memory is not touched. */
static int write_file(struct state *s, int fd, unsigned int nr, unsigned int file_page)
{
	uint64_t page[WORDS];

	row_renew(s, nr);
	page_image(&s->row[nr], page);
	return pwrite(fd, page, PAGE, (off_t)(file_page * PAGE)) == (ssize_t)PAGE ? 0 : -EIO;
}

/* Map a file of PAGES pages, all of them written through its descriptor. */
static int map_file(struct state *s, int fd, int flags)
{
	int err = 0;

	s->a = reserve(PAGES);
	if (fd < 0 || !s->a)
		return fd < 0 ? fd : -ENOMEM;
	rows_add(s, s->a, PAGES);
	for (unsigned int i = 0; i < PAGES && !err; i++)
		err = write_file(s, fd, i, i);
	rows_flag(s, 0, PAGES, 0, POPULATED);
	if (!err && mmap(s->a, PAGES * PAGE, RW, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		err = -errno;
	close(fd);
	return err;
}

/* Of a private mapping, pages are in images only if they have been copied. */
static int setup_file_private(struct state *s)
{
	int err = map_file(s, open_file(s, O_TRUNC), MAP_PRIVATE);

	rows_write(s, 0, 16);
	return err;
}

/* Content of a file page whose copy has been dropped: what was booked first. */
static int drop_copies(struct state *s)
{
	uint64_t seed = s->row[PAGES - 1].seed - (PAGES - 1);

	for (unsigned int i = 4; i < 8; i++) {
		s->row[i].seed = seed + i;
		s->row[i].flags &= ~(uint32_t)POPULATED;
	}
	return advise(s->a + 4 * PAGE, 4, MADV_DONTNEED);
}

/* Copies of pages that are cut off go with them. */
static int truncate_file(struct state *s)
{
	int fd = open_file(s, 0);

	if (fd < 0 || ftruncate(fd, 0) || ftruncate(fd, PAGES * PAGE))
		return -EIO;
	close(fd);
	rows_drop(s, 0, PAGES);
	row_write(s, 3);
	return 0;
}

static int setup_file_shared(struct state *s)
{
	int err = map_file(s, open_file(s, O_TRUNC), MAP_SHARED);

	rows_write(s, 0, 16);
	return err;
}

static int change_file_shared(struct state *s)
{
	int fd = open_file(s, 0), err;

	row_write(s, 0);
	err = fd < 0 ? fd : write_file(s, fd, 1, 1);
	if (fd >= 0)
		close(fd);
	return err;
}

static int setup_memfd_private(struct state *s)
{
	int err = map_file(s, memfd_create("kinds-private", MFD_CLOEXEC), MAP_PRIVATE);

	rows_write(s, 0, 16);
	return err;
}

/* ---------------------------------------------------------------- shared memory */

static int setup_shmem(struct state *s)
{
	s->a = reserve(PAGES);
	if (!s->a || map_at(s->a, PAGES, RW, MAP_SHARED))
		return -ENOMEM;
	return fill(s);
}

/* s->b is another mapping of the same, shared memory. */
static int setup_memfd(struct state *s)
{
	int fd = memfd_create("kinds-shared", MFD_CLOEXEC);

	s->b = reserve(PAGES);
	if (fd < 0 || !s->b || mmap(s->b, PAGES * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	return map_file(s, fd, MAP_SHARED);
}

static int write_other_mapping(struct state *s)
{
	row_renew(s, FIRST);
	page_image(&s->row[FIRST], (uint64_t *)(s->b + FIRST * PAGE));
	row_write(s, SECOND);
	return 0;
}

/* Through a descriptor, which no page table knows of. */
static int write_memfd(struct state *s)
{
	char path[64];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)s->a,
		 (unsigned long)(s->a + PAGES * PAGE));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = write_file(s, fd, FIRST, FIRST);
	close(fd);
	return err;
}

static int setup_sysv(struct state *s)
{
	/* CRIU wants it to be in a namespace that it dumps as well. */
	int err = unshare(CLONE_NEWIPC) ? -errno : 0, id;

	if (err)
		return cannot(s, "no namespace: %s", strerror(-err));
	id = shmget(IPC_PRIVATE, PAGES * PAGE, IPC_CREAT | 0600);

	s->a = id < 0 ? (char *)-1 : shmat(id, NULL, 0);
	if (s->a == (char *)-1)
		return -errno;
	/* It goes with its last user. */
	shmctl(id, IPC_RMID, NULL);
	return fill(s);
}

static int setup_hugetlb(struct state *s, int share)
{
	s->a = mmap(NULL, 2 * HUGE, RW, share | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (s->a == MAP_FAILED)
		return cannot(s, "no huge pages: %s", strerror(errno));
	rows_add(s, s->a, HUGE_PAGES);
	rows_write(s, 0, HUGE_PAGES);
	return 0;
}

static int setup_hugetlb_private(struct state *s)
{
	return setup_hugetlb(s, MAP_PRIVATE);
}

static int setup_hugetlb_shared(struct state *s)
{
	return setup_hugetlb(s, MAP_SHARED);
}

#endif
