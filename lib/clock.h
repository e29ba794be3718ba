/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef WPTRACK_CLOCK_H
#define WPTRACK_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Microseconds of a clock that never goes back. */
static inline uint64_t wptrack_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

#endif
