/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "keeper_serve.h"

/* A request while it is worked on, and what is to be answered. */
struct request {
	struct wptrack_table *table;
	struct wptrack_client *client;
	const struct wptrack_msg *msg;
	int *fds; /* those kept are set to -1 */
	struct wptrack_msg *reply;
	int reply_fd; /* stays the table's; -1: none */
};

static bool is_others(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->owner && entry->owner != req->client->serial;
}

/* Not tracked, and not to be forgotten either, but by the one who prepared it. */
static bool is_kept_in_mind(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->uffd < 0 && entry->owner != req->client->serial;
}

static int do_hello(struct request *req)
{
	req->client->greeted = true;
	return 0;
}

static int do_round(struct request *req)
{
	struct wptrack_session *session = NULL;
	struct wptrack_entry *root;

	if (req->msg->task.pid <= 0)
		return -EINVAL;
	root = wptrack_table_find(req->table, &req->msg->task);
	if (root)
		session = wptrack_session_get(root->session);
	if (!session)
		session = wptrack_session_new();
	if (!session)
		return -ENOMEM;

	wptrack_session_put(req->client->round);
	req->client->round = session;
	req->client->round_generation = ++session->generation;
	memcpy(req->reply->task.session, session->id, sizeof(session->id));
	req->reply->task.generation = session->generation;
	return 0;
}

static int do_take(struct request *req)
{
	const struct wptrack_task *asked = &req->msg->task;
	struct wptrack_entry *entry = wptrack_table_find(req->table, asked);

	if (!entry)
		return -ENOENT;
	if (is_others(req, entry))
		return -EBUSY;
	if (entry->info.start_time != asked->start_time || entry->info.mm_stamp != asked->mm_stamp) {
		wptrack_table_drop(req->table, entry);
		return -ENOENT;
	}
	if (entry->uffd < 0)
		return -ENODATA;
	req->reply->task = entry->info;
	req->reply_fd = entry->uffd;
	/* Whatever becomes of the caller: what it resets from here on is in no committed round. */
	entry->info.generation = 0;
	entry->info.base = 0;
	entry->owner = req->client->serial;
	return 0;
}

static int do_add(struct request *req)
{
	struct wptrack_entry *entry = wptrack_table_find(req->table, &req->msg->task);
	int err;

	if (entry && is_others(req, entry))
		return -EBUSY;
	if (entry)
		wptrack_table_drop(req->table, entry);
	err = wptrack_table_add(req->table, &req->msg->task, req->fds, &entry);
	if (err)
		return err;
	req->fds[0] = -1;
	req->fds[1] = -1;
	entry->owner = req->client->serial;
	req->reply->task.pid = entry->info.pid;
	req->reply->task.pid_ns = entry->info.pid_ns;
	req->reply->task.mm_id = entry->info.mm_id;
	return 0;
}

static int do_prepare(struct request *req)
{
	struct wptrack_entry *entry = wptrack_table_find(req->table, &req->msg->task);
	const int fds[2] = { req->fds[0], -1 };
	int err;

	if (entry && is_others(req, entry))
		return -EBUSY;
	if (entry && entry->uffd >= 0)
		return -EEXIST;
	if (entry)
		wptrack_table_drop(req->table, entry);
	err = wptrack_table_add(req->table, &req->msg->task, fds, &entry);
	if (err)
		return err;
	req->fds[0] = -1;
	entry->owner = req->client->serial;
	return 0;
}

static void note(struct wptrack_task *to, const struct wptrack_task *from)
{
	to->vmas_registered = from->vmas_registered;
	to->registered_bytes = from->registered_bytes;
	to->pages_written = from->pages_written;
	to->pages_clean = from->pages_clean;
	memcpy(to->vmas_refused, from->vmas_refused, sizeof(to->vmas_refused));
}

static int do_note(struct request *req)
{
	const struct wptrack_task *from = &req->msg->task;
	struct wptrack_entry *entry = wptrack_table_find(req->table, from);

	if (!entry)
		return -ENOENT;
	if (entry->owner != req->client->serial)
		return is_others(req, entry) ? -EBUSY : -EPERM;
	note(&entry->info, from);
	return 0;
}

static int do_restored(struct request *req)
{
	const struct wptrack_task *from = &req->msg->task;
	struct wptrack_entry *entry = wptrack_table_find(req->table, from);

	if (!from->generation || !from->base)
		return -EINVAL;
	if (!entry)
		return -ENOENT;
	if (entry->owner != req->client->serial || entry->uffd < 0)
		return is_others(req, entry) ? -EBUSY : -EPERM;
	note(&entry->info, from);
	wptrack_session_put(entry->session);
	entry->session = NULL;
	memcpy(entry->info.session, from->session, sizeof(entry->info.session));
	entry->info.generation = from->generation;
	entry->info.base = from->base;
	entry->owner = 0;
	return 0;
}

