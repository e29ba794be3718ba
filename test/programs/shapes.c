// SPDX-License-Identifier: GPL-2.0-only
/*
 * shapes --control FILE [--slot N]: address spaces that change shape between
 * rounds. Each step does to every region what its name says, and a journal
 * knows what each page must hold afterwards. Along the way a child is forked,
 * one executes a new program and one exits.
 *
 * FILE.data is made beside the control file and mapped privately.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define PAGE	    4096ul
#define WORDS	    (PAGE / sizeof(uint64_t))
#define HUGE	    (2ul << 20)
#define MAX_PAGES   2048u
#define PER_STEP    16u
#define STACK_GAP   64u /* pages below main's frame that calls may use */
#define STACK_STEP  16u
#define BRK_STEP    32u
#define STEP_FORK   1
#define STEP_EXEC   2
#define STEP_EXIT   3
#define STEP_THREAD 2

struct region {
	const char *name;
	char *addr;
	unsigned int pages;
	uint64_t *seed; /* what each page holds; 0: zeroes */
	char *middle;	/* where the middle third is, when it is away */
	int (*setup)(struct region *r);
	int (*step)(struct region *r);
};

static struct control *ctl;
static struct control_slot *slot;
static const char *control_path;
static unsigned int slot_nr;
static unsigned int step_nr;
static uint64_t seed_next;
static char *stack_top;
static char data_path[4096];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned int pick(unsigned int n)
{
	uint64_t x = ++seed_next * 0x9e3779b97f4a7c15ull;

	return (unsigned int)((x ^ x >> 29) >> 7) % n;
}

static uint64_t word(uint64_t seed, size_t i)
{
	return seed ? seed * 0xd1342543de82ef95ull + i : 0;
}

static uint64_t *page_addr(const struct region *r, unsigned int page)
{
	unsigned int third = r->pages / 3;

	if (r->middle && page >= third && page < 2 * third)
		return (uint64_t *)(r->middle + (page - third) * PAGE);
	return (uint64_t *)(r->addr + page * PAGE);
}

static void write_page(struct region *r, unsigned int page)
{
	uint64_t *p = page_addr(r, page);

	r->seed[page] = ++seed_next;
	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(r->seed[page], i);
	atomic_fetch_add(&slot->writes, 1);
}

static void write_some(struct region *r)
{
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page(r, pick(r->pages));
}

static void write_all(struct region *r)
{
	for (unsigned int i = 0; i < r->pages; i++)
		write_page(r, i);
}

