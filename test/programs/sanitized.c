// SPDX-License-Identifier: GPL-2.0-only
/*
 * sanitized --control FILE --shape SHAPE [--exec PROGRAM] [--slot N]: a program
 * to be built with each sanitizer. Every page it holds says what it is, and a
 * table apart from the pages says what it must be, so that a page of an earlier
 * time is told from the last one. A step writes some pages, and does what the
 * shape is named after. Once FILE.error exists, a step makes an error instead
 * which the sanitizer has to report.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "steps.h"

#ifdef __has_feature
#define HAS(feature) __has_feature(feature)
#else
#define HAS(feature) 0
#endif

#if HAS(address_sanitizer) || defined(__SANITIZE_ADDRESS__)
#define ADDRESS 1
#include <sanitizer/asan_interface.h>
#elif HAS(thread_sanitizer) || defined(__SANITIZE_THREAD__)
#define THREAD 1
#elif HAS(memory_sanitizer)
#define MEMORY 1
#include <sanitizer/msan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

#define PAGE	    4096ul
#define WORDS	    (PAGE / sizeof(uint64_t))
#define NR_PAGES    2048u
#define PER_STEP    200u
#define NR_THREADS  8u
#define EXTRA_PAGES 16u
#ifdef MEMORY
#define PAGES_EACH 2 /* the second is never set */
#else
#define PAGES_EACH 1
#endif
#define STACK_ROOM  (1ul << 20)
#define STACK_GAP   (64 * PAGE) /* less than what the kernel keeps others away */

/* Mappings of special kinds, each with its own way to be right. */
struct extras {
	char *guarded;	 /* a guard page between others, 0: this kernel has none */
	char *droppable; /* NULL: none */
	char *none;	 /* written, then made inaccessible */
	char *stack;	 /* lowest page of a stack that grows */
};

static struct control *ctl;
static struct control_slot *slot;
static const char *control_path, *shape, *exec_path = "/proc/self/exe";
static unsigned int slot_nr, step_nr;
static char *page[NR_PAGES];
static uint64_t expected[NR_PAGES];
static uint64_t last_seed;
static struct extras extras;
static pthread_mutex_t locks[NR_THREADS];
static bool threaded;

static unsigned int pick(unsigned int n, uint64_t *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(*state >> 33) % n;
}

static void fill(char *p, uint64_t seed)
{
	uint64_t *words = (uint64_t *)p;

	for (size_t i = 0; i < WORDS; i++)
		words[i] = seed * 0x9e3779b97f4a7c15ull + i;
}

static bool is_filled(const char *p, uint64_t seed)
{
	const uint64_t *words = (const uint64_t *)p;

	for (size_t i = 0; i < WORDS; i++)
		if (words[i] != seed * 0x9e3779b97f4a7c15ull + i)
			return false;
	return true;
}

static void write_page(unsigned int nr, uint64_t seed)
{
	expected[nr] = seed;
	fill(page[nr], seed);
}

/* Process apart from process, step apart from step: no two writes are the same. */
static uint64_t next_seed(void)
{
	return ((uint64_t)slot_nr + 1) << 40 | __atomic_add_fetch(&last_seed, 1, __ATOMIC_RELAXED);
}

static void *write_on(void *arg)
{
	unsigned int mine = (unsigned int)(uintptr_t)arg;
	uint64_t state = mine;

	for (;;) {
		pthread_mutex_lock(&locks[mine]);
		for (int i = 0; i < 4; i++)
			write_page(pick(NR_PAGES / NR_THREADS, &state) * NR_THREADS + mine, next_seed());
		pthread_mutex_unlock(&locks[mine]);
		steps_nap_ms(5);
	}
	return NULL;
}

static int start_threads(void)
{
	pthread_t thread;

	threaded = true;
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		if (pthread_create(&thread, NULL, write_on, (void *)i))
			return -EAGAIN;
	return 0;
}

