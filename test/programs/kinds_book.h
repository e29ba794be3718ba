/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kinds knows of its memory: for each page of each case what it holds, and
 * what the next round has to do with it.
 *
 * The book lies in a file that is mapped shared, so it is in no image: a page
 * that comes back stale can't bring the book's page of that time along. The
 * driver reads it from outside.
 */
#ifndef WPTRACK_TEST_KINDS_BOOK_H
#define WPTRACK_TEST_KINDS_BOOK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "steps.h"

#define PAGE	   4096ul
#define WORDS	   (PAGE / sizeof(uint64_t))
#define HUGE	   (2ul << 20)
#define HUGE_PAGES (HUGE / PAGE)

#define KINDS_CASES 128
#define KINDS_ROWS  1280

/* The rounds: pre-dumps but for the dump; from behind the restore on it is a new chain. */
#define ROUND_DUMP     4
#define ROUND_RESTORED 5

/* A page full of io_uring's completions of requests that have all bits of their user_data set. */
#define SEED_COMPLETIONS (~0ull)

enum row_flags {
	POPULATED = 1, /* the images need it */
	DIRTY = 2,     /* has changed, or may have, since the round before */
	HAD = 4,       /* the round before, or one of its parents, has it */
	SHUT = 8,      /* its mapping can't be read */
	GUARD = 16,    /* a guard page */
	GONE = 32,     /* nothing is mapped there */
	FREED = 64,    /* lazily freed: as it was, or zeroes */
	OPAQUE = 128,  /* what it holds is not ours to know */
	TOUCHED = 256, /* unchanged, but the tracker can't know */
	WRITABLE = 512, /* shut, but it can be written */
};

/* What CRIU and the tracker do with a kind of memory. */
enum kind {
	TRACKED,
	WHOLE,	   /* not tracked: all that is populated goes into each round */
	FOREIGN,   /* the same until the restore, then tracked */
	ELSEWHERE, /* never among the task's own pages */
	AT_DUMP,   /* left out of pre-dumps, whole in the dump */
};

struct row {
	uint64_t at;
	uint64_t seed; /* what it holds; 0: zeroes */
	uint32_t byte; /* that is put over its first one */
	uint32_t flags;
};

struct state {
	char name[80];
	char why[120]; /* it can't be shown here */
	char *a, *b;   /* the case's own */
	enum kind kind;
	bool wants_huge; /* MADV_HUGEPAGE */
	uint32_t nr_rows;
	uint32_t nr_bad;
	uint64_t first_bad;
	struct row row[KINDS_ROWS];
};

enum mode { SPLICE, READ, LIVE };

struct book {
	uint64_t last_seed;
	uint32_t round;	     /* the next one */
	uint32_t mode;	     /* of pre-dumps, an enum mode */
	uint32_t full_until; /* rounds up to this one leave nothing to the parent */
	uint32_t nr_cases;
	bool shut_to_others; /* memory that can't be read can't be read through /proc/PID/mem, either */
	bool unasked_huge; /* the machine gives huge pages to who has not asked for them */
	bool no_zero_page; /* a hole that is read gets a page of its own: some kernels that are guests have it so */
	_Atomic uint32_t held, unhold; /* for a helper that holds something */
	struct state state[KINDS_CASES];
};

static struct book *book;

static inline int book_map(const char *control, bool create)
{
	char path[4096];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s.book", control);
	fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0), 0600);
	if (fd < 0)
		return -errno;
	if (create && ftruncate(fd, sizeof(*book)))
		err = -errno;
	if (!err) {
		book = mmap(NULL, sizeof(*book), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (book == MAP_FAILED)
			err = -errno;
	}
	close(fd);
	return err;
}

static inline uint64_t word(const struct row *r, size_t i)
{
	uint64_t w = r->seed ? r->seed * 0xd1342543de82ef95ull + i : 0;

	if (r->seed == SEED_COMPLETIONS)
		return i % 2 ? 0 : ~0ull;
	return i || !r->byte ? w : (w & ~0xffull) | r->byte;
}

static inline void page_image(const struct row *r, uint64_t page[WORDS])
{
	for (size_t i = 0; i < WORDS; i++)
		page[i] = word(r, i);
}

/* A case that can't be shown on this machine. Return: what setup() returns then. */
static inline __attribute__((format(printf, 2, 3))) int cannot(struct state *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->why, sizeof(s->why), format, args);
	va_end(args);
	s->nr_rows = 0;
	return 0;
}

