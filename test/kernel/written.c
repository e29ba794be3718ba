// SPDX-License-Identifier: GPL-2.0-only
/*
 * What reads as "written" though nobody has written it differs between kernels:
 * holes of registered mappings (all of them, none, or those below a page table,
 * and changed by fixes in 2026, also of stable series), and memory that is not
 * registered (Linux 7.3 ends that). The tracker's scans have to come out the
 * same everywhere. Two lines "NOTE ..." say what this kernel does.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "lib/sys_pagemap.h"

static int (*collector)(int pagemap_fd, struct wptrack_scan *scan);
#define COLLECT collector
#include "area.h"

#define HUGE (2ul << 20)
/* In pagemap: write-protected by a userfaultfd, be it a page or a marker for one. */
#define MARKED (1ull << 57)

/* Pages of the map: */
enum {
	DROPPED_ARMED = 2, /* populated, collected, given back */
	DROPPED_FRESH = 4, /* populated, given back before it was collected */
	NEVER = 6,	   /* a hole beside populated pages */
	KEPT = 8,	   /* populated, and collected */
	PAGES = 16,
	FAR = 3 * HUGE / PAGE, /* a hole where no page table is */
	ALL = 4 * HUGE / PAGE,
};

static const unsigned int holes[] = { DROPPED_ARMED, DROPPED_FRESH, NEVER, FAR };
#define NR_HOLES (sizeof(holes) / sizeof(holes[0]))

static char *page(const struct area *a, unsigned int nr)
{
	return a->mem + nr * PAGE;
}

/* Does the page read as written? For that, the kernel is asked for nothing else. */
static int reads_as_written(const struct area *a, const char *at)
{
	struct page_region reg;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)at,
		.end = (uintptr_t)at + PAGE,
		.vec = (uintptr_t)&reg,
		.vec_len = 1,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret = ioctl(a->pagemap, PAGEMAP_SCAN, &arg);

	return ret < 0 ? -errno : ret;
}

static bool is_marked(const struct area *a, const char *at)
{
	uint64_t entry = 0;

	return pread(a->pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE * sizeof(entry))) == sizeof(entry) &&
	       entry & MARKED;
}

/* A mapping with a hole of each kind, all that is populated collected. Two pages at the end are not in the count. */
static int area_with_holes(struct area *a)
{
	struct found found;
	int err = area_start(a, ALL * PAGE, MAP_NORESERVE, false);

	if (err)
		return err;
	(void)!madvise(a->mem, a->size, MADV_NOHUGEPAGE);
	for (unsigned int i = 0; i < PAGES; i++)
		if (i != NEVER)
			*page(a, i) = 1;
	if (madvise(page(a, DROPPED_FRESH), PAGE, MADV_DONTNEED))
		return -errno;
	err = collect(a, &found);
	if (!err && (found.written != PAGES - 2 || found.clean))
		return -ENODATA;
	if (!err && madvise(page(a, DROPPED_ARMED), PAGE, MADV_DONTNEED))
		return -errno;
	return err;
}

static void holes_are_not_reported_whatever_they_read_as(void)
{
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	CHECK_FOUND(a, 0, PAGES - 3);
	CHECK_FOUND(a, 0, PAGES - 3);
}

static void holes_are_not_armed_by_a_collect(void)
{
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	CHECK_FOUND(a, 0, PAGES - 3);
	for (unsigned int i = 0; i < NR_HOLES; i++)
		CHECK(!is_marked(&a, page(&a, holes[i])));
	/* That it would be seen */
	CHECK(is_marked(&a, page(&a, KEPT)));
}

static void a_hole_that_is_written_is_reported_once(void)
{
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	for (unsigned int i = 0; i < NR_HOLES; i++) {
		*page(&a, holes[i]) = 2;
		CHECK_FOUND(a, 1, PAGES - 3 + i);
		CHECK_FOUND(a, 0, PAGES - 3 + i + 1);
	}
}

