// SPDX-License-Identifier: GPL-2.0-only
/*
 * barescan PID START END [FILE]: what the kernel takes, and nobody can save, to
 * tell the written pages of a range that is registered: prints "key value" lines
 *
 *	read_ns  a PAGEMAP_SCAN for WRITTEN pages that changes nothing
 *	scan_ns  one that lists all populated pages and re-arms the written ones,
 *	         with the arguments that the plugin uses
 *	copy_ns  the written pages read from the process and written to FILE
 *	pages    how many these were
 *
 * in this order, as the second leaves nothing written. Without FILE nothing is
 * copied: a first call arms the range.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/uapi.h"

#define PAGE	 4096ull
#define MAX_REGS (1u << 20)
/* As many as process_vm_readv takes. */
#define MAX_IOVS 1024

struct scan {
	int pagemap;
	uint64_t start, end;
	struct page_region *regs;
	size_t nr_regs;
	uint64_t ns;
};

static void die(const char *what)
{
	fprintf(stderr, "barescan: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One call for the whole range: more regions than the vector has are an error. */
static void do_scan(struct scan *scan, struct pm_scan_arg *arg)
{
	uint64_t start;
	int ret;

	arg->size = sizeof(*arg);
	arg->start = scan->start;
	arg->end = scan->end;
	arg->vec = (uintptr_t)scan->regs;
	arg->vec_len = MAX_REGS;
	start = wptrack_now_ns();
	ret = ioctl(scan->pagemap, PAGEMAP_SCAN, arg);
	scan->ns = wptrack_now_ns() - start;
	if (ret < 0)
		die("PAGEMAP_SCAN");
	if (ret == MAX_REGS) {
		errno = E2BIG;
		die("regions");
	}
	scan->nr_regs = (size_t)ret;
}

static void read_written(struct scan *scan)
{
	struct pm_scan_arg arg = {
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	do_scan(scan, &arg);
}

static void scan_and_arm(struct scan *scan)
{
	const uint64_t boring = PAGE_IS_PFNZERO | PAGE_IS_FILE;
	struct pm_scan_arg arg = {
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.category_inverted = boring,
		.category_mask = boring,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};

	do_scan(scan, &arg);
}

/* The regions that were written, as iovecs. Return: how many. */
static size_t written_iovs(const struct scan *scan, struct iovec *iov, size_t *ret_bytes)
{
	size_t nr = 0, bytes = 0;

	for (size_t i = 0; i < scan->nr_regs; i++) {
		const struct page_region *reg = &scan->regs[i];

		if (!(reg->categories & PAGE_IS_WRITTEN))
			continue;
		iov[nr].iov_base = (void *)(uintptr_t)reg->start;
		iov[nr++].iov_len = reg->end - reg->start;
		bytes += reg->end - reg->start;
	}
	*ret_bytes = bytes;
	return nr;
}

static void write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t ret = write(fd, buf, len);

		if (ret <= 0)
			die("write");
		buf += ret;
		len -= (size_t)ret;
	}
}

static void copy(pid_t pid, const struct iovec *iov, size_t nr, char *buf, int fd)
{
	for (size_t i = 0; i < nr; i += MAX_IOVS) {
		size_t len = 0, n = nr - i < MAX_IOVS ? nr - i : MAX_IOVS;
		struct iovec local;
		ssize_t ret;

		for (size_t k = i; k < i + n; k++)
			len += iov[k].iov_len;
		local = (struct iovec){ .iov_base = buf, .iov_len = len };
		ret = process_vm_readv(pid, &local, 1, iov + i, n, 0);
		if (ret < 0 || (size_t)ret != len)
			die("process_vm_readv");
		write_all(fd, buf, len);
	}
}

/* Return: nanoseconds. */
static uint64_t copy_written(pid_t pid, const struct scan *scan, const char *path, size_t *ret_bytes)
{
	struct iovec *iov = calloc(scan->nr_regs + 1, sizeof(*iov));
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t start;
	size_t nr;
	char *buf;

	if (!iov || fd < 0)
		die(path);
	nr = written_iovs(scan, iov, ret_bytes);
	buf = malloc(*ret_bytes + 1);
	if (!buf)
		die("malloc");
	/* The buffer's pages are not what is measured; the file's are part of any dump. */
	memset(buf, 1, *ret_bytes);
	start = wptrack_now_ns();
	copy(pid, iov, nr, buf, fd);
	start = wptrack_now_ns() - start;
	free(buf);
	free(iov);
	close(fd);
	return start;
}

int main(int argc, char **argv)
{
	struct scan scan = { 0 };
	uint64_t read_ns, copy_ns = 0;
	char path[64];
	size_t bytes = 0;
	pid_t pid;

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: barescan PID START END [FILE]\n");
		return 2;
	}
	pid = atoi(argv[1]);
	scan.start = strtoull(argv[2], NULL, 0);
	scan.end = strtoull(argv[3], NULL, 0);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	scan.pagemap = open(path, O_RDONLY | O_CLOEXEC);
	scan.regs = calloc(MAX_REGS, sizeof(*scan.regs));
	if (scan.pagemap < 0 || !scan.regs)
		die(path);
	/* Nor are the vector's pages. */
	memset(scan.regs, 1, MAX_REGS * sizeof(*scan.regs));
	read_written(&scan);
	read_ns = scan.ns;
	scan_and_arm(&scan);
	if (argc == 5)
		copy_ns = copy_written(pid, &scan, argv[4], &bytes);
	printf("read_ns %" PRIu64 "\nscan_ns %" PRIu64 "\ncopy_ns %" PRIu64 "\npages %" PRIu64 "\n", read_ns, scan.ns,
	       copy_ns, (uint64_t)(bytes / PAGE));
	return 0;
}
