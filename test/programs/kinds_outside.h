/* SPDX-License-Identifier: GPL-2.0-only */
/* Cases of kinds: what processes outside of the tree do to its memory. */
#ifndef WPTRACK_TEST_KINDS_OUTSIDE_H
#define WPTRACK_TEST_KINDS_OUTSIDE_H

#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "kinds_maps.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define HELPER_STACK (64 * 1024)

/* ---------------------------------------------------------------- writers */

static int poke_vm(struct state *s, pid_t pid)
{
	uint64_t page[WORDS];
	struct iovec local = { .iov_base = page, .iov_len = PAGE };
	struct iovec remote = { .iov_len = PAGE };

	row_renew(s, FIRST);
	page_image(&s->row[FIRST], page);
	remote.iov_base = (void *)(uintptr_t)s->row[FIRST].at;
	return process_vm_writev(pid, &local, 1, &remote, 1, 0) == (ssize_t)PAGE ? 0 : -errno;
}

static int poke_proc_mem(struct state *s, pid_t pid)
{
	uint64_t page[WORDS];
	char path[64];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	row_renew(s, FIRST);
	page_image(&s->row[FIRST], page);
	err = pwrite(fd, page, PAGE, (off_t)s->row[FIRST].at) == (ssize_t)PAGE ? 0 : -errno;
	close(fd);
	return err;
}

/* Kernels may let only a debugger do that (proc_mem.force_override). */
static int poke_readonly_proc_mem(struct state *s, pid_t pid)
{
	int err = poke_proc_mem(s, pid);

	return err == -EIO ? cannot(s, "this kernel does not let memory that is read-only be written by /proc/PID/mem") : err;
}

static int poke_ptrace(struct state *s, pid_t pid)
{
	uint64_t page[WORDS];
	int status, err = 0;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) ||
	    waitpid(pid, &status, __WALL) != pid)
		return -errno;
	row_renew(s, FIRST);
	page_image(&s->row[FIRST], page);
	for (size_t i = 0; i < WORDS && !err; i++)
		if (ptrace(PTRACE_POKEDATA, pid, (void *)(uintptr_t)(s->row[FIRST].at + i * 8), (void *)page[i]))
			err = -errno;
	return ptrace(PTRACE_DETACH, pid, NULL, NULL) ? -errno : err;
}

/* ---------------------------------------------------------------- migration */

#define FRAGMENTED 1024u

/* Every other page is given back, which leaves the kernel something to tidy up. */
static int setup_fragmented(struct state *s)
{
	int err = area(s, FRAGMENTED, FRAGMENTED, 0);

	(void)!madvise(s->a, FRAGMENTED * PAGE, MADV_NOHUGEPAGE);
	rows_add(s, s->a, FRAGMENTED);
	rows_write(s, 0, FRAGMENTED);
	for (unsigned int i = 0; i < FRAGMENTED && !err; i += 2) {
		rows_drop(s, i, 1);
		err = madvise(s->a + i * PAGE, PAGE, MADV_DONTNEED) ? -errno : 0;
	}
	return err;
}

static int read_frames(const struct state *s, pid_t pid, uint64_t frames[FRAGMENTED])
{
	char path[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = pread(fd, frames, FRAGMENTED * sizeof(*frames), (off_t)((uintptr_t)s->a / PAGE * sizeof(*frames)));
	close(fd);
	return len == FRAGMENTED * sizeof(*frames) ? 0 : -EIO;
}

static int compact(struct state *s, pid_t pid)
{
	uint64_t before[FRAGMENTED], after[FRAGMENTED];
	unsigned int i = 0;
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC), err;

	if (fd < 0)
		return cannot(s, "no compaction: %s", strerror(errno));
	err = read_frames(s, pid, before);
	if (!err && write(fd, "1", 1) != 1)
		err = -errno;
	close(fd);
	if (!err)
		err = read_frames(s, pid, after);
	if (err)
		return err;
	/* Bits 0 to 54 are the frame. */
	while (i < FRAGMENTED && !((before[i] ^ after[i]) << 9))
		i++;
	return i < FRAGMENTED ? 0 : cannot(s, "compaction moved none of the pages");
}

