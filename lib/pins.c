// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controls.h"
#include "mm_flags.h"
#include "page.h"
#include "pins.h"
#include "proc.h"

/* How often the machine's counts are read until nobody pins anything meanwhile. */
#define QUIET_TRIES 4

/* VmPin counts what is registered with an io_uring, by anybody: all but what wptrack_proc_may_pin_uncounted() tells. */
static bool vmpin_is_whole;
/* The kernel's mark on a memory of which a page has been pinned; 0: not known. */
static uint64_t pinned_once;
static bool mark_was_tried;

/* Is this memory of ours pinned as by a device? An io_uring holds it until it is closed. */
static int register_with_ring(void *page)
{
	struct iovec buffer = { .iov_base = page, .iov_len = wptrack_page_bytes() };
	struct io_uring_params params = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params), err;

	if (ring < 0)
		return -errno;
	if (!syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1))
		return ring;
	err = -errno;
	close(ring);
	return err;
}

static int read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n > 0 && len < size - 1) {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0)
			err = -errno;
		else
			len += n;
	}
	close(fd);
	buf[len] = '\0';
	/* What is cut off would be missed. */
	return err ? err : len == size - 1 ? -EFBIG : 0;
}

/* Has this process what makes some kernels count nothing: CAP_IPC_LOCK, in the first user namespace? */
static bool may_lock_memory(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	unsigned int inside, outside, count;
	char map[256];

	if (syscall(SYS_capget, &head, caps) || !(caps[0].effective & (1u << CAP_IPC_LOCK)))
		return false;
	return !read_text("/proc/self/uid_map", map, sizeof(map)) &&
	       sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && !inside && !outside && count == UINT32_MAX;
}

/* A kernel without io_uring has no such file, and nothing that VmPin could miss. */
static bool kernel_has_no_io_uring(void)
{
	return !access("/proc/sys/kernel/osrelease", F_OK) && access("/proc/sys/kernel/io_uring_disabled", F_OK) &&
	       errno == ENOENT;
}

/*
 * Linux 7.2 counts nothing of what a process with CAP_IPC_LOCK registers with an
 * io_uring. Whoever has not that capability cannot find out what becomes of the
 * memory of those who have it.
 */
static bool try_vmpin(void)
{
	uint64_t before, after = 0;
	void *page;
	int ring;

	if (kernel_has_no_io_uring())
		return true;
	if (!may_lock_memory() || wptrack_proc_pinned(getpid(), &before))
		return false;

	page = mmap(NULL, wptrack_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return false;
	ring = register_with_ring(page);
	if (ring >= 0) {
		if (wptrack_proc_pinned(getpid(), &after))
			after = 0;
		close(ring);
	}
	munmap(page, wptrack_page_bytes());
	return after > before;
}

/* Reading the memory of another process pins it for a moment. */
static int pin_once(pid_t pid, void *page)
{
	char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 }, remote = { .iov_base = page, .iov_len = 1 };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1 ? 0 : -errno;
}

static uint64_t learn_of_child(pid_t child, void *page)
{
	uint64_t before, after, fresh;

	if (wptrack_mm_flags_read(child, &before) || pin_once(child, page) || wptrack_mm_flags_read(child, &after))
		return 0;
	fresh = before ^ after;
	/* One bit, and one that was not set before. */
	return fresh && !(fresh & (fresh - 1)) && (after & fresh) ? fresh : 0;
}

/*
 * Which flag is it? A child of ours, whose memory is as new as it has to be, is
 * looked at before and after a page of it was pinned. It ends when we do.
 */
