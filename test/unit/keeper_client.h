/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The keeper's protocol as its tests speak it: one function per op.
 */
#ifndef WPTRACK_TEST_KEEPER_CLIENT_H
#define WPTRACK_TEST_KEEPER_CLIENT_H

#include "keeper_world.h"

#define START_TIME 1000u
#define MM_STAMP   0xfeedu

static inline void client_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define FD __attribute__((cleanup(client_close))) int

static inline int client_new(void)
{
	int sk = -1;

	return wptrack_wire_connect(&sk) ? -1 : sk;
}

static inline struct wptrack_msg message(enum wptrack_op op, pid_t pid)
{
	struct wptrack_msg msg = { .op = op };

	msg.task.pid = pid;
	msg.task.start_time = START_TIME;
	msg.task.mm_stamp = MM_STAMP;
	return msg;
}

/* One request without descriptors. */
static inline int ask(int sk, struct wptrack_msg *msg)
{
	return wptrack_wire_call(sk, msg, NULL, 0, NULL);
}

static inline int add_fds(int sk, pid_t pid, int pidfd, int uffd)
{
	struct wptrack_msg msg = message(WPTRACK_OP_ADD, pid);
	const int fds[] = { pidfd, uffd };

	strcpy(msg.task.comm, "target");
	return wptrack_wire_call(sk, &msg, fds, 2, NULL);
}

static inline int add(int sk, const struct target *target)
{
	return add_fds(sk, target->pid, target->pidfd, target->uffd);
}

/* Throws the userfaultfd away; @ret_task may be NULL. */
static inline int take(int sk, pid_t pid, struct wptrack_task *ret_task)
{
	struct wptrack_msg msg = message(WPTRACK_OP_TAKE, pid);
	int uffd = -1;
	int err = wptrack_wire_call(sk, &msg, NULL, 0, &uffd);

	if (err)
		return err;
	close(uffd);
	if (ret_task)
		*ret_task = msg.task;
	return 0;
}

static inline int release(int sk, pid_t pid)
{
	struct wptrack_msg msg = message(WPTRACK_OP_RELEASE, pid);
	int err = ask(sk, &msg);

	return err ? err : (int)msg.index;
}

static inline int begin_round(int sk, pid_t root, struct wptrack_task *ret_round)
{
	struct wptrack_msg msg = message(WPTRACK_OP_ROUND, root);
	int err = ask(sk, &msg);

	if (!err)
		*ret_round = msg.task;
	return err;
}

static inline int commit(int sk, const struct wptrack_task *round)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_COMMIT, .task = *round };

	return ask(sk, &msg);
}

static inline int list(int sk, uint32_t index, struct wptrack_task *ret_task)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_LIST, .index = index };
	int err = ask(sk, &msg);

	if (!err && ret_task)
		*ret_task = msg.task;
	return err;
}

/* A whole round on one target with a connection of its own. */
static inline int run_round(const struct target *target, bool known, struct wptrack_task *ret_round)
{
	FD sk = client_new();
	int err = begin_round(sk, target->pid, ret_round);

	if (!err)
		err = known ? take(sk, target->pid, NULL) : add(sk, target);
	return err ? err : commit(sk, ret_round);
}

static inline bool same_session(const struct wptrack_task *a, const struct wptrack_task *b)
{
	return !memcmp(a->session, b->session, WPTRACK_ID_LEN);
}

#endif