/* Is a page there to be read, without touching it ourselves? */
static bool is_readable(const char *p)
{
	static char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)p, .iov_len = 1 };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

static char *map(size_t size, int prot, int flags)
{
	char *p = mmap(NULL, size, prot, MAP_ANONYMOUS | flags, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int setup_extras(void)
{
	char *room;

	extras.guarded = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	extras.none = map(EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	if (!extras.guarded || !extras.none)
		return -ENOMEM;
	fill(extras.guarded, 1);
	fill(extras.guarded + 2 * PAGE, 2);
	if (madvise(extras.guarded + PAGE, PAGE, MADV_GUARD_INSTALL))
		extras.guarded = NULL;

	for (unsigned int i = 0; i < EXTRA_PAGES; i++)
		fill(extras.none + i * PAGE, i);
	if (mprotect(extras.none, EXTRA_PAGES * PAGE, PROT_NONE))
		return -errno;

	extras.droppable = map(EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE);
	if (extras.droppable)
		fill(extras.droppable, 1);

	/* Inaccessible memory below, which may come close, keeps accessible memory away. */
	room = map(2 * STACK_ROOM, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	if (!room || munmap(room + STACK_ROOM - STACK_GAP, STACK_ROOM + STACK_GAP))
		return -ENOMEM;
	extras.stack = mmap(room + STACK_ROOM, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	if (extras.stack == MAP_FAILED)
		return -errno;
	fill(extras.stack, (uintptr_t)extras.stack);
	return 0;
}

/* How many of the special pages are wrong. */
static unsigned int wrong_extras(void)
{
	unsigned int bad = 0;

	if (extras.guarded)
		bad += !is_filled(extras.guarded, 1) + is_readable(extras.guarded + PAGE) +
		       !is_filled(extras.guarded + 2 * PAGE, 2);
	if (extras.droppable)
		bad += !is_readable(extras.droppable);

	bad += is_readable(extras.none);
	if (mprotect(extras.none, EXTRA_PAGES * PAGE, PROT_READ))
		return bad + 1;
	for (unsigned int i = 0; i < EXTRA_PAGES; i++)
		bad += !is_filled(extras.none + i * PAGE, i);
	bad += !!mprotect(extras.none, EXTRA_PAGES * PAGE, PROT_NONE);

	bad += !is_filled(extras.stack, (uintptr_t)extras.stack);
	return bad;
}

/* Not mapped yet: touching it makes the stack grow. */
static void grow_stack(void)
{
	extras.stack -= PAGE;
	fill(extras.stack, (uintptr_t)extras.stack);
}

/*
 * What the sanitizer knew of a page before the dump. Shadow memory that has been
 * lost reads as zeroes, and these say that all is well: no report would tell.
 */
static bool shadow_is_right(const char *p)
{
#if defined(ADDRESS)
	return !__asan_region_is_poisoned((void *)(uintptr_t)p, PAGE) && __asan_address_is_poisoned(p + PAGE);
#elif defined(MEMORY)
	/* The page is set, the one behind it never was. */
	return __msan_test_shadow(p, PAGE) == -1 && __msan_test_shadow(p + PAGE, PAGE) == 0;
#else
	(void)p;
	return true;
#endif
}

static void lock_all(bool lock)
{
	for (unsigned int i = 0; i < NR_THREADS; i++) {
		if (lock)
			pthread_mutex_lock(&locks[i]);
		else
			pthread_mutex_unlock(&locks[i]);
	}
}

static void verify(struct control_slot *s)
{
	uint64_t bad = 0;
	const void *first = NULL;

	lock_all(true);
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		if (is_filled(page[i], expected[i]) && shadow_is_right(page[i]))
			continue;
		bad++;
		if (!first)
			first = page[i];
	}
	bad += wrong_extras();
	lock_all(false);
	control_report(s, NR_PAGES, bad, 0, first);
}

static int step(void);

static void serve(void)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };

	steps_serve(ctl, slot, &ops);
	_exit(0);
}

/* The child goes on with what it has inherited, and has a child of its own if @deeper. */
static int fork_child(unsigned int nr, bool deeper)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid)
		return 0;

	slot_nr = nr;
	if (deeper && fork_child(nr + 1, false))
		_exit(1);
	slot = control_take_slot(ctl, nr);
	serve();
	return 0;
}