static uint64_t learn_pinned_once(void)
{
	uint64_t bit = 0;
	int hold[2];
	void *page;
	pid_t pid;
	char c;

	if (pipe2(hold, O_CLOEXEC))
		return 0;
	page = mmap(NULL, wptrack_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	pid = page == MAP_FAILED ? -1 : fork();
	if (!pid) {
		close(hold[1]);
		_exit(read(hold[0], &c, 1) != 0);
	}
	if (pid > 0) {
		bit = learn_of_child(pid, page);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (page != MAP_FAILED)
		munmap(page, wptrack_page_bytes());
	close(hold[0]);
	close(hold[1]);
	return bit;
}

/* A kernel that does not count, for tests on those that do: lib/controls.h. */
static bool pretend_uncounted(void)
{
	return wptrack_control("vmpin-uncounted") || wptrack_control("pins-by-machine") ||
	       wptrack_control("pins-unproven") || wptrack_control("trust-vmpin");
}

int wptrack_pins_parse_vmstat(const char *text, uint64_t *ret_acquired, uint64_t *ret_released)
{
	const char *acquired = strstr(text, "\nnr_foll_pin_acquired "), *released = strstr(text, "\nnr_foll_pin_released ");
	uint64_t a, r;

	if (!acquired || !released || sscanf(acquired, "\nnr_foll_pin_acquired %" SCNu64, &a) != 1 ||
	    sscanf(released, "\nnr_foll_pin_released %" SCNu64, &r) != 1)
		return -EBADMSG;
	*ret_acquired = a;
	*ret_released = r;
	return 0;
}

bool wptrack_pins_miscounted(const char *filesystems)
{
	/* Those whose O_DIRECT goes through the kernel's old common code, which doubles pins without counting that. */
	static const char *const types[] = { "adfs", "affs", "bfs", "exfat", "hfs", "hfsplus", "jfs", "msdos", "nilfs2",
					     "ntfs3", "ocfs2", "omfs", "reiserfs", "sysv", "udf", "ufs", "vfat" };
	const char *line, *name;
	size_t len;

	for (line = filesystems; *line; line += len + (line[len] == '\n')) {
		len = strcspn(line, "\n");
		name = memchr(line, '\t', len);
		if (!name)
			continue;
		name++;
		for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++)
			if (strlen(types[i]) == (size_t)(line + len - name) && !memcmp(types[i], name, line + len - name))
				return true;
	}
	return false;
}

static int count_pins(uint64_t *ret_acquired, uint64_t *ret_released)
{
	char text[32768];
	int err;

	/* Each CPU has counts of its own, which are added up by this. */
	err = read_text("/proc/sys/vm/stat_refresh", text, sizeof(text));
	if (!err)
		err = read_text("/proc/vmstat", text, sizeof(text));
	return err ? err : wptrack_pins_parse_vmstat(text, ret_acquired, ret_released);
}

/*
 * Is nothing pinned on the whole machine? CPUs are not asked at the same moment,
 * so the sums are believed only if nobody has pinned anything between two askings.
 */
static bool machine_has_no_pins(void)
{
	uint64_t acquired, released, acquired_then, released_then;
	char text[8192];

	if (wptrack_control("pins-unproven") || read_text("/proc/filesystems", text, sizeof(text)) ||
	    wptrack_pins_miscounted(text) || count_pins(&acquired_then, &released_then))
		return false;

	for (int i = 0; i < QUIET_TRIES; i++) {
		if (count_pins(&acquired, &released))
			return false;
		if (acquired == released && acquired == acquired_then && released == released_then)
			return true;
		acquired_then = acquired;
		released_then = released;
	}
	return false;
}

/* Get at the kernel's mark, by which what VmPin does not count is told. That takes some 20 ms. */
static void learn_mark(void)
{
	mark_was_tried = true;
	if (!wptrack_control("pins-by-machine") && !wptrack_control("pins-unproven") && !wptrack_mm_flags_open() &&
	    !pinned_once)
		pinned_once = learn_pinned_once();
}

const char *wptrack_pins_start(void)
{
	vmpin_is_whole = pretend_uncounted() ? wptrack_control("trust-vmpin") : try_vmpin();
	/* Few have what it does not count: then the mark is learned. */
	if (vmpin_is_whole)
		return "VmPin";

	learn_mark();
	return pinned_once ? "the kernel's mark on memory that was ever pinned, and the machine's counts" :
			     "the machine's counts of pins alone";
}

void wptrack_pins_stop(void)
{
	wptrack_mm_flags_close();
	mark_was_tried = false;
}

enum wptrack_pins wptrack_pins_of(pid_t pid)
{
	uint64_t bytes, flags;
	int err;

	err = wptrack_proc_pinned(pid, &bytes);
	if (err == -ESRCH)
		return WPTRACK_PINS_GONE;
	if (err || (bytes && !pretend_uncounted()))
		return WPTRACK_PINS_POSSIBLE;
	if (vmpin_is_whole && (wptrack_control("all-is-counted") || !wptrack_proc_may_pin_uncounted(pid)))
		return WPTRACK_PINS_NONE;
	if (!mark_was_tried) {
		if (machine_has_no_pins())
			return WPTRACK_PINS_NONE;
		learn_mark();
	}
	if (pinned_once && !wptrack_mm_flags_read(pid, &flags) && !(flags & pinned_once))
		return WPTRACK_PINS_NEVER;
	return machine_has_no_pins() ? WPTRACK_PINS_NONE : WPTRACK_PINS_POSSIBLE;
}
