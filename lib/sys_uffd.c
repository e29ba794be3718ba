// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "page.h"
#include "sys_uffd.h"
#include "uapi.h"

/* Above every mmap_min_addr, a multiple of every page size, and next to never mapped. */
#define PROBE_ADDRESS 0x100000ull

int wptrack_uffd_flags(void)
{
	return O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
}

int wptrack_uffd_create(void)
{
	int fd = syscall(SYS_userfaultfd, wptrack_uffd_flags());

	return fd < 0 ? -errno : fd;
}

int wptrack_uffd_enable(int uffd)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
	};

	return ioctl(uffd, UFFDIO_API, &api) ? -errno : 0;
}

int wptrack_uffd_register(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = {
		.range = { .start = start, .len = end - start },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int wptrack_uffd_unregister(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_range range = { .start = start, .len = end - start };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

int wptrack_uffd_unprotect(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = start, .len = end - start },
	};
	int ret;

	do {
		/* -EAGAIN: the mappings are changing right now */
		ret = ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (ret && errno == EAGAIN);

	return ret ? -errno : 0;
}

/* Should the page be registered after all, it counts as written once more, which is safe. */
bool wptrack_uffd_memory_is_gone(int uffd)
{
	struct uffdio_writeprotect probe = {
		.range = { .start = PROBE_ADDRESS, .len = wptrack_page_bytes() },
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &probe) && errno == ESRCH;
}

int wptrack_pidfd_open(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int wptrack_pidfd_getfd(int pidfd, int remote_fd)
{
	int fd = syscall(SYS_pidfd_getfd, pidfd, remote_fd, 0);

	return fd < 0 ? -errno : fd;
}
