/* SPDX-License-Identifier: GPL-2.0-only */
/* The driver's side of a control file: ask, and wait for the answer. */
#ifndef WPTRACK_TEST_CONTROL_ASK_H
#define WPTRACK_TEST_CONTROL_ASK_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control.h"

/* What a VERIFY has found, all processes together. */
struct control_verdict {
	uint64_t checked, bad, stale;
	uint64_t first_bad; /* address */
};

static inline double control_now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* When to give up, for a machine of usual speed; on others as many times as late: scripts/time-scale.sh. */
static inline double control_deadline_s(double timeout_s)
{
	const char *scale = getenv("TIME_SCALE");
	const double times = scale ? atof(scale) : 1;

	return control_now_s() + timeout_s * (times > 1 ? times : 1);
}

static inline void control_nap(void)
{
	struct timespec ts = { .tv_nsec = 5000000 };

	nanosleep(&ts, NULL);
}

static inline bool control_slot_is_used(struct control *c, unsigned int i)
{
	uint32_t state = atomic_load(&c->slot[i].state);

	return state != CONTROL_EMPTY && state != CONTROL_GONE;
}

/* Every slot in use is past @state, and there are @nr of them at least. */
static inline bool control_all_reached(struct control *c, uint32_t state, unsigned int nr)
{
	unsigned int used = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++) {
		if (!control_slot_is_used(c, i))
			continue;
		used++;
		if (atomic_load(&c->slot[i].state) < state)
			return false;
	}
	return used >= nr;
}

static inline bool control_all_acked(struct control *c, uint32_t request)
{
	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		if (control_slot_is_used(c, i) && atomic_load(&c->slot[i].acked) != request)
			return false;
	return true;
}

/* Wait until @nr processes serve requests. Return: 0 or -ETIMEDOUT. */
static inline int control_wait_ready(struct control *c, unsigned int nr, double timeout_s)
{
	double end = control_deadline_s(timeout_s);

	while (!control_all_reached(c, CONTROL_RUNNING, nr)) {
		if (control_now_s() > end)
			return -ETIMEDOUT;
		control_nap();
	}
	return 0;
}

/* Have all processes do something. Return: 0, -ETIMEDOUT, or what a process says of its step. */
static inline int control_request(struct control *c, enum control_op op, double timeout_s)
{
	double end = control_deadline_s(timeout_s);
	uint32_t nr;

	atomic_store(&c->op, op);
	nr = atomic_fetch_add(&c->request, 1) + 1;
	while (!control_all_acked(c, nr)) {
		if (control_now_s() > end)
			return -ETIMEDOUT;
		control_nap();
	}
	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		if (atomic_load(&c->slot[i].failed))
			return -(int)atomic_load(&c->slot[i].failed);
	return 0;
}

/* What the last VERIFY has found. */
static inline struct control_verdict control_verdict(struct control *c)
{
	struct control_verdict v = { 0 };

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++) {
		struct control_slot *s = &c->slot[i];

		if (!control_slot_is_used(c, i))
			continue;
		v.checked += s->checked;
		v.bad += s->bad;
		v.stale += s->stale;
		if (!v.first_bad)
			v.first_bad = s->first_bad;
	}
	return v;
}

#endif
