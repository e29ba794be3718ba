/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What each page of the torture program must hold, and when it was touched last.
 *
 * The table lies in a regular file that the program maps shared: it is in no
 * image, so that a restored program finds it as it was when it was stopped, and
 * a driver can look at it at any time. Each window of memory has one thread that
 * works on it and on its part of the table.
 */
#ifndef WPTRACK_TEST_ORACLE_H
#define WPTRACK_TEST_ORACLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ORACLE_MAGIC	0x746f7274757265ull
#define ORACLE_PROCS	4u
#define ORACLE_WINDOWS	4u /* per process */
#define ORACLE_PAGES	8192u /* per window */
#define ORACLE_SHARED	256u /* pages of a window's memfd */
#define ORACLE_PAGE	4096u
#define ORACLE_BASE	0x200000000000ull
#define ORACLE_STRIDE	0x10000000ull /* a window and the gap behind it */
#define ORACLE_FILE	4096u /* pages of the file for private mappings, read(2) and O_DIRECT */

/* What backs a page. */
enum oracle_map {
	ORACLE_NONE, /* nothing is mapped */
	ORACLE_ANON,
	ORACLE_FILE_PRIVATE,
};

/* What it must hold. */
enum oracle_state {
	ORACLE_FRESH, /* zeroes, or the file's page */
	ORACLE_DATA,  /* pattern(base, poke) */
	ORACLE_MAYBE, /* MADV_FREE: as before, or fresh */
};

enum oracle_prot {
	ORACLE_RW,
	ORACLE_RO,
	ORACLE_NO,
};

struct oracle_want {
	uint64_t map : 2;
	uint64_t state : 2;
	uint64_t prot : 2;
	uint64_t guard : 1;
	uint64_t file : 12; /* page of the file behind it */
	uint64_t base : 26;
	uint64_t poke : 16;
};

/*
 * When a page was touched: bit K of each set stands for @epoch - K. Written means
 * that its content changed. Disturbed means that a tracker may report it though
 * it did not: it was moved, its mapping is new, it became part of a huge page.
 */
struct oracle_journal {
	uint32_t epoch;
	uint16_t written;
	uint16_t disturbed;
};

struct oracle_page {
	union {
		struct oracle_want want;
		_Atomic uint64_t want_bits;
	};
	union {
		struct oracle_journal journal;
		_Atomic uint64_t journal_bits;
	};
};

struct oracle_proc {
	_Atomic uint32_t pid;  /* 0: its memory is not set up, or no more */
	_Atomic uint32_t born; /* epoch in which its memory was set up */
	_Atomic uint64_t ops;
	_Atomic uint64_t bad; /* pages found wrong other than by a verification */
	_Atomic uint64_t compared;
	_Atomic uint64_t lost_moves; /* mremap() that failed in the middle (EFAULT) */
	struct oracle_page page[ORACLE_WINDOWS][ORACLE_PAGES];
	struct oracle_want shared[ORACLE_WINDOWS][ORACLE_SHARED];
};

struct oracle {
	uint64_t magic;
	struct oracle_proc proc[ORACLE_PROCS];
};

static inline uint64_t oracle_window(unsigned int window)
{
	return ORACLE_BASE + window * ORACLE_STRIDE;
}

#endif
