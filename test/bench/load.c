// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program to be dumped by the benchmark: memory of a given size and shape,
 * written on request, and a thread that notices when it is stopped. With --busy
 * another thread works without pause and takes the time of its writes, with
 * --listen one sends back what comes over TCP connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/sys_uffd.h"
#include "load.h"

#define PAGE	       4096ull
#define HUGE	       (2ull << 20)
#define PAGES_PER_HUGE (HUGE / PAGE)
#define MIB	       (1ull << 20)
#define TIB	       (1ull << 40)
/* A prime larger than any number of pages here: steps of this size meet each page once. */
#define SCATTER 1000000007ull
#define BEAT_NS 100000
/* 16 MiB/s in batches of four pages. */
#define BATCH_PAGES 4
#define BATCH_NS    (1000000000ull * BATCH_PAGES * PAGE / (16 * MIB))
/* Between two looks at the clock. */
#define PACE_PAGES 16
#define MAX_PEERS  1024

/* Populated memory: chunks at equal distances, the first one at base. */
struct area {
	char *base;
	uint64_t chunks;
	uint64_t chunk_pages;
	uint64_t distance;
	uint64_t next; /* page to be written next */
	uint64_t seq;
};

static struct {
	const char *control;
	uint64_t mib, vmas, processes, sparse_tib, port;
	bool thp, busy, heap, all_beat;
} opt = { .mib = 64, .vmas = 1, .processes = 1 };

