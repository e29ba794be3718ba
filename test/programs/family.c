// SPDX-License-Identifier: GPL-2.0-only
/*
 * family --control FILE [--processes N]: a tree of processes, each of which has
 * children of its own while there are some to be had. All have three blocks: one
 * that is common at first, one that each has inherited and then written anew, and
 * one of its own that grows. A step writes some pages of each, of the first one
 * others in each process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define PAGE		4096ull
#define COMMON		2048u
#define REWRITTEN	2048u
#define OWN		512u
#define OWN_MAX		1024u
#define PER_STEP	24u
#define PER_STEP_COMMON 8u

struct block {
	uint64_t *at;
	unsigned int pages;
	uint64_t seed[2048];
};

static struct control *ctl;
static struct control_slot *slot;
static unsigned int slot_nr, step_nr, processes = 4;
static struct block common, rewritten, own;

static void write_page(struct block *b, unsigned int i)
{
	uint64_t *p = b->at + i * PAGE / sizeof(*p);

	b->seed[i] = ((uint64_t)slot_nr << 48) + ((uint64_t)step_nr << 32) + i + 1;
	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		p[w] = b->seed[i] * 0x9e3779b97f4a7c15ull + w;
}

static bool page_is_right(const struct block *b, unsigned int i)
{
	const uint64_t *p = b->at + i * PAGE / sizeof(*p);

	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		if (p[w] != b->seed[i] * 0x9e3779b97f4a7c15ull + w)
			return false;
	return true;
}

static int map_block(struct block *b, unsigned int pages)
{
	b->at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->at == MAP_FAILED)
		return -errno;
	b->pages = pages;
	/* Huge pages are shared or not as a whole. */
	if (madvise(b->at, pages * PAGE, MADV_NOHUGEPAGE) && errno != EINVAL)
		return -errno;
	for (unsigned int i = 0; i < pages; i++)
		write_page(b, i);
	return 0;
}

static void verify(struct control_slot *s)
{
	const struct block *blocks[] = { &common, &rewritten, &own };
	uint64_t checked = 0, bad = 0;
	const void *first = NULL;

	for (unsigned int b = 0; b < 3; b++) {
		for (unsigned int i = 0; i < blocks[b]->pages; i++, checked++) {
			if (page_is_right(blocks[b], i))
				continue;
			bad++;
			if (!first)
				first = blocks[b]->at + i * PAGE / sizeof(uint64_t);
		}
	}
	control_report(s, checked, bad, 0, first);
}

static int step(void)
{
	unsigned int more = own.pages + PER_STEP;
	void *p;

	step_nr++;
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page(&rewritten, (step_nr * 131 + i * 61) % REWRITTEN);
	for (unsigned int i = 0; i < PER_STEP_COMMON; i++)
		write_page(&common, (step_nr * 97 + slot_nr * 173 + i * 7) % COMMON);
	if (more > OWN_MAX)
		return 0;
	p = mremap(own.at, own.pages * PAGE, more * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return -errno;
	own.at = p;
	while (own.pages < more)
		write_page(&own, own.pages++);
	return 0;
}

/* Process N has the processes 2N + 1 and 2N + 2 below it. */
static int fork_children(void)
{
	for (unsigned int c = 2 * slot_nr + 1; c <= 2 * slot_nr + 2 && c < processes; c++) {
		pid_t pid = fork();

		if (pid < 0)
			return -errno;
		if (!pid) {
			slot_nr = c;
			slot = control_take_slot(ctl, slot_nr);
			for (unsigned int i = 0; i < REWRITTEN; i++)
				write_page(&rewritten, i);
			return fork_children();
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	const char *control = NULL;
	int err;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--processes"))
			processes = (unsigned int)strtoul(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--control"))
			control = argv[i + 1];
	}
	if (!control || !processes || processes > CONTROL_SLOTS || argc % 2 == 0) {
		fprintf(stderr, "usage: family --control FILE [--processes N]\n");
		return 2;
	}
	err = control_map(control, false, &ctl);
	if (!err) {
		slot = control_take_slot(ctl, 0);
		err = map_block(&common, COMMON);
	}
	if (!err)
		err = map_block(&rewritten, REWRITTEN);
	if (!err)
		err = fork_children();
	if (!err)
		err = map_block(&own, OWN);
	if (err) {
		fprintf(stderr, "family: %s\n", strerror(-err));
		return 1;
	}
	steps_serve(ctl, slot, &ops);
	return 0;
}
