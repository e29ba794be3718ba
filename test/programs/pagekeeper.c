// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that keeps writing its memory and knows what must be in it.
 *
 * Every page carries its index, a sequence number and a checksum; the sequence
 * number each page must have is kept apart from it, so that a whole but old
 * page is told from the right one. How many distinct pages were dirtied in
 * each epoch of the driver is counted in the control file (control.h).
 *
 * A write is: note the new sequence number, fill the page. Both happen in one
 * thread that owns the page, so at any pause the two agree.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "control.h"

#define PAGE	      4096u
#define PAGE_MAGIC    0x70616765u
#define MAX_THREADS   8
#define TICK_NS	      2000000L
#define CHURN_EVERY   400 /* page writes between two free() + malloc() */
#define CHURN_PAGES   16  /* blocks up to this size are churned */
#define WORDS	      (PAGE / sizeof(uint64_t))
#define CACHELINE     64
#define FIXED_PAGES   4 /* stack, worker, own control data: dirty in every epoch */

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
/*
 * No quarantine: freed blocks are used again at once, instead of every churn
 * touching pages that never were touched before.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:quarantine_size_mb=0:thread_local_quarantine_size_kb=0";
}
#endif

struct page {
	uint32_t magic;
	uint32_t index;
	uint64_t seq;
	uint64_t sum;
	uint64_t body[WORDS - 3];
};
_Static_assert(sizeof(struct page) == PAGE, "a page is a page");

/* What the program knows of a page; the entries of a worker are contiguous. */
struct entry {
	struct page *page;
	uint32_t seq;
	uint32_t epoch; /* last epoch it was counted in */
};

struct block {
	void *raw;
	uint32_t first; /* entry */
	uint32_t pages;
};

struct worker {
	_Alignas(CACHELINE) unsigned int id;
	uint64_t rng;
	uint32_t nr_entries, nr_blocks, max_entries;
	struct entry *entry;
	struct block *block;
	uint32_t *table_epoch; /* per page of the entry table: last epoch counted */
	uint32_t fixed_epoch;
	uint64_t writes;
	pthread_t thread;
};

static struct {
	unsigned long mib, working_set, rate, threads, children, echo; /* working_set: MiB, 0: all */
	bool spin;
	const char *control, *direct;
} opt = { .mib = 256, .threads = 1 };

static struct control *ctl;
static struct control_slot *slot;
static struct worker worker[MAX_THREADS];
static _Atomic bool paused;
static _Atomic uint32_t parked, ready;

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

static void die(const char *what)
{
	fprintf(stderr, "pagekeeper: %s\n", what);
	_exit(1);
}

static void *must_alloc(size_t size)
{
	void *p = malloc(size);

	if (!p)
		die("out of memory");
	return p;
}

static void count(uint32_t epoch, uint32_t pages)
{
	atomic_fetch_add_explicit(&slot->dirtied[epoch], pages, memory_order_relaxed);
}

/* Count the pages of bookkeeping that a write to entry @i dirties. */
static void count_tables(struct worker *w, uint32_t i, uint32_t epoch)
{
	uint32_t t = (uint32_t)((uint64_t)i * sizeof(struct entry) / PAGE);

	if (w->table_epoch[t] != epoch) {
		w->table_epoch[t] = epoch;
		count(epoch, 1);
	}
	if (w->fixed_epoch != epoch) {
		w->fixed_epoch = epoch;
		count(epoch, FIXED_PAGES);
	}
}

static uint64_t fill(struct page *p, uint64_t seed)
{
	uint64_t sum = seed;

	for (size_t i = 0; i < WORDS - 3; i++) {
		p->body[i] = next_random(&seed);
		sum = (sum << 1 | sum >> 63) ^ p->body[i];
	}
	return sum;
}

static uint64_t checksum(const struct page *p, uint64_t seed)
{
	uint64_t sum = seed;

	for (size_t i = 0; i < WORDS - 3; i++)
		sum = (sum << 1 | sum >> 63) ^ p->body[i];
	return sum;
}

static uint64_t page_seed(uint32_t index, uint64_t seq)
{
	return ((uint64_t)index << 32 | 1) ^ seq * 0x9e3779b97f4a7c15ull;
}

