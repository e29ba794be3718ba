// SPDX-License-Identifier: GPL-2.0-only
/*
 * The keeper: any sequence of messages, with any descriptors, over several
 * connections that come, go and stop reading, while processes end. The table is
 * copied before each message, and whatever has changed in it afterwards must be
 * what wire.h says of that message.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"
#include "keeper/keeper_serve.h"
#include "targets.h"
#include "watched.h"

#define CLIENTS	  4u
#define ENTRIES	  2u /* one less than there are processes to be tracked */
#define MAX_STEPS 64u

/* What an op carries. A new one needs a row here, and its say in may_change() and may_drop(). */
static const struct {
	uint32_t op;
	unsigned int nr_fds;
} ops[] = {
	{ WPTRACK_OP_HELLO, 0 }, { WPTRACK_OP_ROUND, 0 },   { WPTRACK_OP_TAKE, 0 },
	{ WPTRACK_OP_ADD, 2 },	 { WPTRACK_OP_NOTE, 0 },    { WPTRACK_OP_COMMIT, 0 },
	{ WPTRACK_OP_LIST, 0 },	 { WPTRACK_OP_RELEASE, 0 }, { WPTRACK_OP_PREPARE, 1 },
	{ WPTRACK_OP_RESTORED, 0 },
};

#define NR_OPS (sizeof(ops) / sizeof(ops[0]))

struct peer {
	struct wptrack_client client;
	int sk;			   /* our end, -1: not connected, or left */
	bool is_connected;	   /* the keeper has not closed it */
	bool is_deaf;		   /* replies pile up */
	struct wptrack_task round; /* as it was told */
};

/* A message, and what it may do. */
struct request {
	struct peer *peer;
	struct wptrack_msg msg;
	bool is_ours; /* of the right size, version, op and number of descriptors, from one who has greeted */
	unsigned int nr_fds;
	int fds[3];
	unsigned int memory; /* whose the userfaultfd is that comes with ADD */
	/* The connection's round before. */
	bool has_round;
	uint8_t session[WPTRACK_ID_LEN];
	uint64_t generation;
};

static struct wptrack_table table;
static struct peer peers[CLIENTS];
static uint64_t last_serial;
static int null_fd = -1;

/* The book: the table before the message, and what has ever been given out. */
static struct wptrack_entry before[ENTRIES];
static unsigned int nr_before;
static uint64_t last_mm_id;
static unsigned int memory_of[MAX_STEPS + 1]; /* by mm_id */
static struct {
	uint8_t id[WPTRACK_ID_LEN];
	uint64_t generation;
} sessions[MAX_STEPS];
static unsigned int nr_sessions;

static void setup(void)
{
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	MUST(null_fd >= 0);
	make_targets();
}

static bool is_gone(const struct wptrack_entry *entry)
{
	const unsigned int i = target_of(entry->info.pid);

	MUST(i != NOBODY);
	return target[i].is_dead || (entry->uffd >= 0 && target[memory_of[entry->info.mm_id]].is_dead);
}

/* ---------------------------------------------------------------- what must hold at any time */

static bool is_live(uint64_t serial)
{
	for (unsigned int i = 0; i < CLIENTS; i++)
		if (peers[i].is_connected && peers[i].client.serial == serial)
			return true;
	return false;
}

static unsigned int count_refs(const struct wptrack_session *session)
{
	unsigned int refs = 0;

	for (unsigned int i = 0; i < table.nr; i++)
		refs += table.entries[i]->session == session;
	for (unsigned int i = 0; i < CLIENTS; i++)
		refs += peers[i].is_connected && peers[i].client.round == session;
	return refs;
}

