// SPDX-License-Identifier: GPL-2.0-only
/* What tells of pinned memory, on a kernel that counts it in VmPin and on one that does not. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../unit/harness.h"
#include "lib/mm_flags.h"
#include "lib/pins.h"
#include "lib/proc.h"

#define PAGE 4096ul

/* A child with a page, which it registers with an io_uring when told to, and holds until it is killed. */
struct holder {
	pid_t pid;
	int go[2];
	int done[2];
	char *page;
};

static void holder_end(struct holder *h)
{
	if (h->pid > 0) {
		kill(h->pid, SIGKILL);
		waitpid(h->pid, NULL, 0);
	}
	for (int i = 0; i < 2; i++) {
		if (h->go[i] >= 0)
			close(h->go[i]);
		if (h->done[i] >= 0)
			close(h->done[i]);
	}
	if (h->page)
		munmap(h->page, PAGE);
}

#define HOLDER(name) \
	struct holder name __attribute__((cleanup(holder_end))) = { .pid = -1, .go = { -1, -1 }, .done = { -1, -1 } }

static void hold(const struct holder *h)
{
	struct iovec buffer = { .iov_base = h->page, .iov_len = PAGE };
	struct io_uring_params params = { 0 };
	char err = 0;
	int ring;

	close(h->go[1]);
	if (read(h->go[0], &err, 1) == 1) {
		ring = (int)syscall(SYS_io_uring_setup, 1, &params);
		if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1))
			err = (char)errno;
		if (write(h->done[1], &err, 1) == 1)
			pause();
	}
	_exit(0);
}

static int holder_start(struct holder *h)
{
	if (pipe2(h->go, O_CLOEXEC) || pipe2(h->done, O_CLOEXEC))
		return -errno;
	h->page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (h->page == MAP_FAILED) {
		h->page = NULL;
		return -errno;
	}
	h->pid = fork();
	if (!h->pid)
		hold(h);
	return h->pid < 0 ? -errno : 0;
}

/* Return: 0, or -errno of the io_uring. */
static int holder_pin(const struct holder *h)
{
	char c = 0;

	if (write(h->go[1], &c, 1) != 1 || read(h->done[0], &c, 1) != 1)
		return -EIO;
	return -c;
}

static int read_a_byte(pid_t pid, void *from)
{
	char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 }, remote = { .iov_base = from, .iov_len = 1 };

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == 1 ? 0 : -errno;
}

static void a_pin_marks_a_memory_with_one_flag_for_good(void)
{
	uint64_t before, after, later;
	HOLDER(h);

	if (wptrack_mm_flags_open())
		SKIP("no BPF iterator over tasks");
	CHECK_EQ(holder_start(&h), 0);
	CHECK_EQ(wptrack_mm_flags_read(h.pid, &before), 0);
	CHECK_EQ(read_a_byte(h.pid, h.page), 0);
	CHECK_EQ(wptrack_mm_flags_read(h.pid, &after), 0);
	CHECK_EQ(__builtin_popcountll(before ^ after), 1);
	CHECK_EQ(before & ~after, 0);
	CHECK_EQ(read_a_byte(h.pid, h.page), 0);
	CHECK_EQ(wptrack_mm_flags_read(h.pid, &later), 0);
	CHECK_EQ(later, after);
	wptrack_mm_flags_close();
}

static void a_ring_marks_a_memory_as_any_pin_does(void)
{
	uint64_t before, by_ring, by_reading;
	HOLDER(ring);
	HOLDER(other);
	int err;

	if (wptrack_mm_flags_open())
		SKIP("no BPF iterator over tasks");
	CHECK_EQ(holder_start(&ring), 0);
	CHECK_EQ(holder_start(&other), 0);
	CHECK_EQ(wptrack_mm_flags_read(ring.pid, &before), 0);
	err = holder_pin(&ring);
	if (err == -ENOSYS || err == -EPERM)
		SKIP("no io_uring");
	CHECK_EQ(err, 0);
	CHECK_EQ(wptrack_mm_flags_read(ring.pid, &by_ring), 0);
	CHECK_EQ(read_a_byte(other.pid, other.page), 0);
	CHECK_EQ(wptrack_mm_flags_read(other.pid, &by_reading), 0);
	CHECK((before ^ by_ring) & by_reading);
	CHECK_EQ(__builtin_popcountll(before ^ by_ring), 1);
	wptrack_mm_flags_close();
}