static void write_page(struct worker *w, uint32_t i)
{
	uint32_t epoch = atomic_load(&ctl->epoch) % CONTROL_EPOCHS;
	struct entry *e = &w->entry[i];
	struct page *p = e->page;

	count_tables(w, i, epoch);
	if (e->epoch != epoch) {
		e->epoch = epoch;
		count(epoch, 1);
	}
	e->seq++;
	p->magic = PAGE_MAGIC;
	p->index = i;
	p->seq = e->seq;
	p->sum = fill(p, page_seed(i, p->seq));
	w->writes++;
	atomic_fetch_add_explicit(&slot->writes, 1, memory_order_relaxed);
}

static void block_alloc(struct worker *w, struct block *b)
{
	uintptr_t start;

	/* Not aligned on purpose: most programs' data is not. */
	b->raw = must_alloc((size_t)(b->pages + 1) * PAGE);
	start = ((uintptr_t)b->raw + PAGE - 1) / PAGE * PAGE;
	for (uint32_t k = 0; k < b->pages; k++) {
		w->entry[b->first + k].page = (struct page *)start + k;
		write_page(w, b->first + k);
	}
}

/* Pages the allocator itself dirties for one block: its headers and, sanitized, shadow and fill. */
static uint32_t allocator_pages(const struct block *b)
{
#ifdef WITH_ASAN
	return 6 + b->pages / 8;
#else
	(void)b;
	return 4;
#endif
}

/* How many entries of a worker are written to, once it is set up. */
static uint32_t working_set(const struct worker *w)
{
	uint32_t pages = (uint32_t)(opt.working_set * 256 / opt.threads);

	return pages && pages < w->nr_entries ? pages : w->nr_entries;
}

/* Free a small block and allocate one in its stead. */
static void churn(struct worker *w)
{
	struct block *b = &w->block[next_random(&w->rng) % w->nr_blocks];

	if (b->pages > CHURN_PAGES || b->first >= working_set(w))
		return;
	count(atomic_load(&ctl->epoch) % CONTROL_EPOCHS, allocator_pages(b));
	free(b->raw);
	/* What the old pages held no longer counts: the new ones may be others. */
	for (uint32_t k = 0; k < b->pages; k++)
		w->entry[b->first + k].epoch = UINT32_MAX;
	block_alloc(w, b);
}

/* Add blocks of mixed sizes until the worker holds @pages more. */
static void add_blocks(struct worker *w, uint32_t pages)
{
	/* Small ones come from the heap and arenas, large ones are mapped each by itself. */
	static const uint32_t sizes[] = { 1, 3, 16, 2, 64, 5, 1, 512, 9, 2048 };
	uint32_t end = w->nr_entries + pages;

	for (size_t n = 0; w->nr_entries < end; n++) {
		struct block *b = &w->block[w->nr_blocks];

		b->first = w->nr_entries;
		b->pages = sizes[n % (sizeof(sizes) / sizeof(sizes[0]))];
		if (b->pages > end - w->nr_entries)
			b->pages = end - w->nr_entries;
		w->nr_entries += b->pages;
		w->nr_blocks++;
		block_alloc(w, b);
	}
}

static void worker_init(struct worker *w, uint32_t max_pages)
{
	size_t table = ((size_t)max_pages * sizeof(struct entry) + PAGE - 1) / PAGE + 1;

	w->max_entries = max_pages;
	w->entry = aligned_alloc(PAGE, table * PAGE);
	w->block = must_alloc((size_t)max_pages * sizeof(*w->block));
	w->table_epoch = must_alloc(table * sizeof(uint32_t));
	if (!w->entry)
		die("out of memory");
	memset(w->entry, 0, table * PAGE);
	memset(w->table_epoch, 0xff, table * sizeof(uint32_t));
	w->fixed_epoch = UINT32_MAX;
}

/* What was counted so far was counted in another process's slot. */
static void forget_epochs(struct worker *w)
{
	for (uint32_t i = 0; i < w->nr_entries; i++)
		w->entry[i].epoch = UINT32_MAX;
	memset(w->table_epoch, 0xff, ((size_t)w->max_entries * sizeof(struct entry) / PAGE + 1) * sizeof(uint32_t));
	w->fixed_epoch = UINT32_MAX;
}