static struct load_control *ctl;
static struct area area;
static int uffd = -1;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void nap_ns(long ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

static uint64_t nr_pages(void)
{
	return area.chunks * area.chunk_pages;
}

static char *page_at(uint64_t i)
{
	return area.base + i / area.chunk_pages * area.distance + i % area.chunk_pages * PAGE;
}

static void write_page(uint64_t i)
{
	uint64_t *p = (uint64_t *)page_at(i);

	area.seq++;
	for (size_t w = 0; w < PAGE / sizeof(*p); w++)
		p[w] = area.seq * 0x9e3779b97f4a7c15ull + w;
}

static void write_scattered(uint64_t pages)
{
	for (uint64_t k = 0; k < pages; k++) {
		area.next = (area.next + SCATTER) % nr_pages();
		write_page(area.next);
	}
}

static uint64_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

/* As fast as it can for so long: how many pages that are, and how many faults it takes. */
static void pace(uint64_t ms)
{
	const uint64_t end = wptrack_now_ns() + ms * 1000000;
	uint64_t pages = 0, before = faults();

	while (wptrack_now_ns() < end) {
		write_scattered(PACE_PAGES);
		pages += PACE_PAGES;
	}
	atomic_fetch_add(&ctl->paced_pages, pages);
	atomic_fetch_add(&ctl->paced_faults, faults() - before);
}

static void touch_each_huge(void)
{
	for (uint64_t h = 0; h < nr_pages() / PAGES_PER_HUGE; h++)
		page_at(h * PAGES_PER_HUGE + h * 37 % PAGES_PER_HUGE)[h % PAGE]++;
}

static uint64_t area_bytes(void)
{
	return opt.sparse_tib ? opt.sparse_tib * TIB : area.chunks * area.distance;
}

static int arm(void)
{
	int err;

	uffd = wptrack_uffd_create();
	if (uffd < 0)
		return uffd;
	err = wptrack_uffd_enable(uffd);
	if (!err)
		err = wptrack_uffd_register(uffd, (uint64_t)(uintptr_t)area.base,
					    (uint64_t)(uintptr_t)area.base + area_bytes());
	return err;
}

static int disarm(void)
{
	int err = close(uffd) ? -errno : 0;

	uffd = -1;
	return err;
}

/* Neighbouring mappings differ in something that does no harm, so that they stay apart. */
static void split_into_vmas(void)
{
	for (uint64_t c = 1; c < area.chunks; c += 2)
		if (madvise(area.base + c * area.distance, area.distance, MADV_DONTDUMP))
			die("MADV_DONTDUMP");
}

/* Of a mapping of its own, at a huge page's boundary. */
static char *map_area(void)
{
	char *raw, *base;

	raw = mmap(NULL, area_bytes() + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		   0);
	if (raw == MAP_FAILED)
		die("mmap");
	base = (char *)(((uintptr_t)raw + HUGE - 1) / HUGE * HUGE);
	/* What is cut off could be part of the first or the last chunk's mapping. */
	if (base != raw && munmap(raw, (size_t)(base - raw)))
		die("munmap");
	if (munmap(base + area_bytes(), (size_t)(raw + HUGE - base)))
		die("munmap");
	return base;
}

static void make_area(void)
{
	uint64_t pages = opt.mib * MIB / PAGE / opt.processes;

	if (opt.sparse_tib) {
		area.chunk_pages = PAGES_PER_HUGE;
		area.chunks = pages / area.chunk_pages;
		area.distance = opt.sparse_tib * TIB / area.chunks / HUGE * HUGE;
	} else {
		area.chunks = opt.vmas;
		area.chunk_pages = pages / opt.vmas;
		area.distance = area.chunk_pages * PAGE;
	}
	/* A sanitizer knows what its own allocator has given. */
	area.base = opt.heap ? aligned_alloc(HUGE, area_bytes()) : map_area();
	if (!area.base)
		die("heap");
	if (madvise(area.base, area_bytes(), opt.thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise");
	split_into_vmas();
	for (uint64_t i = 0; i < nr_pages(); i++)
		write_page(i);
}

static int serve(enum load_op op, uint64_t arg)
{
	switch (op) {
	case LOAD_NONE:
		return 0;
	case LOAD_WRITE:
		write_scattered(arg / opt.processes);
		return 0;
	case LOAD_TOUCH:
		touch_each_huge();
		return 0;
	case LOAD_PACE:
		pace(arg);
		return 0;
	case LOAD_ARM:
		return arm();
	case LOAD_DISARM:
		return disarm();
	default:
		return -EINVAL;
	}
}

static _Noreturn void serve_requests(unsigned int slot)
{
	for (;;) {
		uint32_t request = atomic_load(&ctl->request);

		if (request != atomic_load(&ctl->done[slot])) {
			int err = serve(ctl->op, ctl->arg);

			if (err)
				atomic_store(&ctl->failed, (uint32_t)-err);
			atomic_store(&ctl->done[slot], request);
		}
		nap_ns(1000000);
	}
}

/* Of all processes. */
static void count_gap(uint64_t ns)
{
	uint64_t longest = atomic_load(&ctl->longest_gap_ns);

	while (ns > longest && !atomic_compare_exchange_weak(&ctl->longest_gap_ns, &longest, ns))
		;
}

/* CLOCK_MONOTONIC of a restored program goes on from where it was in the dump, which hides a part of the stop. */
static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The longest time that passes without this thread's running is that of a stop. */
static void *beat(void *arg)
{
	unsigned int slot = (unsigned int)(uintptr_t)arg;
	uint64_t last = wall_ns();

	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		uint64_t now;

		nap_ns(BEAT_NS);
		now = wall_ns();
		count_gap(now - last);
		atomic_fetch_add(&ctl->beats[slot], 1);
		last = now;
	}
	return NULL;
}

static void count_latency(uint64_t ns)
{
	unsigned int power = 63 - (unsigned int)__builtin_clzll(ns | 1 << LOAD_BUCKET_BITS);
	uint64_t part = ns >> (power - LOAD_BUCKET_BITS) & ((1 << LOAD_BUCKET_BITS) - 1);

	atomic_fetch_add_explicit(&ctl->latency[(power << LOAD_BUCKET_BITS) + part], 1, memory_order_relaxed);
}

/*
 * Batches are due at fixed times, and their latency counts from then on: the
 * ones that a stop delays all count. The time between is for units of work, of
 * which no more pages become dirty than those of one.
 */
static void *work(void *unused)
{
	uint64_t due = wptrack_now_ns();

	(void)unused;
	for (;;) {
		if (wptrack_now_ns() < due) {
			write_page(0);
			atomic_fetch_add_explicit(&ctl->units, 1, memory_order_relaxed);
			continue;
		}
		write_scattered(BATCH_PAGES);
		count_latency(wptrack_now_ns() - due);
		due += BATCH_NS;
	}
	return NULL;
}

/* Send back what has come. Return: is the connection still there? */
static bool send_back(int fd)
{
	char data[PAGE];
	ssize_t got = recv(fd, data, sizeof(data), 0);

	for (ssize_t sent = 0, now; sent < got; sent += now) {
		now = send(fd, data + sent, (size_t)(got - sent), MSG_NOSIGNAL);
		if (now < 0)
			return false;
	}
	return got > 0;
}

static int start_listening(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, MAX_PEERS))
		die("listen");
	return fd;
}

