// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tracker relies on the kernel for, through its own system call
 * wrappers: were another kernel to differ, this says in what.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "area.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define HUGE   (2ul << 20)
#define TIB    (1ul << 40)
#define NOBODY 65534

static long page_tables_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPTE: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

static void all_of_a_new_registration_reads_as_written(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
}

static void a_write_is_reported_once(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK_FOUND(a, 0, 16);
	a.mem[3 * PAGE] = 2;
	CHECK_FOUND(a, 1, 15);
	CHECK_FOUND(a, 0, 16);
}

static void a_read_by_the_kernel_into_a_page_is_seen(void)
{
	int fd;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(read(fd, a.mem + 5 * PAGE, 10), 10);
	close(fd);
	CHECK_FOUND(a, 1, 15);
}

static void a_hole_is_not_reported_until_it_is_written(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, false), 0);
	CHECK_FOUND(a, 0, 0);
	a.mem[7 * PAGE] = 1;
	CHECK_FOUND(a, 1, 0);
	CHECK_FOUND(a, 0, 1);
}

/* Read two holes. Return: have both got the same page, the zero page? Some kernels that are guests do without. */
static bool read_holes(const struct area *a, unsigned int one, unsigned int other)
{
	uint64_t entry[2] = { 0 };
	const unsigned int nr[2] = { one, other };

	for (int i = 0; i < 2; i++) {
		const char *at = a->mem + nr[i] * PAGE;
		off_t offset = (off_t)((uintptr_t)at / PAGE * sizeof(entry[i]));

		if (*(const volatile char *)at || pread(a->pagemap, &entry[i], sizeof(entry[i]), offset) != 8)
			abort();
	}
	return entry[0] == entry[1];
}

static void the_zero_page_is_not_reported_until_it_is_written(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, false), 0);
	if (!read_holes(&a, 1, 2))
		SKIP("no zero page here");
	CHECK_FOUND(a, 0, 0);
	a.mem[PAGE] = 1;
	CHECK_FOUND(a, 1, 0);
}

static void a_dropped_page_vanishes_and_comes_back_written(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(madvise(a.mem + 2 * PAGE, PAGE, MADV_DONTNEED), 0);
	CHECK_FOUND(a, 0, 15);
	a.mem[2 * PAGE] = 1;
	CHECK_FOUND(a, 1, 15);
}

static void guard_pages_are_not_reported(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	if (madvise(a.mem + 4 * PAGE, PAGE, MADV_GUARD_INSTALL))
		SKIP("no MADV_GUARD_INSTALL here");
	CHECK_FOUND(a, 15, 0);
	CHECK_FOUND(a, 0, 15);
}

static void protection_changes_keep_the_marks(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(mprotect(a.mem, a.size, PROT_NONE), 0);
	CHECK_EQ(mprotect(a.mem, a.size, PROT_READ), 0);
	CHECK_EQ(mprotect(a.mem, a.size, PROT_READ | PROT_WRITE), 0);
	CHECK_FOUND(a, 0, 16);
	a.mem[0] = 9;
	CHECK_FOUND(a, 1, 15);
}

static void more_regions_than_fit_are_all_reported(void)
{
	const unsigned int pages = 6000;
	unsigned int i;
	AREA(a);

	CHECK_EQ(area_start(&a, pages * PAGE, 0, true), 0);
	CHECK_FOUND(a, pages, 0);
	for (i = 0; i < pages; i += 2)
		a.mem[i * PAGE] = 3;
	CHECK_FOUND(a, pages / 2, pages / 2);
	CHECK_FOUND(a, 0, pages);
}

static void one_byte_in_a_huge_page_is_one_page(void)
{
	char *huge;
	AREA(a);

	CHECK_EQ(area_start(&a, 2 * HUGE, 0, false), 0);
	huge = (char *)(((uintptr_t)a.mem + HUGE - 1) & ~(HUGE - 1));
	if (madvise(huge, HUGE, MADV_HUGEPAGE))
		SKIP("no transparent huge pages here");
	memset(huge, 1, HUGE);
	CHECK_FOUND(a, 512, 0);
	huge[100 * PAGE] = 2;
	CHECK_FOUND(a, 1, 511);
}