/* ---------------------------------------------------------------- rows */

/* Take @nr pages into the book, as zeroes that are not populated. Return: the first one's number. */
static inline unsigned int rows_add(struct state *s, char *at, unsigned int nr)
{
	unsigned int first = s->nr_rows;

	if (first + nr > KINDS_ROWS)
		abort();
	for (unsigned int i = 0; i < nr; i++)
		s->row[first + i] = (struct row){ .at = (uintptr_t)at + i * PAGE };
	s->nr_rows += nr;
	return first;
}

static inline void rows_flag(struct state *s, unsigned int first, unsigned int nr, uint32_t set, uint32_t clear)
{
	for (unsigned int i = first; i < first + nr; i++)
		s->row[i].flags = (s->row[i].flags & ~clear) | set;
}

/* Book new content for a page. Whoever calls writes it. */
static inline void row_renew(struct state *s, unsigned int nr)
{
	s->row[nr].seed = ++book->last_seed;
	s->row[nr].byte = 0;
	s->row[nr].flags = (s->row[nr].flags & ~(uint32_t)FREED) | POPULATED | DIRTY;
}

static inline void row_write(struct state *s, unsigned int nr)
{
	row_renew(s, nr);
	page_image(&s->row[nr], (uint64_t *)(uintptr_t)s->row[nr].at);
}

static inline void rows_write(struct state *s, unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++)
		row_write(s, i);
}

/* The pages hold zeroes again, and nothing is there. */
static inline void rows_drop(struct state *s, unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++) {
		s->row[i].seed = s->row[i].byte = 0;
		s->row[i].flags &= ~(uint32_t)(POPULATED | DIRTY | FREED | GUARD);
	}
}

/* Of /proc/PID/pagemap. The first thread may be gone. */
static inline uint64_t pagemap_entry(uint64_t at)
{
	int fd = open("/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (off_t)(at / PAGE * sizeof(entry))) != sizeof(entry))
		abort();
	close(fd);
	return entry;
}

/* Is there a page of the process's own, and not of a file? */
static inline bool has_own_page(uint64_t at)
{
	uint64_t entry = pagemap_entry(at);

	return entry >> 63 && !(entry >> 61 & 1);
}

/* What is a hole in the book has been read: it is none any more, where there is no zero page. */
static inline void row_was_read(struct row *r)
{
	if (book->no_zero_page && !(r->flags & POPULATED) && has_own_page(r->at))
		r->flags |= POPULATED | DIRTY;
}

static inline void rows_were_read(struct state *s, unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i++)
		row_was_read(&s->row[i]);
}

/* The pages are now at another address, which the parent knows nothing of. Where they were nothing is mapped. */
static inline void rows_move(struct state *s, unsigned int first, unsigned int nr, char *to)
{
	unsigned int old = rows_add(s, (char *)(uintptr_t)s->row[first].at, nr);

	rows_flag(s, old, nr, GONE, 0);
	for (unsigned int i = 0; i < nr; i++) {
		s->row[first + i].at = (uintptr_t)to + i * PAGE;
		s->row[first + i].flags &= ~(uint32_t)HAD;
	}
}

/* ---------------------------------------------------------------- decisions */

/* What the next round has to do with a page. */
static inline const char *row_want(const struct state *s, const struct row *r)
{
	bool pre_dump = book->round != ROUND_DUMP, shut = r->flags & SHUT;
	/* In live mode it is the same of what has to be read, where the kernel lets only a debugger get at it. */
	const char *dumped = shut && pre_dump && book->mode == LIVE && book->shut_to_others ? "absent" : "dumped";

	/* A restore fills what wants huge pages before it says so: where they are given unasked, with huge pages. */
	if (!(r->flags & POPULATED) && s->wants_huge && book->unasked_huge && book->round >= ROUND_RESTORED)
		return "anything";
	if (!(r->flags & POPULATED) || s->kind == ELSEWHERE || (s->kind == AT_DUMP && pre_dump))
		return "absent";
	/* What is not tracked is left to the dump in this mode. */
	if (s->kind != TRACKED && !(s->kind == FOREIGN && book->round >= ROUND_RESTORED))
		return pre_dump && book->mode == LIVE ? "absent" : "dumped";
	/* CRIU reads from outside in this mode, which can't get at it; at the dump it takes it as it is. */
	if (shut && pre_dump && book->mode == READ)
		return "absent";
	if (shut && !pre_dump)
		return "dumped";
	if (book->round <= book->full_until || book->round == ROUND_RESTORED)
		return dumped;
	if (r->flags & FREED)
		return "unchanged";
	if (r->flags & TOUCHED)
		return "populated";
	return (r->flags & (HAD | DIRTY)) == HAD ? "parent" : dumped;
}