static void check_entry(const struct wptrack_entry *entry)
{
	MUST(entry->info.mm_id && entry->info.mm_id <= last_mm_id);
	MUST(!entry->owner || is_live(entry->owner));
	MUST(!entry->owner || !entry->info.generation);
	MUST(!entry->info.generation || ((entry->session || entry->info.base) && entry->uffd >= 0));
	MUST(!entry->info.base || (entry->info.generation && !entry->session));
	MUST(memchr(entry->info.comm, '\0', sizeof(entry->info.comm)));
	MUST(fcntl(entry->pidfd, F_GETFD) == FD_CLOEXEC);
	MUST(entry->uffd < 0 || fcntl(entry->uffd, F_GETFD) == FD_CLOEXEC);
	if (!entry->session)
		return;
	MUST(entry->info.generation <= entry->session->generation);
	MUST(!memcmp(entry->info.session, entry->session->id, WPTRACK_ID_LEN));
	MUST(entry->session->refs == count_refs(entry->session));
}

static bool is_sorted(const struct wptrack_task *a, const struct wptrack_task *b)
{
	return a->pid < b->pid || (a->pid == b->pid && a->pid_ns < b->pid_ns);
}

static void check_table(void)
{
	MUST(table.nr <= table.cap && table.nr <= table.room);
	for (unsigned int i = 0; i < table.nr; i++) {
		MUST(i == 0 || is_sorted(&table.entries[i - 1]->info, &table.entries[i]->info));
		check_entry(table.entries[i]);
	}
	for (unsigned int i = 0; i < CLIENTS; i++)
		MUST(!peers[i].is_connected || !peers[i].client.round ||
		     peers[i].client.round->refs == count_refs(peers[i].client.round));
	check_watched(&table);
}

/* ---------------------------------------------------------------- what a message may change */

static bool is_mine(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->owner == req->peer->client.serial;
}

static bool is_others(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->owner && !is_mine(req, entry);
}

static bool is_asked_for(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->info.pid == req->msg.task.pid && entry->info.pid_ns == req->msg.task.pid_ns;
}

static bool is_same_memory(const struct request *req, const struct wptrack_entry *entry)
{
	return entry->info.start_time == req->msg.task.start_time && entry->info.mm_stamp == req->msg.task.mm_stamp;
}

/* May the entry have been let go for another reason than that the process is gone? */
static bool may_drop(const struct request *req, const struct wptrack_entry *old)
{
	if (is_others(req, old))
		return false;
	switch (req->msg.op) {
	case WPTRACK_OP_TAKE:
		return is_asked_for(req, old) && !is_same_memory(req, old);
	case WPTRACK_OP_ADD:
		return is_asked_for(req, old);
	case WPTRACK_OP_PREPARE:
		return is_asked_for(req, old) && old->uffd < 0;
	case WPTRACK_OP_RELEASE:
		/* What was prepared for is not forgotten, but by the one who did. */
		return (!req->msg.task.pid || is_asked_for(req, old)) && (old->uffd >= 0 || is_mine(req, old));
	default:
		return false;
	}
}

static bool is_restored(const struct request *req, const struct wptrack_entry *old)
{
	return req->msg.op == WPTRACK_OP_RESTORED && is_asked_for(req, old) && is_mine(req, old) && old->uffd >= 0 &&
	       req->msg.task.generation && req->msg.task.base;
}

/* Change @old to what it must be now. */
static void expect_change(const struct request *req, struct wptrack_entry *old)
{
	const struct wptrack_task *asked = &req->msg.task;
	const bool is_round = req->has_round && asked->generation == req->generation &&
			      !memcmp(asked->session, req->session, WPTRACK_ID_LEN);

	if (req->msg.op == WPTRACK_OP_TAKE && is_asked_for(req, old) && is_same_memory(req, old) &&
	    !is_others(req, old) && old->uffd >= 0) {
		old->owner = req->peer->client.serial;
		old->info.generation = 0;
		old->info.base = 0;
	}
	if (req->msg.op == WPTRACK_OP_COMMIT && is_round && is_mine(req, old) && old->uffd >= 0) {
		old->owner = 0;
		old->info.generation = req->generation;
		old->info.base = 0;
		memcpy(old->info.session, req->session, WPTRACK_ID_LEN);
	}
	if ((req->msg.op == WPTRACK_OP_NOTE || is_restored(req, old)) && is_asked_for(req, old) && is_mine(req, old)) {
		old->info.vmas_registered = asked->vmas_registered;
		old->info.registered_bytes = asked->registered_bytes;
		old->info.pages_written = asked->pages_written;
		old->info.pages_clean = asked->pages_clean;
		memcpy(old->info.vmas_refused, asked->vmas_refused, sizeof(asked->vmas_refused));
	}
	if (is_restored(req, old)) {
		old->owner = 0;
		old->info.generation = asked->generation;
		old->info.base = asked->base;
		memcpy(old->info.session, asked->session, WPTRACK_ID_LEN);
	}
}