static void *serve_peers(void *arg)
{
	static struct pollfd fds[1 + MAX_PEERS];
	nfds_t nr = 1;

	fds[0] = (struct pollfd){ .fd = (int)(uintptr_t)arg, .events = POLLIN };
	for (;;) {
		if (poll(fds, nr, -1) < 0)
			continue;
		for (nfds_t i = nr - 1; i > 0; i--) {
			if (!fds[i].revents || send_back(fds[i].fd))
				continue;
			close(fds[i].fd);
			fds[i] = fds[--nr];
		}
		if (fds[0].revents && nr <= MAX_PEERS) {
			int fd = accept4(fds[0].fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				fds[nr++] = (struct pollfd){ .fd = fd, .events = POLLIN };
		}
	}
	return NULL;
}

static void start_thread(void *(*run)(void *), uintptr_t arg)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, (void *)arg);
	if (errno)
		die("thread");
}

static void map_control(void)
{
	int fd = open(opt.control, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(opt.control);
	ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ctl == MAP_FAILED)
		die("mmap");
	close(fd);
	if (ctl->magic != LOAD_MAGIC) {
		errno = EINVAL;
		die(opt.control);
	}
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' },
		{ "mib", required_argument, NULL, 'm' },
		{ "vmas", required_argument, NULL, 'v' },
		{ "processes", required_argument, NULL, 'p' },
		{ "sparse-tib", required_argument, NULL, 's' },
		{ "thp", no_argument, NULL, 't' },
		{ "busy", no_argument, NULL, 'b' },
		{ "heap", no_argument, NULL, 'h' },
		{ "all-beat", no_argument, NULL, 'a' },
		{ "listen", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'c')
			opt.control = optarg;
		else if (o == 'm')
			opt.mib = strtoull(optarg, NULL, 10);
		else if (o == 'v')
			opt.vmas = strtoull(optarg, NULL, 10);
		else if (o == 'p')
			opt.processes = strtoull(optarg, NULL, 10);
		else if (o == 's')
			opt.sparse_tib = strtoull(optarg, NULL, 10);
		else if (o == 't')
			opt.thp = true;
		else if (o == 'b')
			opt.busy = true;
		else if (o == 'h')
			opt.heap = true;
		else if (o == 'a')
			opt.all_beat = true;
		else if (o == 'l')
			opt.port = strtoull(optarg, NULL, 10);
		else
			opt.control = NULL;
	}
	if (!opt.control || !opt.vmas || !opt.processes || opt.processes > LOAD_PROCESSES ||
	    opt.mib * MIB / PAGE / opt.processes < opt.vmas) {
		fprintf(stderr, "usage: load --control FILE --mib N [--vmas N | --sparse-tib N] [--processes N] "
				"[--thp] [--busy] [--heap] [--all-beat] [--listen PORT]\n");
		exit(2);
	}
}

/* Return: the number of the calling process, the first of which is the parent of the others. */
static unsigned int fork_processes(void)
{
	for (unsigned int slot = 1; slot < opt.processes; slot++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			return slot;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned int slot;

	parse_options(argc, argv);
	map_control();
	slot = fork_processes();
	make_area();
	if (!slot) {
		ctl->area_start = (uint64_t)(uintptr_t)area.base;
		ctl->area_end = ctl->area_start + area_bytes();
		ctl->pages = nr_pages();
		if (opt.busy)
			start_thread(work, 0);
		if (opt.port)
			start_thread(serve_peers, (uintptr_t)start_listening((uint16_t)opt.port));
	}
	if (!slot || opt.all_beat)
		start_thread(beat, slot);
	serve_requests(slot);
}