static void a_forked_child_begins_without_the_mark(void)
{
	uint64_t of_child, marked;
	HOLDER(first);
	HOLDER(second);

	if (wptrack_mm_flags_open())
		SKIP("no BPF iterator over tasks");
	CHECK_EQ(holder_start(&first), 0);
	CHECK_EQ(read_a_byte(first.pid, first.page), 0);
	CHECK_EQ(wptrack_mm_flags_read(first.pid, &marked), 0);
	/* Now we are marked ourselves. */
	CHECK_EQ(read_a_byte(getpid(), first.page), 0);
	CHECK_EQ(holder_start(&second), 0);
	CHECK_EQ(wptrack_mm_flags_read(second.pid, &of_child), 0);
	CHECK_EQ(__builtin_popcountll(marked & ~of_child), 1);
	wptrack_mm_flags_close();
}

static int count_pins(uint64_t *acquired, uint64_t *released)
{
	/* All CPUs' counts are added up by reading the first. */
	static const char *const files[] = { "/proc/sys/vm/stat_refresh", "/proc/vmstat" };
	static char text[65536];
	ssize_t len = -1;

	for (int i = 0; i < 2; i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[len < 0 ? 0 : len] = '\0';
	return wptrack_pins_parse_vmstat(text, acquired, released);
}

static void the_machine_counts_pins(void)
{
	uint64_t acquired, released, acquired_then, released_then;
	HOLDER(h);
	int err;

	CHECK_EQ(holder_start(&h), 0);
	CHECK_EQ(count_pins(&acquired_then, &released_then), 0);
	err = holder_pin(&h);
	if (err == -ENOSYS || err == -EPERM)
		SKIP("no io_uring");
	CHECK_EQ(err, 0);
	CHECK_EQ(count_pins(&acquired, &released), 0);
	/* Others may pin and give back meanwhile. */
	CHECK(acquired > acquired_then);
	CHECK(released >= released_then);
}

static void a_ring_is_told_whatever_the_kernel_counts(void)
{
	HOLDER(h);
	int err;

	wptrack_pins_start();
	CHECK_EQ(holder_start(&h), 0);
	err = holder_pin(&h);
	if (err == -ENOSYS || err == -EPERM)
		SKIP("no io_uring");
	CHECK_EQ(err, 0);
	CHECK_EQ(wptrack_pins_of(h.pid), WPTRACK_PINS_POSSIBLE);
	wptrack_pins_stop();
}

static void memory_that_was_never_pinned_is_told(void)
{
	enum wptrack_pins pins;
	HOLDER(h);

	wptrack_pins_start();
	CHECK_EQ(holder_start(&h), 0);
	pins = wptrack_pins_of(h.pid);
	CHECK(pins == WPTRACK_PINS_NONE || pins == WPTRACK_PINS_NEVER);
	wptrack_pins_stop();
}

static void a_process_that_has_gone_has_no_pins(void)
{
	HOLDER(h);
	pid_t pid;

	wptrack_pins_start();
	CHECK_EQ(holder_start(&h), 0);
	pid = h.pid;
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	h.pid = -1;
	CHECK_EQ(wptrack_pins_of(pid), WPTRACK_PINS_GONE);
	wptrack_pins_stop();
}

/* Whoever has an AF_XDP socket, or a device that nothing is known of, may pin what VmPin does not count. */
static void who_may_pin_uncounted_is_told_by_descriptors_and_the_network(void)
{
	int fds[4], device, xdp;

	if (unshare(CLONE_NEWNET))
		SKIP("no network namespace of its own: needs root");
	CHECK_EQ(pipe(fds), 0);
	fds[2] = eventfd(0, 0);
	fds[3] = socket(AF_UNIX, SOCK_STREAM, 0);
	device = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK(fds[2] >= 0 && fds[3] >= 0 && device >= 0);
	CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 0);
	close(device);

	device = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (device >= 0) {
		CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 1);
		close(device);
		CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 0);
	}

	xdp = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (xdp >= 0) {
		/* By both, and by the descriptor alone. */
		CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 1);
		CHECK_EQ(unshare(CLONE_NEWNET), 0);
		CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 1);
		close(xdp);
	}
	CHECK_EQ(wptrack_proc_may_pin_uncounted(getpid()), 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(a_pin_marks_a_memory_with_one_flag_for_good),
		TEST(a_ring_marks_a_memory_as_any_pin_does),
		TEST(a_forked_child_begins_without_the_mark),
		TEST(the_machine_counts_pins),
		TEST(a_ring_is_told_whatever_the_kernel_counts),
		TEST(memory_that_was_never_pinned_is_told),
		TEST(a_process_that_has_gone_has_no_pins),
		TEST(who_may_pin_uncounted_is_told_by_descriptors_and_the_network),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