static struct wptrack_entry *find_id(uint64_t mm_id)
{
	for (unsigned int i = 0; i < table.nr; i++)
		if (table.entries[i]->info.mm_id == mm_id)
			return table.entries[i];
	return NULL;
}

static void check_old(const struct request *req, struct wptrack_entry *old)
{
	const struct wptrack_entry *now = find_id(old->info.mm_id);

	if (!now) {
		MUST(req->is_ours && (is_gone(old) || may_drop(req, old)));
		return;
	}
	if (req->is_ours) {
		MUST(req->msg.op != WPTRACK_OP_RELEASE || !may_drop(req, old));
		/* One that is gone is not there for TAKE and NOTE. */
		MUST(!is_gone(old) || !is_asked_for(req, old) ||
		     (req->msg.op != WPTRACK_OP_TAKE && req->msg.op != WPTRACK_OP_NOTE &&
		      !is_restored(req, old)));
		expect_change(req, old);
	}
	MUST(now->owner == old->owner && now->pidfd == old->pidfd && now->uffd == old->uffd);
	MUST(!memcmp(&now->info, &old->info, sizeof(now->info)));
}

static void check_new(const struct request *req, const struct wptrack_entry *now)
{
	const struct wptrack_task *asked = &req->msg.task;

	MUST(req->is_ours && (req->msg.op == WPTRACK_OP_ADD || req->msg.op == WPTRACK_OP_PREPARE));
	MUST(is_asked_for(req, now) && is_same_memory(req, now) && is_mine(req, now));
	MUST(!now->info.generation && !now->session);
	MUST((now->uffd >= 0) == (req->msg.op == WPTRACK_OP_ADD));
	MUST(!strncmp(now->info.comm, asked->comm, WPTRACK_COMM_LEN - 1));
	/* The descriptors were what they should be, of a process that lives. */
	MUST(target_of(asked->pid) != NOBODY && req->fds[0] == target[target_of(asked->pid)].pidfd);
	MUST(now->uffd < 0 || req->memory != NOBODY);
	MUST(now->info.mm_id > last_mm_id && now->info.mm_id <= MAX_STEPS);
	last_mm_id = now->info.mm_id;
	memory_of[last_mm_id] = req->memory;
	MUST(!is_gone(now));
}

static void check_changes(const struct request *req)
{
	for (unsigned int i = 0; i < nr_before; i++)
		check_old(req, &before[i]);
	for (unsigned int i = 0; i < table.nr; i++) {
		if (table.entries[i]->info.mm_id <= last_mm_id)
			continue;
		check_new(req, table.entries[i]);
	}
}

static void copy_table(void)
{
	MUST(table.nr <= ENTRIES);
	nr_before = table.nr;
	for (unsigned int i = 0; i < table.nr; i++)
		before[i] = *table.entries[i];
}

/* A round's identity is new, and that of the root's session if it has one. */
static void check_round(const struct request *req)
{
	const struct wptrack_client *client = &req->peer->client;
	const uint8_t *id = client->round->id;
	unsigned int at = 0;

	while (at < nr_sessions && memcmp(sessions[at].id, id, WPTRACK_ID_LEN))
		at++;
	MUST(client->round_generation > (at < nr_sessions ? sessions[at].generation : 0));
	MUST(client->round_generation == client->round->generation);
	for (unsigned int i = 0; i < nr_before; i++)
		if (is_asked_for(req, &before[i]) && before[i].session && !is_gone(&before[i]))
			MUST(!memcmp(before[i].info.session, id, WPTRACK_ID_LEN));
	if (at == nr_sessions)
		memcpy(sessions[nr_sessions++].id, id, WPTRACK_ID_LEN);
	sessions[at].generation = client->round_generation;
}