/* ---------------------------------------------------------------- holders */

static bool is_alive(pid_t pid)
{
	return !kill(pid, 0);
}

/* Hold whatever it is until told otherwise, or until there is nobody to hold it of. */
static int hold(pid_t of, int err)
{
	atomic_store(&book->held, err ? 2 : 1);
	while (!err && !atomic_load(&book->unhold) && is_alive(of))
		steps_nap_ms(2);
	return 0;
}

static int wait_until_held(struct state *s, const char *what)
{
	while (!atomic_load(&book->held))
		steps_nap_ms(1);
	return atomic_load(&book->held) == 2 ? cannot(s, "%s", what) : 0;
}

struct helper {
	pid_t of;
	char *buffer;
	size_t len;
};

/*
 * Runs in the memory of the program, but is no relative of it: pages are pinned
 * as by a driver, with nothing to be seen of it but VmPin.
 */
static int pin(void *arg)
{
	const struct helper *h = arg;
	struct iovec buffer = { .iov_base = h->buffer, .iov_len = h->len };
	struct io_uring_params params = { 0 };
	int fd, err = 0;

	setsid();
	fd = (int)syscall(SYS_io_uring_setup, 4, &params);
	if (fd < 0 || syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &buffer, 1) < 0)
		err = -errno;
	hold(h->of, err);
	_exit(0);
}

/* Room for the helper's stack is behind what is in the book. */
static int setup_pinned(struct state *s)
{
	int err = area(s, PAGES, PAGES + HELPER_STACK / PAGE, 0);

	return err ? err : fill(s);
}

static int pin_some(struct state *s)
{
	static struct helper helper;
	char *stack = s->a + PAGES * PAGE;

	helper = (struct helper){ .of = getpid(), .buffer = s->a, .len = 8 * PAGE };
	if (map_at(stack, HELPER_STACK / PAGE, RW, 0))
		return -ENOMEM;
	if (clone(pin, stack + HELPER_STACK, CLONE_VM | CLONE_PARENT | SIGCHLD, &helper) < 0)
		return -errno;
	book->full_until = 4; /* this round and two on top of it: an io_uring of a guest counts as the program's */
	return wait_until_held(s, "pages can't be pinned through io_uring");
}

static int unpin(struct state *s)
{
	char status[4096];
	ssize_t len;
	int fd;

	(void)s;
	atomic_store(&book->unhold, 1);
	/* The pin goes some time after the ring. */
	do {
		steps_nap_ms(2);
		fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
		len = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
		if (fd >= 0)
			close(fd);
		status[len < 0 ? 0 : len] = '\0';
	} while (len > 0 && !strstr(status, "VmPin:\t       0 kB"));
	return len > 0 ? 0 : -EIO;
}

static int make_uffd(struct state *s)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)s->a, .len = PAGES * PAGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -errno;
	return fd;
}

static int setup_own_uffd(struct state *s)
{
	int err = setup_anon(s);

	if (err)
		return err;
	err = make_uffd(s);
	return err < 0 ? err : 0;
}

/* The descriptor leaves with a process that is no relative: what stays is a registration that is not ours. */
static int setup_foreign_uffd(struct state *s)
{
	char number[16], self[16];
	int err = setup_anon(s), fd;
	pid_t pid;

	if (err)
		return err;
	fd = make_uffd(s);
	if (fd < 0)
		return fd;
	snprintf(number, sizeof(number), "%d", fd);
	snprintf(self, sizeof(self), "%d", getpid());
	if (fcntl(fd, F_SETFD, 0))
		return -errno;
	pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		execl("/proc/self/exe", "kinds", "--control", control_path, "--hold", self, (char *)NULL);
		_exit(1);
	}
	close(fd);
	return pid < 0 ? -errno : wait_until_held(s, "no helper");
}

