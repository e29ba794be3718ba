// SPDX-License-Identifier: GPL-2.0-only
/*
 * aioring --control FILE [--uring | --thread]: holds some pages and a ring for
 * asynchronous I/O, through which the kernel may write to memory unseen: of
 * libaio's kind, an io_uring, or an io_uring that only a thread has open, in
 * descriptors of its own. Every step writes some pages; the second one gives the
 * ring up.
 */
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
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

static int wait_for_thread(void)
{
	while (thread_err == -1)
		steps_nap_ms(1);
	return thread_err;
}

static int open_ring(const char *kind)
{
	pthread_t thread;
	int err;

	if (!kind)
		return syscall(SYS_io_setup, 16, &ring) ? errno : 0;
	if (!strcmp(kind, "--uring"))
		return open_uring();
	err = pthread_create(&thread, NULL, hold_uring, NULL);
	return err ? err : wait_for_thread();
}

static int close_ring(void)
{
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
		fprintf(stderr, "usage: aioring --control FILE [--uring | --thread]\n");
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