/* ---------------------------------------------------------------- connections */

static void send_hello(struct peer *peer)
{
	struct wptrack_msg msg = { .version = WPTRACK_WIRE_VERSION, .op = WPTRACK_OP_HELLO };
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr_fds;

	MUST(send_raw(peer->sk, &msg, sizeof(msg), NULL, 0));
	MUST(!wptrack_serve_one(&table, &peer->client));
	MUST(!wptrack_wire_recv(peer->sk, &msg, fds, &nr_fds));
	MUST(msg.op == WPTRACK_OP_HELLO && !msg.error && !nr_fds);
}

static void come(struct peer *peer, bool greet)
{
	const int least = 1;
	int sks[2];

	if (peer->is_connected)
		return;
	MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sks));
	/* A few replies that nobody reads fill it. */
	setsockopt(sks[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	memset(peer, 0, sizeof(*peer));
	peer->sk = sks[0];
	peer->is_connected = true;
	peer->client = (struct wptrack_client){ .sk = sks[1], .serial = ++last_serial };
	if (greet)
		send_hello(peer);
}

/* Its tasks are nobody's, and nothing else has changed. */
static void leave(struct peer *peer)
{
	if (!peer->is_connected)
		return;
	copy_table();
	wptrack_serve_end(&table, &peer->client);
	MUST(table.nr == nr_before && !peer->client.round);
	for (unsigned int i = 0; i < nr_before; i++) {
		const struct wptrack_entry *now = table.entries[i], *old = &before[i];

		MUST(now->owner == (old->owner == peer->client.serial ? 0 : old->owner));
		MUST(now->session == old->session && !memcmp(&now->info, &old->info, sizeof(now->info)));
	}
	close(peer->client.sk);
	if (peer->sk >= 0)
		close(peer->sk);
	peer->sk = -1;
	peer->is_connected = false;
}

/* ---------------------------------------------------------------- messages */

/* The descriptors that belong to the message, unless it is to be odd. */
static void choose_fds(struct input *in, struct request *req, unsigned int nr_fds, bool is_odd)
{
	unsigned int i = target_of(req->msg.task.pid);

	if (i == NOBODY)
		i = 0;
	req->nr_fds = is_odd ? next_byte(in) % 4 : nr_fds;
	req->fds[0] = target[i].pidfd;
	req->fds[1] = target[i].uffd;
	req->fds[2] = null_fd;
	for (unsigned int k = 0; is_odd && k < req->nr_fds; k++)
		req->fds[k] = pick_fd(next_byte(in), k & 1 ? null_fd : table.epfd);
	req->memory = 0;
	while (req->memory < TARGETS && target[req->memory].uffd != req->fds[1])
		req->memory++;
}

static void fill_task(struct input *in, const struct peer *peer, struct wptrack_msg *msg)
{
	static const int32_t odd_pids[] = { 0, -1, 1, INT32_MAX };
	const uint8_t how = next_byte(in);

	/* Figures that differ, and a name without an end. */
	msg->task.vmas_registered = msg->task.vmas_refused[0] = how;
	msg->task.registered_bytes = msg->task.pages_written = msg->task.pages_clean = how;
	msg->task.mm_id = how;
	memset(msg->task.comm, 'c', sizeof(msg->task.comm));
	if (how & 1)
		next_bytes(in, &msg->task, sizeof(msg->task));
	/* One of two pid namespaces, of which the first is ours. */
	msg->task.pid_ns = wptrack_wire_pid_ns() + msg->task.pid_ns % 2;
	if (!(how & 2)) {
		memcpy(msg->task.session, peer->round.session, WPTRACK_ID_LEN);
		msg->task.generation = peer->round.generation + (how & 4 ? 1 : 0);
	}
	/* Mostly the same memory as the last time. */
	if (!(how & 4)) {
		msg->task.start_time = 1;
		msg->task.mm_stamp = how & 8 ? 2 : 1;
	}
	if (!(how & 16))
		msg->task.pid = target[(how >> 5) % TARGETS].pid;
	else if (how & 32)
		msg->task.pid = odd_pids[how >> 6];
	else if (how & 64)
		msg->index = next_byte(in);
}

/* @how: 15 is any number, any version, any size and any descriptors; below that, what the op asks for. */
static bool send_request(struct input *in, struct request *req)
{
	const uint8_t how = next_byte(in);
	const bool is_odd = how >> 4 == 15;
	uint8_t buf[sizeof(req->msg) + 8] = { 0 };
	size_t len = sizeof(req->msg);
	uint32_t nr_fds = ops[how % NR_OPS].nr_fds;

	req->msg.version = WPTRACK_WIRE_VERSION;
	req->msg.op = ops[how % NR_OPS].op;
	fill_task(in, req->peer, &req->msg);
	choose_fds(in, req, nr_fds, how >> 4 >= 13);
	if (is_odd) {
		const uint8_t what = next_byte(in);

		if (what & 1)
			req->msg.version = (uint32_t)next_number(in);
		if (what & 2)
			req->msg.op = (uint32_t)next_number(in);
		if (what & 4)
			len = next_byte(in) % (sizeof(buf) + 1);
	}
	memcpy(buf, &req->msg, sizeof(req->msg));
	req->is_ours = false;
	for (unsigned int i = 0; i < NR_OPS; i++)
		if (ops[i].op == req->msg.op)
			req->is_ours = req->nr_fds == ops[i].nr_fds && len == sizeof(req->msg) &&
				       req->msg.version == WPTRACK_WIRE_VERSION &&
				       (req->peer->client.greeted || req->msg.op == WPTRACK_OP_HELLO);
	return send_raw(req->peer->sk, buf, len, req->fds, req->nr_fds);
}

/* What TAKE hands out is what it was asked for: as it was before, with its own userfaultfd. */
static void check_taken(const struct request *req, const struct wptrack_msg *reply, int uffd)
{
	const struct wptrack_entry *entry = find_id(reply->task.mm_id);
	unsigned int i = 0;

	MUST(entry && is_mine(req, entry) && !is_gone(entry));
	while (i < nr_before && before[i].info.mm_id != reply->task.mm_id)
		i++;
	MUST(i < nr_before && is_asked_for(req, &before[i]) && is_same_memory(req, &before[i]));
	/* -1: this kernel does not compare. */
	MUST(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, uffd, target[memory_of[entry->info.mm_id]].uffd) <= 0);
}

