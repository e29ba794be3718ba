// SPDX-License-Identifier: GPL-2.0-only
/*
 * aioring --control FILE [HOW]: holds some pages and a ring for asynchronous I/O,
 * through which the kernel may write to memory unseen: of libaio's kind, an
 * io_uring (--uring), or an io_uring that only a thread has open, in descriptors
 * of its own (--thread). Or it has a guest: a process outside of its tree that is
 * in its memory, with an io_uring (--guest-uring), a file open with O_DIRECT
 * (--guest-direct), a userfaultfd (--guest-uffd), or nothing of that kind
 * (--guest). Every step writes some pages; the second one gives the ring up, or
 * ends the guest.
 */
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "steps.h"

#define PAGE	 4096ul
#define PAGES	 1024u
#define PER_STEP 16u

static uint64_t (*pages)[PAGE / sizeof(uint64_t)];
static uint64_t expected[PAGES];
static unsigned int step_nr;
static aio_context_t ring;
static int uring = -1;
static _Atomic int thread_err = -1; /* -1: at work */
static _Atomic bool close_it;
static pid_t guest;

static void write_page(unsigned int i)
{
	expected[i] = ((uint64_t)step_nr << 32) + i + 1;
	for (size_t w = 0; w < PAGE / sizeof(uint64_t); w++)
		pages[i][w] = expected[i] + w;
}

static void verify(struct control_slot *s)
{
	uint64_t bad = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		for (size_t w = 0; w < PAGE / sizeof(uint64_t); w++)
			if (pages[i][w] != expected[i] + w) {
				bad++;
				break;
			}
	control_report(s, PAGES, bad, 0, NULL);
}

/* It is not mapped: CRIU would refuse that. */
static int open_uring(void)
{
	struct io_uring_params params = { 0 };

	uring = (int)syscall(SYS_io_uring_setup, 8, &params);
	return uring < 0 ? errno : 0;
}

static void *hold_uring(void *unused)
{
	(void)unused;
	thread_err = unshare(CLONE_FILES) ? errno : open_uring();
	while (!close_it)
		steps_nap_ms(1);
	thread_err = close(uring) ? errno : 0;
	/* It stays, with its own descriptors. */
	for (;;)
		steps_nap_ms(1000);
	return NULL;
}

static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	return fd < 0 || ioctl(fd, UFFDIO_API, &api) ? errno : 0;
}

/* It goes on writing to the host's memory, as guests do. Its descriptors end with it. */
static int be_guest(void *kind)
{
	int err = 0;

	if (!strcmp(kind, "--guest-uring"))
		err = open_uring();
	else if (!strcmp(kind, "--guest-direct"))
		err = open("/proc/self/exe", O_RDONLY | O_DIRECT | O_CLOEXEC) < 0 ? errno : 0;
	else if (!strcmp(kind, "--guest-uffd"))
		err = open_uffd();
	thread_err = err;
	while (!close_it)
		steps_nap_ms(1);
	syscall(SYS_exit_group, 0);
	return 0;
}

static int start_guest(char *kind)
{
	const size_t size = 64 * PAGE;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return errno;
	/* Whoever has started this program is its parent, too, and waits for it. */
	guest = clone(be_guest, stack + size, CLONE_VM | CLONE_PARENT | SIGCHLD, kind);
	if (guest < 0)
		return errno;
	while (thread_err == -1)
		steps_nap_ms(1);
	return thread_err;
}

static int end_guest(void)
{
	close_it = true;
	while (!kill(guest, 0))
		steps_nap_ms(1);
	return 0;
}

static int wait_for_thread(void)
{
	while (thread_err == -1)
		steps_nap_ms(1);
	return thread_err;
}

static int open_ring(char *kind)
{
	pthread_t thread;
	int err;

	if (!kind)
		return syscall(SYS_io_setup, 16, &ring) ? errno : 0;
	if (!strcmp(kind, "--uring"))
		return open_uring();
	if (!strncmp(kind, "--guest", 7))
		return start_guest(kind);
	err = pthread_create(&thread, NULL, hold_uring, NULL);
	return err ? err : wait_for_thread();
}

static int close_ring(void)
{
	if (guest)
		return end_guest();
	if (ring)
		return syscall(SYS_io_destroy, ring) ? errno : 0;
	if (thread_err == -1)
		return close(uring) ? errno : 0;
	thread_err = -1;
	close_it = true;
	return wait_for_thread();
}

static int step(void)
{
	step_nr++;
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page((step_nr * 97 + i * 31) % PAGES);
	return step_nr == 2 ? -close_ring() : 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	struct control *ctl;
	int err;

	if (argc < 3 || argc > 4 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: aioring --control FILE [--uring | --thread | --guest[-uring | -direct | -uffd]]\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	err = pages == MAP_FAILED ? errno : open_ring(argv[3]);
	if (err) {
		fprintf(stderr, "aioring: %s\n", strerror(err));
		return err == ENOSYS || err == EPERM ? 77 : 1;
	}
	for (unsigned int i = 0; i < PAGES; i++)
		write_page(i);
	steps_serve(ctl, slot, &ops);
	return 0;
}