/* A marker is put there by who arms holes: the tracker does not, as it is told apart from a page on swap by nothing. */
static void a_marked_hole_that_is_written_is_reported(void)
{
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	for (unsigned int i = 0; i < NR_HOLES; i++) {
		struct uffdio_writeprotect wp = {
			.range = { .start = (uintptr_t)page(&a, holes[i]), .len = PAGE },
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		CHECK(!ioctl(a.uffd, UFFDIO_WRITEPROTECT, &wp));
		CHECK(is_marked(&a, page(&a, holes[i])));
	}
	for (unsigned int i = 0; i < NR_HOLES; i++)
		*page(&a, holes[i]) = 2;
	CHECK_FOUND(a, NR_HOLES, PAGES - 3);
	CHECK_FOUND(a, 0, PAGES - 3 + NR_HOLES);
}

static void holes_are_no_written_bytes(void)
{
	uint64_t bytes = 1;
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	CHECK_EQ(wptrack_pagemap_written(a.pagemap, &bytes), 0);
	CHECK_EQ(bytes, 0);
	*page(&a, NEVER) = 3;
	CHECK_EQ(wptrack_pagemap_written(a.pagemap, &bytes), 0);
	CHECK_EQ(bytes, PAGE);
}

static void holes_do_not_count_as_armed(void)
{
	struct page_region regs[16];
	uint64_t next;
	int nr, pages = 0;
	AREA(a);

	CHECK_EQ(area_with_holes(&a), 0);
	nr = wptrack_pagemap_armed(a.pagemap, (uintptr_t)a.mem, (uintptr_t)a.mem + a.size, regs, 16, &next);
	CHECK(nr > 0);
	for (int i = 0; i < nr; i++) {
		pages += (int)((regs[i].end - regs[i].start) / PAGE);
		for (unsigned int h = 0; h < NR_HOLES; h++) {
			const uint64_t hole = (uintptr_t)page(&a, holes[h]);

			CHECK(hole < regs[i].start || hole >= regs[i].end);
		}
	}
	CHECK_EQ(pages, PAGES - 3);
}

/* A huge page that was armed is given back: a hole above the page tables. Return: where it was, NULL without huge pages. */
static char *dropped_huge_page(struct area *a)
{
	struct found found;
	char *huge;

	if (area_start(a, 2 * HUGE, 0, false))
		return NULL;
	huge = (char *)(((uintptr_t)a->mem + HUGE - 1) & ~(HUGE - 1));
	if (madvise(huge, HUGE, MADV_HUGEPAGE))
		return NULL;
	memset(huge, 1, HUGE);
	if (collect(a, &found) || found.written != HUGE / PAGE || madvise(huge, HUGE, MADV_DONTNEED))
		return NULL;
	return huge;
}

static void a_dropped_huge_page_is_a_hole_as_any(void)
{
	struct found found;
	char *huge;
	AREA(a);

	huge = dropped_huge_page(&a);
	if (!huge)
		SKIP("no transparent huge pages here");
	CHECK_FOUND(a, 0, 0);
	CHECK(!is_marked(&a, huge) && !is_marked(&a, huge + 100 * PAGE));
	huge[100 * PAGE] = 2;
	CHECK_EQ(collect(&a, &found), 0);
	/* The kernel may bring all of it back. */
	CHECK(found.written >= 1);
	CHECK_EQ(found.clean, 0);
	CHECK_FOUND(a, 0, found.written);
}

/* What is not registered is dirty, whether it reads as written or not. */
static void memory_that_is_not_registered_is_never_clean(void)
{
	struct page_region regs[4];
	struct found found;
	uint64_t bytes = 1, at;
	char *other;
	AREA(a);

	CHECK_EQ(area_start(&a, 4 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 4, 0);
	other = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(other != MAP_FAILED);
	memset(other, 1, 4 * PAGE);
	CHECK_EQ(wptrack_pagemap_is_armable(a.pagemap, (uintptr_t)other), 0);
	CHECK_EQ(wptrack_pagemap_find(a.pagemap, (uintptr_t)other, (uintptr_t)other + PAGE, false, &at), 0);
	CHECK_EQ(wptrack_pagemap_armed(a.pagemap, (uintptr_t)other, (uintptr_t)other + 4 * PAGE, regs, 4, &at), 0);
	CHECK_EQ(wptrack_pagemap_written(a.pagemap, &bytes), 0);
	CHECK_EQ(bytes, 0);
	munmap(a.mem, a.size);
	a.mem = other;
	CHECK_EQ(collect(&a, &found), -EPERM);
	CHECK_EQ(found.clean, 0);
}

/* It was registered and armed, and is so no more. */
static void memory_that_lost_its_registration_is_never_clean(void)
{
	struct uffdio_range range;
	struct found found;
	AREA(a);

	CHECK_EQ(area_start(&a, 4 * PAGE, 0, true), 0);
	CHECK_FOUND(a, 4, 0);
	range = (struct uffdio_range){ .start = (uintptr_t)a.mem, .len = a.size };
	CHECK(!ioctl(a.uffd, UFFDIO_UNREGISTER, &range));
	CHECK_EQ(collect(&a, &found), -EPERM);
	CHECK_EQ(found.clean, 0);
	/* Registered anew as the tracker does, all of it is written. */
	CHECK_EQ(wptrack_uffd_register(a.uffd, range.start, range.start + range.len), 0);
	CHECK_EQ(wptrack_uffd_unprotect(a.uffd, range.start, range.start + range.len), 0);
	CHECK_FOUND(a, 4, 0);
}

/* Why shared memory is not tracked: this is what must not be believed. */
static void a_shared_page_whose_entry_is_gone_is_not_reported(void)
{
	struct found found;
	AREA(a);

	CHECK_EQ(area_open(&a), 0);
	a.size = 4 * PAGE;
	a.mem = mmap(NULL, a.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(a.mem != MAP_FAILED);
	CHECK_EQ(wptrack_uffd_register(a.uffd, (uintptr_t)a.mem, (uintptr_t)a.mem + a.size), 0);
	memset(a.mem, 7, a.size);
	CHECK_EQ(madvise(a.mem, a.size, MADV_DONTNEED), 0);
	CHECK_EQ(collect(&a, &found), 0);
	CHECK_EQ(a.mem[0], 7);
	if (found.written)
		SKIP("this kernel reports what has no page table entry: shared memory could be tracked");
}

static void take_notes(void)
{
	char *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *huge;
	AREA(a);
	AREA(b);

	collector = wptrack_pagemap_collect;
	if (other == MAP_FAILED || area_with_holes(&a))
		return;
	*other = 1;
	huge = dropped_huge_page(&b);
	printf("NOTE holes of registered memory that read as written: dropped %d, dropped before %d, beside pages %d, far %d, huge %d\n",
	       reads_as_written(&a, page(&a, DROPPED_ARMED)), reads_as_written(&a, page(&a, DROPPED_FRESH)),
	       reads_as_written(&a, page(&a, NEVER)), reads_as_written(&a, page(&a, FAR)),
	       huge ? reads_as_written(&b, huge) : -1);
	printf("NOTE memory that is not registered reads as written: %d\n", reads_as_written(&a, other));
	munmap(other, PAGE);
}

#define BOTH(function)                                            \
	static void function##_by_changes(void)                   \
	{                                                         \
		collector = wptrack_pagemap_collect_changes;      \
		function();                                       \
		collector = wptrack_pagemap_collect;              \
	}

BOTH(holes_are_not_reported_whatever_they_read_as)
BOTH(holes_are_not_armed_by_a_collect)
BOTH(a_hole_that_is_written_is_reported_once)
BOTH(a_marked_hole_that_is_written_is_reported)
BOTH(a_dropped_huge_page_is_a_hole_as_any)
BOTH(memory_that_is_not_registered_is_never_clean)
BOTH(memory_that_lost_its_registration_is_never_clean)

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(holes_are_not_reported_whatever_they_read_as),
		TEST(holes_are_not_reported_whatever_they_read_as_by_changes),
		TEST(holes_are_not_armed_by_a_collect),
		TEST(holes_are_not_armed_by_a_collect_by_changes),
		TEST(a_hole_that_is_written_is_reported_once),
		TEST(a_hole_that_is_written_is_reported_once_by_changes),
		TEST(a_marked_hole_that_is_written_is_reported),
		TEST(a_marked_hole_that_is_written_is_reported_by_changes),
		TEST(holes_are_no_written_bytes),
		TEST(holes_do_not_count_as_armed),
		TEST(a_dropped_huge_page_is_a_hole_as_any),
		TEST(a_dropped_huge_page_is_a_hole_as_any_by_changes),
		TEST(memory_that_is_not_registered_is_never_clean),
		TEST(memory_that_is_not_registered_is_never_clean_by_changes),
		TEST(memory_that_lost_its_registration_is_never_clean),
		TEST(memory_that_lost_its_registration_is_never_clean_by_changes),
		TEST(a_shared_page_whose_entry_is_gone_is_not_reported),
	};

	harness_lacks = kernel_lacks_wp_async();
	if (!harness_lacks)
		take_notes();
	collector = wptrack_pagemap_collect;
	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