static void sparse_memory_costs_no_page_tables(void)
{
	long before;
	AREA(a);

	before = page_tables_kb();
	CHECK_EQ(area_start(&a, 16 * TIB, MAP_NORESERVE, false), 0);
	/* Wherever huge pages are given unasked, a write would be of 512 pages. */
	CHECK(!madvise(a.mem, a.size, MADV_NOHUGEPAGE) || errno == EINVAL);
	CHECK_FOUND(a, 0, 0);
	CHECK(page_tables_kb() <= before + 64);
	a.mem[9 * TIB] = 1;
	CHECK_FOUND(a, 1, 0);
	CHECK_FOUND(a, 0, 1);
	CHECK(page_tables_kb() <= before + 64);
}

static void inaccessible_memory_can_be_registered(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, TIB, MAP_NORESERVE, false), 0);
	CHECK_EQ(mprotect(a.mem, a.size, PROT_NONE), 0);
	CHECK_FOUND(a, 0, 0);
	CHECK_EQ(mprotect(a.mem + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	a.mem[PAGE] = 1;
	/* mprotect has cut the mapping in three; what was registered stays so */
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)a.mem), 1);
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)a.mem + PAGE), 1);
}

static void unprotecting_makes_every_page_read_as_written(void)
{
	uint64_t start;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	start = (uintptr_t)a.mem;
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(wptrack_uffd_unprotect(a.uffd, start + 4 * PAGE, start + 6 * PAGE), 0);
	CHECK_FOUND(a, 2, 14);
}

static void memory_that_is_not_registered_is_refused(void)
{
	struct found found;
	AREA(a);

	CHECK_EQ(area_open(&a), 0);
	a.size = PAGE;
	a.mem = mmap(NULL, a.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(a.mem != MAP_FAILED);
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)a.mem), 0);
	CHECK_EQ(collect(&a, &found), -EPERM);
	CHECK_EQ(wptrack_uffd_unprotect(a.uffd, (uintptr_t)a.mem, (uintptr_t)a.mem + PAGE), -ENOENT);
}

static void registering_again_says_that_it_is_ours(void)
{
	uint64_t start;
	AREA(a);
	AREA(other);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_EQ(area_open(&other), 0);
	start = (uintptr_t)a.mem;
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(wptrack_uffd_register(a.uffd, start, start + a.size), 0);
	CHECK_FOUND(a, 0, 16);
	CHECK_EQ(wptrack_uffd_register(other.uffd, start, start + a.size), -EBUSY);
	CHECK_FOUND(a, 0, 16);
}

static void moving_a_mapping_ends_its_registration(void)
{
	char *to;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	to = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(to != MAP_FAILED);
	CHECK(mremap(a.mem, a.size, a.size, MREMAP_MAYMOVE | MREMAP_FIXED, to + 8 * PAGE) == to + 8 * PAGE);
	a.mem = to + 8 * PAGE;
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)a.mem), 0);
	munmap(to, 64 * PAGE);
	a.mem = NULL;
}

