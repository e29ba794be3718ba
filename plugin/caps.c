// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "caps.h"
#include "lib/page.h"
#include "lib/sys_pagemap.h"
#include "lib/sys_uffd.h"
#include "lib/uapi.h"

struct probe {
	int pidfd;
	int uffd;
	int pagemap;
	char *page;
	const char *missing;
};

/* Collect the page. Return: 1 if it has been written since, 0 if not, or -errno. */
static int collect(const struct probe *p)
{
	struct page_region reg;
	struct wptrack_scan scan = {
		.start = (uintptr_t)p->page,
		.end = (uintptr_t)p->page + wptrack_page_bytes(),
		.regs = &reg,
		.max_regs = 1,
	};
	int err = wptrack_pagemap_collect(p->pagemap, &scan);

	if (err)
		return err;
	if (scan.nr_regs != 1)
		return -ENODATA;
	return !!(reg.categories & PAGE_IS_WRITTEN);
}

static int expect(struct probe *p, int want, const char *what)
{
	int got = collect(p);

	if (got == want)
		return 0;
	p->missing = what;
	return got < 0 ? got : -EOPNOTSUPP;
}

static int try_tracking(struct probe *p)
{
	uint64_t start = (uintptr_t)p->page, end = start + wptrack_page_bytes();
	volatile char *byte = p->page;
	int err;

	p->missing = "registration of memory with a userfaultfd";
	err = wptrack_uffd_register(p->uffd, start, end);
	if (err)
		return err;

	*byte = 1;
	err = expect(p, 1, "PAGEMAP_SCAN that reports written pages (Linux 6.7)");
	if (!err)
		err = expect(p, 0, "PAGEMAP_SCAN that re-arms written pages (Linux 6.7)");
	if (err)
		return err;

	*byte = 2;
	err = expect(p, 1, "write-protection resolved by the kernel");
	if (err)
		return err;

	p->missing = "un-protecting memory";
	err = wptrack_uffd_unprotect(p->uffd, start, end);
	if (err)
		return err;
	return expect(p, 1, p->missing);
}

static int open_all(struct probe *p)
{
	int err, fd;

	p->missing = "pidfd_open(2) and pidfd_getfd(2) (Linux 5.6)";
	p->pidfd = wptrack_pidfd_open(getpid());
	if (p->pidfd < 0)
		return p->pidfd;
	fd = wptrack_pidfd_getfd(p->pidfd, p->pidfd);
	if (fd < 0)
		return fd;
	close(fd);

	p->missing = "userfaultfd(2)";
	p->uffd = wptrack_uffd_create();
	if (p->uffd < 0)
		return p->uffd;

	p->missing = "UFFD_FEATURE_WP_ASYNC (Linux 6.7, on an architecture that has it)";
	err = wptrack_uffd_enable(p->uffd);
	if (err)
		return err;

	p->missing = "/proc/PID/pagemap";
	p->pagemap = wptrack_pagemap_open(getpid());
	if (p->pagemap < 0)
		return p->pagemap;

	p->missing = "memory";
	p->page = mmap(NULL, wptrack_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p->page == MAP_FAILED ? -errno : 0;
}

int wptrack_caps_probe(const char **ret_missing)
{
	static int result = 1;
	static const char *missing;
	struct probe p = { .pidfd = -1, .uffd = -1, .pagemap = -1, .page = MAP_FAILED };

	if (result == 1) {
		result = open_all(&p);
		if (!result)
			result = try_tracking(&p);
		missing = p.missing;

		/*
		 * If all went well the page stays registered until we end: it is
		 * where CRIU learns what the flags of a tracked mapping look like.
		 */
		if (result && p.page != MAP_FAILED)
			munmap(p.page, wptrack_page_bytes());
		if (result && p.uffd >= 0)
			close(p.uffd);
		if (p.pagemap >= 0)
			close(p.pagemap);
		if (p.pidfd >= 0)
			close(p.pidfd);
	}

	if (result)
		*ret_missing = missing;
	return result;
}