static void check_listed(const struct wptrack_msg *asked, const struct wptrack_msg *reply)
{
	if (reply->error) {
		MUST(reply->error == -ENOENT && asked->index >= table.nr);
		return;
	}
	MUST(reply->index == asked->index && reply->index < table.nr && !is_gone(table.entries[reply->index]));
	MUST(!memcmp(&reply->task, &table.entries[reply->index]->info, sizeof(reply->task)));
}

static void check_reply(const struct request *req, const struct wptrack_msg *reply, const int *fds, unsigned int nr_fds)
{
	MUST(reply->error <= 0 && reply->op == req->msg.op);
	MUST(nr_fds == (reply->op == WPTRACK_OP_TAKE && !reply->error ? 1 : 0));
	if (reply->op == WPTRACK_OP_LIST)
		check_listed(&req->msg, reply);
	if (reply->op == WPTRACK_OP_RELEASE)
		MUST(reply->index <= nr_before);
	if (reply->error)
		return;
	if (reply->op == WPTRACK_OP_TAKE)
		check_taken(req, reply, fds[0]);
	if (reply->op == WPTRACK_OP_ADD)
		MUST(reply->task.mm_id == last_mm_id && find_id(last_mm_id));
	if (reply->op == WPTRACK_OP_PREPARE)
		MUST(find_id(last_mm_id) && find_id(last_mm_id)->uffd < 0);
	if (reply->op == WPTRACK_OP_ROUND) {
		req->peer->round = reply->task;
		MUST(reply->task.generation == req->peer->client.round_generation);
		MUST(!memcmp(reply->task.session, req->peer->client.round->id, WPTRACK_ID_LEN));
	}
}

