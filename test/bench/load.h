/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file that a load program and the benchmark both map (control.h says why
 * a file). test/bench/load.py reads it as well: keep the offsets.
 */
#ifndef WPTRACK_BENCH_LOAD_H
#define WPTRACK_BENCH_LOAD_H

#include <stdatomic.h>
#include <stdint.h>

#define LOAD_MAGIC     0x77706c6f61643031ull
#define LOAD_PROCESSES 128
/* Latencies in buckets of 1/32 of a power of two of nanoseconds. */
#define LOAD_BUCKET_BITS 5
#define LOAD_BUCKETS	 (64 << LOAD_BUCKET_BITS)

enum load_op {
	LOAD_NONE = 0, /* the first request: are you there? */
	LOAD_WRITE,    /* write as many whole pages as arg says, scattered, each once */
	LOAD_TOUCH,    /* write one byte in each 2 MiB */
	LOAD_ARM,      /* register the memory with an userfaultfd, as tracking does */
	LOAD_DISARM,   /* and close that: nothing is registered or protected any more */
	LOAD_PACE,     /* write scattered pages for as many milliseconds as arg says */
};

struct load_control {
	uint64_t magic;
	_Atomic uint32_t request; /* grows with each request */
	uint32_t op;
	uint64_t arg;
	uint64_t area_start, area_end;	       /* of the first process */
	uint64_t pages;			       /* populated, in each process */
	_Atomic uint64_t longest_gap_ns;       /* between two beats of a process; the benchmark sets it back */
	_Atomic uint64_t units;		       /* of work, done by a busy program */
	_Atomic uint32_t done[LOAD_PROCESSES]; /* the last request that each has done */
	_Atomic uint32_t failed;	       /* errno of a request */
	uint32_t pad;
	_Atomic uint64_t latency[LOAD_BUCKETS];
	_Atomic uint64_t paced_pages, paced_faults; /* of the paces since the benchmark set them back */
	_Atomic uint64_t beats[LOAD_PROCESSES];	    /* each after its gap has been counted */
};

#endif
