/* SPDX-License-Identifier: GPL-2.0-only */
/* The control loop of test programs that work in steps (control.h). */
#ifndef WPTRACK_TEST_STEPS_H
#define WPTRACK_TEST_STEPS_H

#include <time.h>

#include "control.h"

struct steps_ops {
	/* Do one more step. Return: 0 or -errno. */
	int (*step)(void);
	/* Check all memory and control_report() it. */
	void (*verify)(struct control_slot *slot);
};

static inline void steps_nap_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* Serve requests until told to quit. */
static inline void steps_serve(struct control *ctl, struct control_slot *slot, const struct steps_ops *ops)
{
	atomic_store(&slot->state, CONTROL_RUNNING);
	for (;;) {
		uint32_t nr = atomic_load(&ctl->request);
		enum control_op op = atomic_load(&ctl->op);

		control_beat(slot, false);
		if (nr == atomic_load(&slot->acked)) {
			steps_nap_ms(1);
			continue;
		}
		if (op == CONTROL_STEP) {
			int err = ops->step();

			if (err)
				atomic_store(&slot->failed, (uint32_t)-err);
		}
		if (op == CONTROL_VERIFY)
			ops->verify(slot);
		if (op == CONTROL_QUIT)
			atomic_store(&slot->state, CONTROL_GONE);
		atomic_store(&slot->acked, nr);
		if (op == CONTROL_QUIT)
			return;
	}
}

#endif