static void take_reply(const struct request *req)
{
	int fds[WPTRACK_MAX_FDS];
	struct wptrack_msg reply;
	unsigned int nr_fds;

	MUST(!wptrack_wire_recv(req->peer->sk, &reply, fds, &nr_fds));
	check_reply(req, &reply, fds, nr_fds);
	for (unsigned int i = 0; i < nr_fds; i++)
		close(fds[i]);
}

/* @leaves: it has gone before the keeper gets to its message. */
static void ask(struct input *in, struct peer *peer, bool leaves)
{
	struct request req = { .peer = peer };
	const struct wptrack_client was = peer->client;
	int err;

	if (!send_request(in, &req))
		return;
	req.has_round = was.round;
	req.generation = was.round_generation;
	if (was.round)
		memcpy(req.session, was.round->id, WPTRACK_ID_LEN);
	if (leaves) {
		char buf[sizeof(req.msg)];

		/* With replies unread, the kernel would have the keeper's message lost. */
		while (recv(peer->sk, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
		close(peer->sk);
		peer->sk = -1;
	}
	/* As it is received. */
	req.msg.task.comm[WPTRACK_COMM_LEN - 1] = '\0';
	copy_table();
	err = wptrack_serve_one(&table, &peer->client);
	check_changes(&req);
	if (req.is_ours && req.msg.op == WPTRACK_OP_ROUND && req.msg.task.pid > 0)
		check_round(&req);
	else if (req.msg.op != WPTRACK_OP_COMMIT)
		MUST(peer->client.round == was.round && peer->client.round_generation == was.round_generation);
	MUST(peer->client.greeted == (was.greeted || (req.is_ours && req.msg.op == WPTRACK_OP_HELLO)));
	if (req.is_ours && !peer->is_deaf && !leaves) {
		MUST(!err);
		take_reply(&req);
	}
	MUST(err || (req.is_ours && !leaves));
	if (err)
		leave(peer);
}

static void step(struct input *in)
{
	const uint8_t what = next_byte(in);
	struct peer *peer = &peers[what % CLIENTS];

	switch (what / CLIENTS % 16) {
	case 0:
		leave(peer);
		return;
	case 1:
		/* Seldom: it costs a fork. */
		if (what >> 6 == 3) {
			const uint8_t which = next_byte(in);

			kill_target(which % TARGETS, which & 0x80);
			return;
		}
		come(peer, true);
		break;
	case 2:
		come(peer, false);
		break;
	case 3:
		come(peer, true);
		ask(in, peer, true);
		return;
	case 4:
		come(peer, true);
		peer->is_deaf = true;
		break;
	default:
		come(peer, true);
	}
	ask(in, peer, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned int fds;

	if (null_fd < 0)
		setup();
	renew_targets();
	fds = count_fds();
	last_mm_id = 0;
	nr_sessions = 0;
	table = (struct wptrack_table){ .cap = ENTRIES, .epfd = epoll_create1(EPOLL_CLOEXEC) };
	for (unsigned int i = 0; in.left && i < MAX_STEPS; i++) {
		step(&in);
		check_table();
	}
	for (unsigned int i = 0; i < CLIENTS; i++)
		leave(&peers[i]);
	check_table();
	wptrack_table_clear(&table);
	check_watched(&table);
	close(table.epfd);
	MUST(count_fds() == fds);
	return 0;
}
