// SPDX-License-Identifier: GPL-2.0-only
/*
 * aioring --control FILE: holds some pages and a ring for asynchronous I/O,
 * through which the kernel may write to memory unseen. Every step writes some
 * pages; the second one gives the ring up.
 */
#include <linux/aio_abi.h>
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

static int step(void)
{
	step_nr++;
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page((step_nr * 97 + i * 31) % PAGES);
	if (step_nr == 2 && syscall(SYS_io_destroy, ring))
		return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	struct control *ctl;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: aioring --control FILE\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || syscall(SYS_io_setup, 16, &ring)) {
		perror("aioring");
		return 1;
	}
	for (unsigned int i = 0; i < PAGES; i++)
		write_page(i);
	steps_serve(ctl, slot, &ops);
	return 0;
}