static char *map_anon(void *at, size_t size, int flags)
{
	return mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/* A hole in the address space, aligned as a huge page, that nothing else takes. */
static char *reserve(size_t size)
{
	char *p = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : (char *)(((uintptr_t)p + HUGE - 1) / HUGE * HUGE);
}

static int setup_anon(struct region *r)
{
	r->addr = map_anon(NULL, r->pages * PAGE, 0);
	if (r->addr == MAP_FAILED)
		return -errno;
	write_all(r);
	return 0;
}

static int step_nothing(struct region *r)
{
	(void)r;
	return 0;
}

static int step_write(struct region *r)
{
	write_some(r);
	return 0;
}

/* Pages go away; some of them come back written, some as holes. */
static int step_dontneed(struct region *r)
{
	unsigned int first = pick(r->pages / 2), n = r->pages / 4;

	write_some(r);
	if (madvise(r->addr + first * PAGE, n * PAGE, MADV_DONTNEED))
		return -errno;
	memset(r->seed + first, 0, n * sizeof(*r->seed));
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page(r, first + pick(n));
	return 0;
}

/* Another mapping at the same address: what is not written again is zero. */
static int step_replace(struct region *r)
{
	if (munmap(r->addr, r->pages * PAGE))
		return -errno;
	if (map_anon(r->addr, r->pages * PAGE, MAP_FIXED) == MAP_FAILED)
		return -errno;
	memset(r->seed, 0, r->pages * sizeof(*r->seed));
	for (unsigned int i = 0; i < r->pages / 2; i++)
		write_page(r, pick(r->pages));
	return 0;
}

static int step_vanish(struct region *r)
{
	if (munmap(r->addr, r->pages * PAGE))
		return -errno;
	r->pages = 64 + pick(128);
	return setup_anon(r);
}

static int setup_reserved(struct region *r)
{
	char *area = reserve(4 * HUGE);

	if (!area)
		return -ENOMEM;
	r->addr = map_anon(area, r->pages * PAGE, MAP_FIXED);
	if (r->addr == MAP_FAILED)
		return -errno;
	write_all(r);
	return 0;
}

/* Move a mapping. The place it leaves stays reserved, or another region's would be put there. */
static int move(char *from, size_t size, char *to)
{
	if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
		return -errno;
	if (mmap(from, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/* To and fro between two places aligned alike, so that the kernel can move whole page tables. */
static int step_move(struct region *r)
{
	char *to = step_nr % 2 ? r->addr + HUGE : r->addr - HUGE;
	int err = move(r->addr, r->pages * PAGE, to);

	if (err)
		return err;
	r->addr = to;
	write_some(r);
	return 0;
}

/*
 * The middle third leaves in one step and comes back in the next: where it
 * merges with its neighbours again the kernel drops the registration of all
 * three, with the marks in the page tables left as they are.
 */
static int step_merge(struct region *r)
{
	size_t size = r->pages / 3 * PAGE;
	char *home = r->addr + size, *away = r->addr + 2 * HUGE;
	int err = r->middle ? move(away, size, home) : move(home, size, away);

	if (err)
		return err;
	r->middle = r->middle ? NULL : away;
	write_some(r);
	return 0;
}

static int step_grow(struct region *r)
{
	unsigned int more = r->pages + PER_STEP;
	char *p;

	if (more > MAX_PAGES)
		return 0;
	p = mremap(r->addr, r->pages * PAGE, more * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return -errno;
	r->addr = p;
	while (r->pages < more)
		write_page(r, r->pages++);
	write_some(r);
	return 0;
}

static int step_brk(struct region *r)
{
	char *p = sbrk((intptr_t)(BRK_STEP * PAGE));

	/* Somebody else has moved the break: begin anew behind it, the old pages stay unchecked. */
	if (p == (void *)-1)
		return -errno;
	if (p != r->addr + r->pages * PAGE) {
		r->addr = p;
		r->pages = 0;
	}
	for (unsigned int i = 0; i < BRK_STEP && r->pages < MAX_PAGES; i++)
		write_page(r, r->pages++);
	write_some(r);
	return 0;
}

static int setup_brk(struct region *r)
{
	char *p = sbrk(0);
	size_t odd = (uintptr_t)p % PAGE;

	if (odd && sbrk((intptr_t)(PAGE - odd)) == (void *)-1)
		return -errno;
	r->addr = sbrk(0);
	r->pages = 0;
	return step_brk(r);
}

/* The stack grows by being touched further down; r->addr is its lowest page. */
static int step_stack(struct region *r)
{
	if (r->pages + STACK_STEP > MAX_PAGES / 2)
		return 0;
	memmove(r->seed + STACK_STEP, r->seed, r->pages * sizeof(*r->seed));
	r->addr -= STACK_STEP * PAGE;
	r->pages += STACK_STEP;
	for (unsigned int i = STACK_STEP; i-- > 0;)
		write_page(r, i);
	write_some(r);
	return 0;
}

static int setup_stack(struct region *r)
{
	r->addr = stack_top - STACK_GAP * PAGE;
	r->pages = 0;
	return step_stack(r);
}

static int setup_huge(struct region *r)
{
	r->addr = reserve(r->pages * PAGE);
	if (!r->addr)
		return -ENOMEM;
	if (map_anon(r->addr, r->pages * PAGE, MAP_FIXED) == MAP_FAILED)
		return -errno;
	/* Where huge pages are not to be had the region is one like others. */
	if (madvise(r->addr, r->pages * PAGE, MADV_HUGEPAGE) && errno != EINVAL)
		return -errno;
	write_all(r);
	return 0;
}

/* Written, then read-only until the next step. */
static int step_readonly(struct region *r)
{
	if (mprotect(r->addr, r->pages * PAGE, PROT_READ | PROT_WRITE))
		return -errno;
	write_some(r);
	return mprotect(r->addr, r->pages * PAGE, PROT_READ) ? -errno : 0;
}

static int setup_shared(struct region *r)
{
	r->addr = mmap(NULL, r->pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r->addr == MAP_FAILED)
		return -errno;
	write_all(r);
	return 0;
}

/* Only its maker writes shared memory and knows what it holds. */
static int step_shared(struct region *r)
{
	if (slot_nr == 0)
		write_some(r);
	return 0;
}

static uint64_t file_seed(unsigned int page)
{
	return 0x66696c65ull + page;
}

static int write_data_file(unsigned int pages)
{
	FILE *f = fopen(data_path, "we");
	int ret = 0;

	if (!f)
		return -errno;
	for (unsigned int page = 0; page < pages && !ret; page++)
		for (size_t i = 0; i < WORDS && !ret; i++) {
			uint64_t w = word(file_seed(page), i);

			if (fwrite(&w, sizeof(w), 1, f) != 1)
				ret = -EIO;
		}
	if (fclose(f))
		ret = -EIO;
	return ret;
}

static int setup_file(struct region *r)
{
	int fd, err;

	snprintf(data_path, sizeof(data_path), "%s.data", control_path);
	if (slot_nr == 0) {
		err = write_data_file(r->pages);
		if (err)
			return err;
	}
	fd = open(data_path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r->addr = mmap(NULL, r->pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	err = r->addr == MAP_FAILED ? -errno : 0;
	close(fd);
	for (unsigned int page = 0; page < r->pages; page++)
		r->seed[page] = file_seed(page);
	if (!err)
		write_some(r);
	return err;
}

/* Pages copied on write are dropped: the file's own content shows again. */
static int step_file(struct region *r)
{
	unsigned int first = pick(r->pages / 2), n = r->pages / 4;

	write_some(r);
	if (madvise(r->addr + first * PAGE, n * PAGE, MADV_DONTNEED))
		return -errno;
	for (unsigned int page = first; page < first + n; page++)
		r->seed[page] = file_seed(page);
	write_page(r, first + pick(n));
	return 0;
}

static struct region regions[] = {
	{ .name = "steady", .pages = 512, .setup = setup_anon, .step = step_nothing },
	{ .name = "written", .pages = 512, .setup = setup_anon, .step = step_write },
	{ .name = "dontneed", .pages = 256, .setup = setup_anon, .step = step_dontneed },
	{ .name = "replaced", .pages = 128, .setup = setup_anon, .step = step_replace },
	{ .name = "vanishing", .pages = 128, .setup = setup_anon, .step = step_vanish },
	{ .name = "moved", .pages = 256, .setup = setup_reserved, .step = step_move },
	{ .name = "merged", .pages = 384, .setup = setup_reserved, .step = step_merge },
	{ .name = "grown", .pages = 64, .setup = setup_anon, .step = step_grow },
	{ .name = "brk", .setup = setup_brk, .step = step_brk },
	{ .name = "stack", .setup = setup_stack, .step = step_stack },
	{ .name = "huge", .pages = 2 * HUGE / PAGE, .setup = setup_huge, .step = step_write },
	{ .name = "readonly", .pages = 128, .setup = setup_anon, .step = step_readonly },
	{ .name = "shared", .pages = 128, .setup = setup_shared, .step = step_shared },
	{ .name = "file", .pages = 256, .setup = setup_file, .step = step_file },
	/* The last one belongs to the thread. */
	{ .name = "thread", .pages = 128, .setup = setup_anon, .step = step_nothing },
};

#define NR_REGIONS    (sizeof(regions) / sizeof(regions[0]))
#define THREAD_REGION (&regions[NR_REGIONS - 1])

static bool page_is_right(const struct region *r, unsigned int page)
{
	const uint64_t *p = page_addr(r, page);

	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != word(r->seed[page], i))
			return false;
	return true;
}

static void verify(struct control_slot *s)
{
	uint64_t checked = 0, bad = 0;
	const void *first = NULL;

	pthread_mutex_lock(&lock);
	for (struct region *r = regions; r < regions + NR_REGIONS; r++) {
		uint64_t before = bad;

		/* A child knows nothing of what its parent writes to shared memory. */
		if (slot_nr && r->setup == setup_shared)
			continue;
		for (unsigned int page = 0; page < r->pages; page++, checked++) {
			if (page_is_right(r, page))
				continue;
			bad++;
			if (!first)
				first = page_addr(r, page);
		}
		if (bad != before)
			fprintf(stderr, "shapes: slot %u step %u: %s: %lu bad pages\n", slot_nr, step_nr, r->name,
				(unsigned long)(bad - before));
	}
	pthread_mutex_unlock(&lock);
	control_report(s, checked, bad, 0, first);
}

static void *write_forever(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_mutex_lock(&lock);
		write_page(THREAD_REGION, pick(THREAD_REGION->pages));
		pthread_mutex_unlock(&lock);
		steps_nap_ms(2);
	}
	return NULL;
}

static int step(void);

static void serve_and_exit(void)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };

	steps_serve(ctl, slot, &ops);
	_exit(0);
}

static int fork_child(unsigned int nr)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		pthread_mutex_init(&lock, NULL);
		slot_nr = nr;
		slot = control_take_slot(ctl, nr);
		seed_next += (uint64_t)nr << 48;
		serve_and_exit();
	}
	return 0;
}

static int exec_anew(void)
{
	char nr[16];

	snprintf(nr, sizeof(nr), "%u", slot_nr);
	execl("/proc/self/exe", "shapes", "--control", control_path, "--slot", nr, (char *)NULL);
	return -errno;
}

/* What happens to processes, apart from their memory. */
static int step_processes(void)
{
	static pthread_t thread;

	if (slot_nr == 0 && step_nr == STEP_FORK)
		return fork_child(2);
	if (slot_nr == 0 && step_nr == STEP_THREAD)
		return -pthread_create(&thread, NULL, write_forever, NULL);
	if (slot_nr == 1 && step_nr == STEP_EXEC)
		return exec_anew();
	if (slot_nr == 2 && step_nr == STEP_EXIT) {
		atomic_store(&slot->state, CONTROL_GONE);
		_exit(0);
	}
	return 0;
}

static int step(void)
{
	int err = 0;

	step_nr++;
	pthread_mutex_lock(&lock);
	for (struct region *r = regions; r < regions + NR_REGIONS && !err; r++) {
		err = r->step(r);
		if (err)
			fprintf(stderr, "shapes: slot %u step %u: %s: %s\n", slot_nr, step_nr, r->name, strerror(-err));
	}
	pthread_mutex_unlock(&lock);
	return err ? err : step_processes();
}

static int setup(void)
{
	for (struct region *r = regions; r < regions + NR_REGIONS; r++) {
		int err;

		r->seed = calloc(MAX_PAGES, sizeof(*r->seed));
		err = r->seed ? r->setup(r) : -ENOMEM;
		if (err) {
			fprintf(stderr, "shapes: %s: %s\n", r->name, strerror(-err));
			return err;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	char here;

	if ((argc != 3 && argc != 5) || strcmp(argv[1], "--control")) {
		fprintf(stderr, "usage: shapes --control FILE [--slot N]\n");
		return 2;
	}
	control_path = argv[2];
	stack_top = (char *)((uintptr_t)&here / PAGE * PAGE);
	if (control_map(control_path, false, &ctl))
		return 1;
	/* Children that exit leave nothing to wait for. */
	signal(SIGCHLD, SIG_IGN);
	if (argc == 5) {
		slot_nr = (unsigned int)atoi(argv[4]) % CONTROL_SLOTS;
		/* Later steps are those of a process that has done the earlier ones. */
		step_nr = STEP_EXEC;
	}
	slot = control_take_slot(ctl, slot_nr);
	seed_next = (uint64_t)slot_nr << 48;
	if (setup())
		return 1;
	if (slot_nr == 0 && fork_child(1))
		return 1;
	serve_and_exit();
}