static int exec_other(void)
{
	char nr[16];

	snprintf(nr, sizeof(nr), "%u", slot_nr);
	execl(exec_path, "sanitized", "--control", control_path, "--shape", "executed", "--slot", nr, (char *)NULL);
	return -errno;
}

#if defined(ADDRESS) || defined(MEMORY)
/* Either sanitizer ends the process that made the error. */
static int make_error(void)
{
	volatile size_t size = 10; /* the compiler would find the error */
	volatile char *block;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		block = malloc(size);
#ifdef ADDRESS
		block[size] = 1;
#else
		if (block[3])
			block[4] = 1;
#endif
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	return 0;
}
#elif defined(THREAD)
static int raced;

static void *race(void *arg)
{
	for (int i = 0; i < 1000; i++)
		raced++;
	return arg;
}

static int make_error(void)
{
	pthread_t one, other;

	if (pthread_create(&one, NULL, race, NULL) || pthread_create(&other, NULL, race, NULL))
		return -EAGAIN;
	pthread_join(one, NULL);
	pthread_join(other, NULL);
	return 0;
}
#else
static int make_error(void)
{
	return 0;
}
#endif

static bool error_is_wanted(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s.error", control_path);
	return !access(path, F_OK);
}

static int step(void)
{
	uint64_t state = ++step_nr * 16 + slot_nr;

	if (error_is_wanted())
		return make_error();

	if (!threaded)
		for (unsigned int i = 0; i < PER_STEP; i++)
			write_page(pick(NR_PAGES, &state), next_seed());
	grow_stack();

	if (step_nr == 1 && !slot_nr && !strcmp(shape, "fork-between"))
		return fork_child(1, false);
	if (step_nr == 1 && !slot_nr && !strcmp(shape, "exec"))
		return exec_other();
	return 0;
}

static int setup(void)
{
	for (unsigned int i = 0; i < NR_THREADS; i++)
		pthread_mutex_init(&locks[i], NULL);
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		page[i] = aligned_alloc(PAGE, PAGES_EACH * PAGE);
		if (!page[i])
			return -ENOMEM;
		write_page(i, next_seed());
	}
	return setup_extras();
}

static int parse(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--control"))
			control_path = argv[i + 1];
		else if (!strcmp(argv[i], "--shape"))
			shape = argv[i + 1];
		else if (!strcmp(argv[i], "--exec"))
			exec_path = argv[i + 1];
		else if (!strcmp(argv[i], "--slot"))
			slot_nr = (unsigned int)atoi(argv[i + 1]) % CONTROL_SLOTS;
		else
			return -EINVAL;
	}
	return control_path && shape && argc % 2 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	int err;

	if (parse(argc, argv)) {
		fprintf(stderr, "usage: sanitized --control FILE --shape single|threads|fork|fork-between|grandchild|exec "
				"[--exec PROGRAM] [--slot N]\n");
		return 2;
	}
	if (control_map(control_path, false, &ctl))
		return 1;
	slot = control_take_slot(ctl, slot_nr);
	err = setup();
	if (!err && !strcmp(shape, "threads"))
		err = start_threads();
	if (!err && !strcmp(shape, "fork"))
		err = fork_child(1, false);
	if (!err && !strcmp(shape, "grandchild"))
		err = fork_child(1, true);
	if (err) {
		fprintf(stderr, "sanitized: %s\n", strerror(-err));
		return 1;
	}
	serve();
}