static void tick_wait(struct timespec *next)
{
	struct timespec now;

	next->tv_nsec += TICK_NS;
	if (next->tv_nsec >= 1000000000L) {
		next->tv_sec++;
		next->tv_nsec -= 1000000000L;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	/* After a stop the time lost is not made up for. */
	if (now.tv_sec > next->tv_sec + 1 || next->tv_sec > now.tv_sec + 1)
		*next = now;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

/* One tick's share of the rate; @credit carries the fraction, in pages per 1e9. */
static void write_some(struct worker *w, uint64_t *credit)
{
	*credit += opt.rate * (uint64_t)TICK_NS / opt.threads;
	for (; *credit >= 1000000000ull; *credit -= 1000000000ull) {
		write_page(w, (uint32_t)(next_random(&w->rng) % working_set(w)));
		if (w->writes % CHURN_EVERY == 0)
			churn(w);
	}
}

static void verify_worker(const struct worker *w, uint64_t *bad, uint64_t *stale, const void **first)
{
	for (uint32_t i = 0; i < w->nr_entries; i++) {
		const struct entry *e = &w->entry[i];
		const struct page *p = e->page;
		bool whole = p->magic == PAGE_MAGIC && p->index == i && p->sum == checksum(p, page_seed(i, p->seq));

		if (whole && p->seq == e->seq)
			continue;
		if (whole)
			(*stale)++;
		else
			(*bad)++;
		if (!*first)
			*first = p;
	}
}

static void verify(void)
{
	uint64_t checked = 0, bad = 0, stale = 0;
	const void *first = NULL;

	for (unsigned int t = 0; t < opt.threads; t++) {
		checked += worker[t].nr_entries;
		verify_worker(&worker[t], &bad, &stale, &first);
	}
	control_report(slot, checked, bad, stale, first);
}

static void wait_parked(void)
{
	struct timespec ts = { .tv_nsec = 1000000 };

	while (atomic_load(&parked) != opt.threads - 1)
		nanosleep(&ts, NULL);
}

/* Serve the driver's request if there is a new one. Return: false to quit. */
static bool serve(void)
{
	uint32_t nr = atomic_load(&ctl->request);
	enum control_op op = atomic_load(&ctl->op);
	bool was_paused = atomic_load(&paused);

	if (nr == atomic_load(&slot->acked))
		return true;
	if (op == CONTROL_PAUSE || op == CONTROL_VERIFY) {
		atomic_store(&paused, true);
		wait_parked();
	}
	if (op == CONTROL_VERIFY) {
		verify();
		atomic_store(&paused, was_paused);
	}
	if (op == CONTROL_RESUME)
		atomic_store(&paused, false);
	atomic_store(&slot->state, atomic_load(&paused) ? CONTROL_PAUSED : CONTROL_RUNNING);
	if (op == CONTROL_QUIT)
		atomic_store(&slot->state, CONTROL_GONE);
	atomic_store(&slot->acked, nr);
	return op != CONTROL_QUIT;
}

/* As soon as the file is there it is held open with O_DIRECT. */
static void look_for_direct(void)
{
	if (!opt.direct || access(opt.direct, F_OK))
		return;
	if (open(opt.direct, O_RDWR | O_DIRECT | O_CLOEXEC) < 0)
		die("cannot open a file with O_DIRECT");
	opt.direct = NULL;
}

static void *work(void *arg)
{
	struct timespec next;
	struct worker *w = arg;
	uint64_t credit = 0;
	bool is_parked = false;

	if (w->id)
		add_blocks(w, w->max_entries);
	atomic_fetch_add(&ready, 1);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (;;) {
		tick_wait(&next);
		if (!w->id) {
			control_beat(slot, atomic_load(&paused));
			look_for_direct();
			if (!serve())
				return NULL;
		}
		if (w->id && is_parked != atomic_load(&paused)) {
			is_parked = !is_parked;
			atomic_fetch_add(&parked, is_parked ? 1 : (uint32_t)-1);
		}
		if (!atomic_load(&paused) && atomic_load(&ready) == opt.threads)
			write_some(w, &credit);
	}
}

static uint32_t share_pages(void)
{
	return (uint32_t)(opt.mib * 256 / opt.threads);
}

/* Sends back what it gets, on one connection after the other. */
static void *echo(void *arg)
{
	const int listener = *(const int *)arg;
	char buf[512];

	prctl(PR_SET_NAME, "echo");
	for (;;) {
		const int peer = accept(listener, NULL, NULL);
		ssize_t len;

		while (peer >= 0 && (len = read(peer, buf, sizeof(buf))) > 0)
			if (write(peer, buf, (size_t)len) != len)
				break;
		if (peer >= 0)
			close(peer);
	}
	return NULL;
}

static void start_echo(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.echo) };
	static int listener;
	pthread_t thread;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) ||
	    bind(listener, (const struct sockaddr *)&any, sizeof(any)) || listen(listener, 8))
		die("cannot listen");
	if (pthread_create(&thread, NULL, echo, &listener))
		die("cannot create a thread");
}