/* Why private file mappings are not tracked: this is what must not be believed. */
static void a_dropped_copy_of_a_file_page_reads_as_clean(void)
{
	char name[] = "/tmp/wptrack-kernel-XXXXXX";
	struct found found;
	int fd;
	AREA(a);

	CHECK_EQ(area_open(&a), 0);
	fd = mkstemp(name);
	CHECK(fd >= 0);
	unlink(name);
	CHECK_EQ(ftruncate(fd, 4 * PAGE), 0);
	a.size = 4 * PAGE;
	a.mem = mmap(NULL, a.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	CHECK(a.mem != MAP_FAILED);
	a.mem[0] = 7;
	CHECK_EQ(wptrack_uffd_register(a.uffd, (uintptr_t)a.mem, (uintptr_t)a.mem + a.size), 0);
	CHECK_EQ(collect(&a, &found), 0);
	CHECK_EQ(madvise(a.mem, PAGE, MADV_DONTNEED), 0);
	CHECK_EQ(collect(&a, &found), 0);
	if (!found.clean)
		SKIP("this kernel tells a dropped page: file mappings could be tracked");
	CHECK_EQ(a.mem[0], 0);
}

/* Run a function in a child. Return: its result, 0 to 255. */
static int in_child(int (*run)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(run(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 255;
	return WEXITSTATUS(status);
}

static int child_finds_nothing_registered(void *arg)
{
	struct area *a = arg;
	int pagemap = wptrack_pagemap_open(getpid());

	return pagemap < 0 || wptrack_pagemap_is_armable(pagemap, (uintptr_t)a->mem) != 0;
}

static void a_forked_child_is_not_tracked_and_the_parent_stays_so(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(in_child(child_finds_nothing_registered, &a), 0);
	CHECK_FOUND(a, 0, 16);
	a.mem[0] = 4;
	CHECK_FOUND(a, 1, 15);
}

static int nobody_tracks(void *arg)
{
	struct found found;
	AREA(a);

	(void)arg;
	/* Changing the user has made our own /proc files root's */
	if (setgid(NOBODY) || setuid(NOBODY) || prctl(PR_SET_DUMPABLE, 1))
		return 2;
	if (area_start(&a, 4 * PAGE, 0, true))
		return 3;
	return collect(&a, &found) || found.written != 4;
}

static void no_privilege_is_needed(void)
{
	CHECK_EQ(in_child(nobody_tracks, NULL), 0);
}

static void memory_that_is_gone_is_told(void)
{
	int sv[2], pidfd, uffd, status;
	pid_t pid;
	char byte;

	CHECK_EQ(pipe2(sv, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		char fd = (char)wptrack_uffd_create();

		if (write(sv[1], &fd, 1) == 1)
			pause();
		_exit(0);
	}
	CHECK_EQ(read(sv[0], &byte, 1), 1);
	pidfd = wptrack_pidfd_open(pid);
	uffd = wptrack_pidfd_getfd(pidfd, byte);
	CHECK(uffd >= 0);
	CHECK_EQ(wptrack_uffd_enable(uffd), 0);
	CHECK_EQ(wptrack_uffd_unprotect(uffd, PAGE, 2 * PAGE), -ENOENT);
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(wptrack_uffd_unprotect(uffd, PAGE, 2 * PAGE), -ESRCH);
	close(uffd);
	close(pidfd);
	close(sv[0]);
	close(sv[1]);
}

static void closing_the_last_descriptor_ends_it_all(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	close(a.uffd);
	a.uffd = -1;
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)a.mem), 0);
	a.mem[0] = 5;
}

static void written_bytes_are_counted_without_a_reset(void)
{
	uint64_t bytes = 1;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK_EQ(wptrack_pagemap_written(a.pagemap, &bytes), 0);
	CHECK_EQ(bytes, 0);
	a.mem[0] = a.mem[9 * PAGE] = 6;
	CHECK_EQ(wptrack_pagemap_written(a.pagemap, &bytes), 0);
	CHECK_EQ(bytes, 2 * PAGE);
	CHECK_FOUND(a, 2, 14);
}

/* What only the kernel, or another tracker, would do to memory of ours. */
static int protect(const struct area *a, unsigned int first_page, unsigned int nr_pages)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)a->mem + first_page * PAGE, .len = nr_pages * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return ioctl(a->uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

/* A huge page of zeros that is split may leave armed zero pages. */
static void an_armed_zero_page_is_not_reported(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, false), 0);
	a.mem[0] = a.mem[2 * PAGE] = 1;
	if (!read_holes(&a, 1, 3))
		SKIP("no zero page here");
	CHECK_FOUND(a, 2, 0);
	CHECK_EQ(protect(&a, 1, 1), 0);
	CHECK_FOUND(a, 0, 2);
}

static void an_armed_guard_page_is_not_reported(void)
{
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	if (madvise(a.mem + 4 * PAGE, PAGE, MADV_GUARD_INSTALL))
		SKIP("no MADV_GUARD_INSTALL here");
	CHECK_FOUND(a, 15, 0);
	CHECK_EQ(protect(&a, 4, 1), 0);
	CHECK_FOUND(a, 0, 15);
}

static void pages_on_swap_are_reported(void)
{
	struct found found;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	/* Where there is no swap they stay, which is to come out the same. */
	CHECK_EQ(madvise(a.mem + 4 * PAGE, 4 * PAGE, MADV_PAGEOUT), 0);
	a.mem[5 * PAGE] = 2;
	CHECK_EQ(collect(&a, &found), 0);
	CHECK_EQ(found.written + found.clean, 16);
	CHECK_EQ(found.written, 1);
}

