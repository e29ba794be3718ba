/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory that is tracked, and what collecting it has found. */
#ifndef WPTRACK_TEST_AREA_H
#define WPTRACK_TEST_AREA_H

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/harness.h"
#include "lib/sys_pagemap.h"
#include "lib/sys_uffd.h"
#include "lib/uapi.h"

#define PAGE	 4096ul
#define MAX_REGS 512

#ifndef COLLECT
#define COLLECT wptrack_pagemap_collect
#endif

/* Memory of our own with a userfaultfd. */
struct area {
	int uffd;
	int pagemap;
	char *mem;
	size_t size;
};

/* Pages of a collect, in order. */
struct found {
	unsigned int written;
	unsigned int clean;
};

static void area_end(struct area *a)
{
	if (a->mem)
		munmap(a->mem, a->size);
	if (a->uffd >= 0)
		close(a->uffd);
	if (a->pagemap >= 0)
		close(a->pagemap);
}

#define AREA(name) struct area name __attribute__((cleanup(area_end))) = { .uffd = -1, .pagemap = -1 }

static int area_open(struct area *a)
{
	int err;

	a->uffd = wptrack_uffd_create();
	if (a->uffd < 0)
		return a->uffd;
	err = wptrack_uffd_enable(a->uffd);
	if (err)
		return err;
	a->pagemap = wptrack_pagemap_open(getpid());
	return a->pagemap < 0 ? a->pagemap : 0;
}

/* Map, write all of it or nothing, register and un-protect as the tracker does. */
static int area_start(struct area *a, size_t size, int flags, bool populate)
{
	uint64_t start;
	int err;

	err = area_open(a);
	if (err)
		return err;
	a->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	if (a->mem == MAP_FAILED) {
		a->mem = NULL;
		return -errno;
	}
	a->size = size;
	if (populate)
		memset(a->mem, 1, size);

	start = (uintptr_t)a->mem;
	err = wptrack_uffd_register(a->uffd, start, start + size);
	if (!err)
		err = wptrack_uffd_unprotect(a->uffd, start, start + size);
	return err;
}

static int collect(const struct area *a, struct found *found)
{
	static struct page_region regs[MAX_REGS];
	struct wptrack_scan scan = {
		.start = (uintptr_t)a->mem,
		.end = (uintptr_t)a->mem + a->size,
		.regs = regs,
		.max_regs = MAX_REGS,
	};
	unsigned int i;
	int err;

	*found = (struct found){ 0 };
	for (; scan.start < scan.end; scan.start = scan.next) {
		err = COLLECT(a->pagemap, &scan);
		if (err)
			return err;
		for (i = 0; i < scan.nr_regs; i++) {
			unsigned int pages = (regs[i].end - regs[i].start) / PAGE;

			if (regs[i].categories & PAGE_IS_WRITTEN)
				found->written += pages;
			else
				found->clean += pages;
		}
	}
	return 0;
}

/* What the kernel says it does not know, and all is built upon; NULL if it does. */
static inline const char *kernel_lacks_wp_async(void)
{
	int uffd = wptrack_uffd_create();
	int err = uffd < 0 ? uffd : wptrack_uffd_enable(uffd);

	if (uffd >= 0)
		close(uffd);
	return err == -EINVAL ? "this kernel has no UFFD_FEATURE_WP_ASYNC" : NULL;
}

#define CHECK_FOUND(area, want_written, want_clean)     \
	do {                                            \
		struct found found_;                    \
		CHECK_EQ(collect(&(area), &found_), 0); \
		CHECK_EQ(found_.written, want_written); \
		CHECK_EQ(found_.clean, want_clean);     \
	} while (0)

#endif
