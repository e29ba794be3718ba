/* SPDX-License-Identifier: GPL-2.0-only */
/* A clock that never goes back, and its units. */
#ifndef WPTRACK_CLOCK_H
#define WPTRACK_CLOCK_H

#include <stdint.h>
#include <time.h>

/* For what is computed or shown as a fraction */
#define WPTRACK_US_PER_MS 1000.0
#define WPTRACK_US_PER_S  1000000.0

static inline uint64_t wptrack_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t wptrack_now_us(void)
{
	return wptrack_now_ns() / 1000;
}

/* Signed, as deadlines are subtracted from it. */
static inline int64_t wptrack_now_ms(void)
{
	return (int64_t)(wptrack_now_ns() / 1000000);
}

#endif