/*
 * Neither writes nor calls: the scheduler takes the processor away, but it never
 * gives it up, unless it is stopped. The driver counts that (voluntary switches).
 */
static void *spin(void *arg)
{
	prctl(PR_SET_NAME, "spin");
	for (;;)
		__asm__ volatile("pause");
	return arg;
}

/* Fork the children; each goes on with the parent's blocks, shared until written, and some of its own. */
static void fork_children(void)
{
	for (unsigned int c = 1; c <= opt.children; c++) {
		pid_t pid = fork();

		if (pid < 0)
			die("cannot fork");
		if (pid == 0) {
			slot = control_take_slot(ctl, c);
			forget_epochs(&worker[0]);
			worker[0].rng ^= (uint64_t)c << 40;
			add_blocks(&worker[0], share_pages() / 8);
			return;
		}
	}
}

static void start(void)
{
	uint32_t pages = share_pages();
	pthread_t spinner;

	slot = control_take_slot(ctl, 0);
	for (unsigned int t = 0; t < opt.threads; t++) {
		worker[t].id = t;
		worker[t].rng = 0x9e3779b97f4a7c15ull + t;
		worker_init(&worker[t], t ? pages : pages + pages / 8);
	}
	add_blocks(&worker[0], pages);
	fork_children();
	for (unsigned int t = 1; t < opt.threads; t++)
		if (pthread_create(&worker[t].thread, NULL, work, &worker[t]))
			die("cannot create a thread");
	while (atomic_load(&ready) != opt.threads - 1)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	if (opt.spin && pthread_create(&spinner, NULL, spin, NULL))
		die("cannot create a thread");
	if (opt.echo)
		start_echo();
	atomic_store(&slot->state, CONTROL_RUNNING);
}

static unsigned long parse_number(const char *arg, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(arg, &end, 0);
	if (errno || *end || end == arg || n < min || n > max)
		die("a number is out of range");
	return n;
}

/* Pages a second. Rounds take longer on a slow machine, and the program is to write about as much in them. */
static unsigned long usual_rate(void)
{
	const char *scale = getenv("TIME_SCALE"); /* scripts/time-scale.sh */
	const int times = scale ? atoi(scale) : 1;

	return times > 10 ? 200 : times > 1 ? 2000 / (unsigned long)times : 2000;
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mib", required_argument, NULL, 'm' },      { "control", required_argument, NULL, 'c' },
		{ "rate", required_argument, NULL, 'r' },     { "threads", required_argument, NULL, 't' },
		{ "children", required_argument, NULL, 'k' }, { "spin", no_argument, NULL, 's' },
		{ "echo", required_argument, NULL, 'e' },
		{ "direct", required_argument, NULL, 'd' },   { "working-set", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	opt.rate = usual_rate();
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'm')
			opt.mib = parse_number(optarg, 1, 65536);
		else if (o == 'w')
			opt.working_set = parse_number(optarg, 1, 65536);
		else if (o == 'c')
			opt.control = optarg;
		else if (o == 'r')
			opt.rate = parse_number(optarg, 0, 10000000);
		else if (o == 't')
			opt.threads = parse_number(optarg, 1, MAX_THREADS);
		else if (o == 'k')
			opt.children = parse_number(optarg, 0, CONTROL_SLOTS - 1);
		else if (o == 'e')
			opt.echo = parse_number(optarg, 1, 65535);
		else if (o == 's')
			opt.spin = true;
		else if (o == 'd')
			opt.direct = optarg;
		else
			die("usage: pagekeeper --control FILE [--mib N] [--working-set MIB] [--rate PAGES] [--threads N] "
			    "[--children N] [--spin] [--direct FILE] [--echo PORT]");
	}
	if (!opt.control)
		die("--control FILE is missing");
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	if (control_map(opt.control, false, &ctl))
		die("cannot map the control file");
	start();
	work(&worker[0]);
	/* Threads write on until the process is gone; nothing of theirs is needed. */
	_exit(0);
}
