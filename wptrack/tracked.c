// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "tracked.h"

static int append(struct wptrack_tracked *tracked, const struct wptrack_task *task)
{
	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if ((tracked->nr & (tracked->nr - 1)) == 0) {
		struct wptrack_task *all = reallocarray(tracked->tasks, tracked->nr ? tracked->nr * 2 : 1,
							sizeof(*all));

		if (!all)
			return -ENOMEM;
		tracked->tasks = all;
	}
	tracked->tasks[tracked->nr++] = *task;
	return 0;
}

int wptrack_tracked_fetch(struct wptrack_tracked *ret)
{
	int sk WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	int err;

	err = wptrack_wire_connect(&sk);
	if (err)
		return err == -ENOENT ? 0 : err;
	for (uint32_t index = 0; !err; index++) {
		struct wptrack_msg msg = { .op = WPTRACK_OP_LIST, .index = index };

		err = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
		if (!err)
			err = append(ret, &msg.task);
	}
	return err == -ENOENT ? 0 : err;
}

void wptrack_tracked_free(struct wptrack_tracked *tracked)
{
	free(tracked->tasks);
	*tracked = (struct wptrack_tracked){ 0 };
}

const struct wptrack_task *wptrack_tracked_find(const struct wptrack_tracked *tracked, pid_t pid)
{
	for (size_t i = 0; i < tracked->nr; i++)
		if (tracked->tasks[i].pid == pid && tracked->tasks[i].pid_ns == wptrack_wire_pid_ns())
			return &tracked->tasks[i];
	return NULL;
}

int wptrack_tracked_release(pid_t pid, uint32_t *ret_released)
{
	int sk WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	struct wptrack_msg msg = { .op = WPTRACK_OP_RELEASE, .task.pid = pid };
	int err;

	err = wptrack_wire_connect(&sk);
	if (!err)
		err = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
	/* All of none is none. */
	if (err == -ENOENT && !pid) {
		*ret_released = 0;
		return 0;
	}
	if (!err)
		*ret_released = msg.index;
	return err;
}
