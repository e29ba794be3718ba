// SPDX-License-Identifier: GPL-2.0-only
/*
 * protflip --control FILE --idle|--busy: memory that is written, then made
 * inaccessible, then accessible again. Idle, each step turns every region the
 * other way; busy, a thread does so all the time, so that a page may be
 * reported as written and be unreadable when it is to be copied.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "steps.h"

#define PAGE	 4096u
#define WORDS	 (PAGE / sizeof(uint64_t))
#define REGIONS	 8u
#define PAGES	 256u /* per region */
#define PER_TURN 16u

struct region {
	uint64_t *mem;
	bool open;
	uint64_t seed[PAGES]; /* what the page must hold */
};

static struct region region[REGIONS];
static struct control_slot *slot;
static struct control *ctl;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seed_next = 1;

static void write_page(struct region *r, unsigned int page)
{
	uint64_t *p = r->mem + page * WORDS;

	r->seed[page] = ++seed_next;
	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = r->seed[page] * 0x9e3779b97f4a7c15ull + i;
	atomic_fetch_add(&slot->writes, 1);
}

static int set_access(struct region *r, bool open)
{
	if (mprotect(r->mem, (size_t)PAGES * PAGE, open ? PROT_READ | PROT_WRITE : PROT_NONE))
		return -errno;
	r->open = open;
	return 0;
}

/* Open regions are written, then closed; closed ones are opened and written. */
static int turn(struct region *r, bool close_after)
{
	int err = 0;

	if (!r->open)
		err = set_access(r, true);
	for (unsigned int i = 0; i < PER_TURN && !err; i++)
		write_page(r, (unsigned int)((seed_next * 2654435761u >> 7) % PAGES));
	if (!err && close_after)
		err = set_access(r, false);
	return err;
}

static int step(void)
{
	int err = 0;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < REGIONS && !err; i++)
		err = turn(&region[i], region[i].open);
	pthread_mutex_unlock(&lock);
	return err;
}

static void verify_region(const struct region *r, uint64_t *bad, const void **first)
{
	for (unsigned int page = 0; page < PAGES; page++) {
		const uint64_t *p = r->mem + page * WORDS;
		bool good = true;

		for (unsigned int i = 0; i < WORDS; i++)
			good &= p[i] == r->seed[page] * 0x9e3779b97f4a7c15ull + i;
		if (good)
			continue;
		(*bad)++;
		if (!*first)
			*first = p;
	}
}

static void verify(struct control_slot *s)
{
	const void *first = NULL;
	uint64_t bad = 0;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < REGIONS; i++) {
		bool was_open = region[i].open;

		/* A region that cannot be opened counts as lost as a whole. */
		if (set_access(&region[i], true)) {
			bad += PAGES;
			continue;
		}
		verify_region(&region[i], &bad, &first);
		if (!was_open && set_access(&region[i], false))
			bad++;
	}
	pthread_mutex_unlock(&lock);
	control_report(s, (uint64_t)REGIONS * PAGES, bad, 0, first);
}

static void *toggle_forever(void *arg)
{
	unsigned int i = 0;

	(void)arg;
	for (;;) {
		int err;

		pthread_mutex_lock(&lock);
		err = turn(&region[i % REGIONS], i / REGIONS % 2);
		i++;
		pthread_mutex_unlock(&lock);
		if (err)
			atomic_store(&slot->failed, (uint32_t)-err);
		steps_nap_ms(1);
	}
	return NULL;
}

static int setup(void)
{
	for (unsigned int i = 0; i < REGIONS; i++) {
		struct region *r = &region[i];

		r->mem = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (r->mem == MAP_FAILED)
			return -errno;
		for (unsigned int page = 0; page < PAGES; page++)
			write_page(r, page);
		/* Half of them start closed. */
		if (set_access(r, i % 2))
			return -errno;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	pthread_t thread;

	if (argc != 4 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: protflip --control FILE --idle|--busy\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	if (setup())
		return 1;
	if (!strcmp(argv[3], "--busy") && pthread_create(&thread, NULL, toggle_forever, NULL))
		return 1;
	steps_serve(ctl, slot, &ops);
	_exit(0);
}