/* Islands with holes between them, near each other and far, some written to. */
static void changes_near_and_far_are_reported(void)
{
	unsigned int i, written = 0, islands = 0;
	const unsigned int pages = 40000;
	AREA(a);

	CHECK_EQ(area_start(&a, pages * PAGE, 0, false), 0);
	CHECK_EQ(madvise(a.mem, a.size, MADV_NOHUGEPAGE), 0);
	for (i = 0; i < pages; i += 1 + i % 7)
		a.mem[i * PAGE] = 1, islands++;
	CHECK_FOUND(a, islands, 0);
	for (i = 0; i < pages; i += 1 + i % 7)
		if (i % 5 == 0 || (i > 20000 && i % 1000 < 3))
			a.mem[i * PAGE] = 2, written++;
	CHECK_FOUND(a, written, islands - written);
	CHECK_FOUND(a, 0, islands);
}

static void memory_registered_in_part_is_refused(void)
{
	struct found found;
	AREA(a);

	CHECK_EQ(area_start(&a, 16 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 16, 0);
	CHECK(mmap(a.mem + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) != MAP_FAILED);
	CHECK_EQ(collect(&a, &found), -EPERM);
}

/* However few regions there is room for, each page is reported once. */
static void little_room_is_enough(void)
{
	struct page_region regs[5];
	unsigned int max, pages, i;
	AREA(a);

	CHECK_EQ(area_start(&a, 1000 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 1000, 0);
	for (max = 1; max <= 5; max++) {
		struct wptrack_scan scan = {
			.start = (uintptr_t)a.mem,
			.end = (uintptr_t)a.mem + a.size,
			.regs = regs,
			.max_regs = max,
		};
		uint64_t told = scan.start;

		for (i = 0; i < 1000; i += 97)
			a.mem[i * PAGE] = max, a.mem[(i + 2) * PAGE] = max;
		for (pages = 0; scan.start < scan.end; scan.start = scan.next) {
			CHECK_EQ(COLLECT(a.pagemap, &scan), 0);
			CHECK(scan.next > scan.start && scan.nr_regs <= max);
			for (i = 0; i < scan.nr_regs; told = regs[i++].end) {
				CHECK(regs[i].start == told && regs[i].end <= scan.next);
				pages += regs[i].categories & PAGE_IS_WRITTEN ? (regs[i].end - told) / PAGE : 0;
			}
		}
		CHECK_EQ(told, scan.end);
		CHECK_EQ(pages, 22);
	}
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(all_of_a_new_registration_reads_as_written),
		TEST(a_write_is_reported_once),
		TEST(a_read_by_the_kernel_into_a_page_is_seen),
		TEST(a_hole_is_not_reported_until_it_is_written),
		TEST(the_zero_page_is_not_reported_until_it_is_written),
		TEST(a_dropped_page_vanishes_and_comes_back_written),
		TEST(guard_pages_are_not_reported),
		TEST(protection_changes_keep_the_marks),
		TEST(more_regions_than_fit_are_all_reported),
		TEST(one_byte_in_a_huge_page_is_one_page),
		TEST(sparse_memory_costs_no_page_tables),
		TEST(inaccessible_memory_can_be_registered),
		TEST(unprotecting_makes_every_page_read_as_written),
		TEST(memory_that_is_not_registered_is_refused),
		TEST(registering_again_says_that_it_is_ours),
		TEST(moving_a_mapping_ends_its_registration),
		TEST(a_dropped_copy_of_a_file_page_reads_as_clean),
		TEST(a_forked_child_is_not_tracked_and_the_parent_stays_so),
		TEST(no_privilege_is_needed),
		TEST(memory_that_is_gone_is_told),
		TEST(closing_the_last_descriptor_ends_it_all),
		TEST(written_bytes_are_counted_without_a_reset),
		TEST(an_armed_zero_page_is_not_reported),
		TEST(an_armed_guard_page_is_not_reported),
		TEST(pages_on_swap_are_reported),
		TEST(changes_near_and_far_are_reported),
		TEST(memory_registered_in_part_is_refused),
		TEST(little_room_is_enough),
	};

	harness_lacks = kernel_lacks_wp_async();
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