/* A ring of our own, with its descriptor and mappings. */
static int setup_uring(struct state *s)
{
	struct io_uring_params params = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0)
		return cannot(s, "io_uring: %s", strerror(errno));
	s->b = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
	if (s->b == MAP_FAILED)
		return -errno;
	return setup_anon(s);
}

/*
 * A ring in memory of the program's own (IORING_SETUP_NO_MMAP): no mapping tells of
 * it, and what completes is written by the kernel through a mapping of its own.
 * The page in the middle of the completions is written by nobody else.
 */
#define RING_NO_MMAP	(1u << 14)
#define RING_CQES	1024u
#define RING_PAGES	5u
#define RING_COMPLETION 17u

static struct io_uring_params ring;

static int setup_own_ring(struct state *s)
{
	int err = setup_anon(s), fd;

	ring = (struct io_uring_params){ .flags = RING_NO_MMAP | IORING_SETUP_CQSIZE, .cq_entries = RING_CQES };
	memset(s->a, 0, PAGE);
	memset(s->a + 16 * PAGE, 0, RING_PAGES * PAGE);
	/* user_addr, where the kernel's header knows it */
	ring.sq_off.resv2 = (uintptr_t)s->a;
	ring.cq_off.resv2 = (uintptr_t)(s->a + 16 * PAGE);
	fd = err ? -1 : (int)syscall(SYS_io_uring_setup, 64, &ring);
	if (fd < 0)
		return err ? err : cannot(s, "io_uring in memory of one's own: %s", strerror(errno));
	s->b = (char *)(intptr_t)fd;
	/* It is closed before round 3, whose pages its requests may still write to. */
	book->full_until = 4;
	rows_flag(s, 0, 1, OPAQUE, 0);
	rows_flag(s, 16, RING_PAGES, OPAQUE, 0);
	return 0;
}

/* Requests that do nothing but complete, enough of them to fill more than a page. */
static int complete_some(struct state *s)
{
	struct io_uring_sqe *sqes = (struct io_uring_sqe *)s->a;
	char *rings = s->a + 16 * PAGE;
	_Atomic uint32_t *tail = (_Atomic uint32_t *)(rings + ring.sq_off.tail);
	_Atomic uint32_t *seen = (_Atomic uint32_t *)(rings + ring.cq_off.head);

	for (unsigned int n = 0; n < 512; n += 64) {
		for (unsigned int i = 0; i < 64; i++) {
			sqes[i] = (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = ~0ull };
			((uint32_t *)(rings + ring.sq_off.array))[i] = i;
		}
		atomic_fetch_add(tail, 64);
		if (syscall(SYS_io_uring_enter, (int)(intptr_t)s->b, 64, 64, IORING_ENTER_GETEVENTS, NULL, 0) != 64)
			return -EIO;
		atomic_fetch_add(seen, 64);
	}
	rows_flag(s, 0, 1, TOUCHED, 0);
	rows_flag(s, 16, RING_PAGES, TOUCHED, 0);
	rows_flag(s, RING_COMPLETION, 1, DIRTY, TOUCHED | OPAQUE);
	s->row[RING_COMPLETION].seed = SEED_COMPLETIONS;
	return row_is_right(&s->row[RING_COMPLETION]) ? 0 : -EIO;
}

static int close_ring(struct state *s)
{
	return close((int)(intptr_t)s->b) ? -errno : 0;
}

static int setup_secret(struct state *s)
{
#ifdef SYS_memfd_secret
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#else
	int fd = -1;
#endif

	if (fd < 0 || ftruncate(fd, PAGES * PAGE))
		return cannot(s, "memfd_secret: %s", strerror(errno));
	s->a = mmap(NULL, PAGES * PAGE, RW, MAP_SHARED, fd, 0);
	if (s->a == MAP_FAILED)
		return -errno;
	close(fd);
	fill(s);
	rows_flag(s, 0, PAGES, OPAQUE, 0);
	return 0;
}

#endif