/* The round is over: what it has is what the next one can leave to it. */
static inline void book_close_round(void)
{
	for (unsigned int c = 0; c < book->nr_cases; c++) {
		struct state *s = &book->state[c];

		for (struct row *r = s->row; r < s->row + s->nr_rows; r++) {
			bool had = strcmp(row_want(s, r), "absent") != 0;

			r->flags = (r->flags & ~(uint32_t)(HAD | DIRTY | TOUCHED)) | (had ? HAD : 0);
		}
	}
	book->round++;
}

/* "case start end want" for each run of pages with the same fate, "case - - why" for what is not shown. */
static inline void book_print_wants(void)
{
	for (unsigned int c = 0; c < book->nr_cases; c++) {
		struct state *s = &book->state[c];
		unsigned int from = 0;

		if (s->why[0])
			printf("%s - - %s\n", s->name, s->why);
		for (unsigned int i = 1; i <= s->nr_rows; i++) {
			const struct row *first = &s->row[from], *r = &s->row[i];

			if (i < s->nr_rows && r->at == r[-1].at + PAGE && !strcmp(row_want(s, r), row_want(s, first)))
				continue;
			printf("%s %lx %lx %s\n", s->name, (unsigned long)first->at, (unsigned long)(r[-1].at + PAGE),
			       row_want(s, first));
			from = i;
		}
	}
}

static inline void book_print_bad(void)
{
	for (unsigned int c = 0; c < book->nr_cases; c++)
		if (book->state[c].nr_bad)
			printf("%s %u %lx\n", book->state[c].name, book->state[c].nr_bad,
			       (unsigned long)book->state[c].first_bad);
}

/* ---------------------------------------------------------------- verification */

/* Can the page be read? It is not touched by ourselves, so nothing has to be caught. */
static inline bool is_readable(const struct row *r)
{
	char byte;
	struct iovec local = { .iov_base = &byte, .iov_len = 1 };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)r->at, .iov_len = 1 };

	/* The first thread may be gone. */
	return syscall(SYS_process_vm_readv, syscall(SYS_gettid), &local, 1, &remote, 1, 0) == 1;
}

static inline bool row_holds(const struct row *r)
{
	const uint64_t *p = (const uint64_t *)(uintptr_t)r->at;
	bool same = true, zero = true;

	for (size_t i = 0; i < WORDS; i++) {
		same = same && p[i] == word(r, i);
		zero = zero && !p[i];
	}
	return same || (zero && (r->flags & FREED));
}

static inline bool row_is_right(const struct row *r)
{
	char *p = (char *)(uintptr_t)r->at;
	bool right;

	if (r->flags & (GONE | GUARD))
		return !is_readable(r);
	if (r->flags & OPAQUE)
		return true;
	if (!(r->flags & SHUT))
		return is_readable(r) && row_holds(r);
	/* An inaccessible page is opened to look into it. */
	if (is_readable(r) || mprotect(p, PAGE, PROT_READ))
		return false;
	right = row_holds(r);
	return !mprotect(p, PAGE, r->flags & WRITABLE ? PROT_WRITE : PROT_NONE) && right;
}

static inline void book_verify(struct control_slot *slot)
{
	uint64_t checked = 0, bad = 0;
	const void *first = NULL;

	for (unsigned int c = 0; c < book->nr_cases; c++) {
		struct state *s = &book->state[c];

		s->nr_bad = 0;
		for (struct row *r = s->row; r < s->row + s->nr_rows; r++, checked++) {
			bool right = row_is_right(r);

			if (!(r->flags & (GONE | GUARD | OPAQUE)))
				row_was_read(r);
			if (right)
				continue;
			if (!s->nr_bad++)
				s->first_bad = r->at;
			if (!bad++)
				first = (const void *)(uintptr_t)r->at;
		}
	}
	control_report(slot, checked, bad, 0, first);
}

#endif