static int do_commit(struct request *req)
{
	struct wptrack_session *session = req->client->round;
	const uint64_t generation = req->client->round_generation;

	/* A round is committed by the connection it was given to, and once. */
	if (!session || req->msg->task.generation != generation ||
	    memcmp(req->msg->task.session, session->id, sizeof(session->id)))
		return -EINVAL;

	for (unsigned int i = 0; i < req->table->nr; i++) {
		struct wptrack_entry *entry = req->table->entries[i];

		if (entry->owner != req->client->serial || entry->uffd < 0)
			continue;
		wptrack_session_get(session);
		wptrack_session_put(entry->session);
		entry->session = session;
		memcpy(entry->info.session, session->id, sizeof(session->id));
		entry->info.generation = generation;
		entry->info.base = 0;
		entry->owner = 0;
	}
	req->client->round = NULL;
	wptrack_session_put(session);
	return 0;
}

static int do_list(struct request *req)
{
	const struct wptrack_entry *entry = wptrack_table_at(req->table, req->msg->index);

	if (!entry)
		return -ENOENT;
	req->reply->index = req->msg->index;
	req->reply->task = entry->info;
	return 0;
}

static int release_all(struct request *req)
{
	uint32_t released = 0;
	uint32_t others = 0;

	wptrack_table_sweep(req->table);
	for (unsigned int i = req->table->nr; i-- > 0;) {
		struct wptrack_entry *entry = req->table->entries[i];

		if (is_others(req, entry)) {
			others++;
			continue;
		}
		if (is_kept_in_mind(req, entry))
			continue;
		wptrack_table_drop(req->table, entry);
		released++;
	}
	req->reply->index = released;
	return others && !released ? -EBUSY : 0;
}

static int do_release(struct request *req)
{
	struct wptrack_entry *entry;

	if (req->msg->task.pid < 0)
		return -EINVAL;
	if (req->msg->task.pid == 0)
		return release_all(req);
	entry = wptrack_table_find(req->table, &req->msg->task);
	if (!entry)
		return -ENOENT;
	if (is_others(req, entry))
		return -EBUSY;
	if (is_kept_in_mind(req, entry))
		return -ENOENT;
	if (req->msg->index == WPTRACK_RELEASE_LATER)
		wptrack_table_release(req->table, entry);
	else
		wptrack_table_drop(req->table, entry);
	req->reply->index = 1;
	return 0;
}

static const struct {
	int (*serve)(struct request *req);
	unsigned int nr_fds;
} ops[] = {
	[WPTRACK_OP_HELLO] = { do_hello, 0 },
	[WPTRACK_OP_ROUND] = { do_round, 0 },
	[WPTRACK_OP_TAKE] = { do_take, 0 },
	[WPTRACK_OP_ADD] = { do_add, 2 },
	[WPTRACK_OP_NOTE] = { do_note, 0 },
	[WPTRACK_OP_COMMIT] = { do_commit, 0 },
	[WPTRACK_OP_LIST] = { do_list, 0 },
	[WPTRACK_OP_RELEASE] = { do_release, 0 },
	[WPTRACK_OP_PREPARE] = { do_prepare, 1 },
	[WPTRACK_OP_RESTORED] = { do_restored, 0 },
};

#define NR_OPS (sizeof(ops) / sizeof(ops[0]))

/* -EPROTO: the peer does not speak the protocol and is not listened to any longer. */
static int dispatch(struct request *req, unsigned int nr_fds)
{
	const uint32_t op = req->msg->op;

	if (op >= NR_OPS || !ops[op].serve || ops[op].nr_fds != nr_fds)
		return -EPROTO;
	if (op != WPTRACK_OP_HELLO && !req->client->greeted)
		return -EPROTO;
	/* A process that is to be tracked anew must not be held by a former userfaultfd. */
	if (op == WPTRACK_OP_TAKE || op == WPTRACK_OP_ADD || op == WPTRACK_OP_PREPARE)
		wptrack_table_close_released(req->table, &req->msg->task);
	return ops[op].serve(req);
}

int wptrack_serve_one(struct wptrack_table *table, struct wptrack_client *client)
{
	struct wptrack_msg reply = { .error = -EPROTO };
	struct wptrack_msg msg;
	int fds[WPTRACK_MAX_FDS] = { -1, -1 };
	unsigned int nr_fds = 0;
	struct request req = { table, client, &msg, fds, &reply, -1 };
	int err;

	err = wptrack_wire_recv(client->sk, &msg, fds, &nr_fds);
	if (err == -EAGAIN)
		return 0;
	if (err && err != -EPROTO)
		return err;
	if (!err) {
		reply.op = msg.op;
		reply.error = dispatch(&req, nr_fds);
	}
	for (unsigned int i = 0; i < WPTRACK_MAX_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);

	/* A peer that lets its replies pile up is not waited for: a full socket ends the connection. */
	err = wptrack_wire_send(client->sk, &reply, &req.reply_fd, req.reply_fd >= 0 ? 1 : 0);
	if (!err && reply.error == -EPROTO)
		err = -EPROTO;
	return err;
}

void wptrack_serve_end(struct wptrack_table *table, struct wptrack_client *client)
{
	wptrack_table_disown(table, client->serial);
	wptrack_session_put(client->round);
	client->round = NULL;
}
