// SPDX-License-Identifier: GPL-2.0-only
/*
 * The keeper: any sequence of messages, with any descriptors, over several
 * connections that come and go. What wire.h and table.h promise is kept a book
 * of here, and compared after each step.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "keeper_serve.h"
#include "sys_uffd.h"
#include "wire.h"

#define CLIENTS	  4u
#define TARGETS	  3u
#define MAX_STEPS 64u

struct peer {
	struct wptrack_client client;
	int sk;			   /* our end, -1: not connected */
	struct wptrack_task round; /* what it was last told of a round */
};

static struct {
	pid_t pid;
	int pidfd;
	int uffd;
} target[TARGETS];

static struct wptrack_table table;
static struct peer peers[CLIENTS];
static uint64_t last_serial, last_mm_id;
static struct wptrack_task last_reply; /* to be sent back now and then */
static int null_fd;

/* A process that sleeps, with a userfaultfd of its memory. */
static void make_target(unsigned int i)
{
	int ready[2], remote;

	MUST(!pipe2(ready, O_CLOEXEC));
	target[i].pid = fork();
	if (!target[i].pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		remote = wptrack_uffd_create();
		if (remote < 0 || write(ready[1], &remote, sizeof(remote)) != sizeof(remote))
			_exit(1);
		for (;;)
			pause();
	}
	MUST(target[i].pid > 0 && read(ready[0], &remote, sizeof(remote)) == sizeof(remote));
	close(ready[0]);
	close(ready[1]);
	target[i].pidfd = wptrack_pidfd_open(target[i].pid);
	MUST(target[i].pidfd >= 0);
	target[i].uffd = wptrack_pidfd_getfd(target[i].pidfd, remote);
	MUST(target[i].uffd >= 0 && !wptrack_uffd_enable(target[i].uffd));
}

static void end_targets(void)
{
	for (unsigned int i = 0; i < TARGETS; i++) {
		kill(target[i].pid, SIGKILL);
		waitpid(target[i].pid, NULL, 0);
	}
}

static void setup(void)
{
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (unsigned int i = 0; i < TARGETS; i++)
		make_target(i);
	atexit(end_targets);
}

static void come(struct peer *peer)
{
	int sks[2];

	if (peer->sk >= 0)
		return;
	MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sks));
	peer->sk = sks[0];
	peer->client = (struct wptrack_client){ .sk = sks[1], .serial = ++last_serial };
}

static void leave(struct peer *peer)
{
	if (peer->sk < 0)
		return;
	wptrack_serve_end(&table, &peer->client);
	close(peer->client.sk);
	close(peer->sk);
	peer->sk = -1;
}

static int pick_fd(uint8_t how)
{
	unsigned int i = how / 4 % TARGETS;

	switch (how % 4) {
	case 0:
		return target[i].pidfd;
	case 1:
		return target[i].uffd;
	case 2:
		return null_fd;
	default:
		return peers[0].sk >= 0 ? peers[0].sk : null_fd;
	}
}

static void make_message(struct input *in, const struct peer *peer, struct wptrack_msg *msg)
{
	static const int32_t odd_pids[] = { 0, -1, 1, 0x7fffffff };
	uint8_t how = next_byte(in);

	memset(msg, 0, sizeof(*msg));
	msg->version = how & 0x80 ? next_byte(in) : WPTRACK_WIRE_VERSION;
	msg->op = next_byte(in) % 16;
	if (how & 1)
		msg->task = last_reply;
	if (how & 2)
		next_bytes(in, &msg->task, sizeof(msg->task));
	if (!(how & 4)) {
		memcpy(msg->task.session, peer->round.session, sizeof(msg->task.session));
		msg->task.generation = peer->round.generation;
	}
	how = next_byte(in);
	if (how & 1)
		msg->task.pid = target[how / 4 % TARGETS].pid;
	else if (how & 2)
		msg->task.pid = odd_pids[how / 4 % 4];
	msg->index = how & 8 ? next_byte(in) : 0;
}

static void send_message(struct input *in, struct peer *peer, const struct wptrack_msg *msg)
{
	uint8_t how = next_byte(in), buf[sizeof(*msg) + 8] = { 0 };
	unsigned int nr_fds = how % 4;
	size_t len = how & 0x40 ? next_byte(in) % sizeof(buf) : sizeof(*msg);
	int fds[4];

	memcpy(buf, msg, sizeof(*msg));
	for (unsigned int i = 0; i < nr_fds; i++)
		fds[i] = pick_fd(next_byte(in));
	send_packet(peer->sk, buf, len, fds, nr_fds);
}

static struct wptrack_entry *entry_of(int32_t pid)
{
	for (unsigned int i = 0; i < table.nr; i++)
		if (table.entries[i]->info.pid == pid)
			return table.entries[i];
	return NULL;
}

static void check_reply(struct peer *peer, const struct wptrack_msg *asked)
{
	struct wptrack_msg reply;
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr_fds;
	struct wptrack_entry *entry = entry_of(asked->task.pid);

	if (wptrack_wire_recv(peer->sk, &reply, fds, &nr_fds))
		return;
	MUST(reply.error <= 0);
	MUST(nr_fds == (reply.op == WPTRACK_OP_TAKE && !reply.error ? 1 : 0));
	for (unsigned int i = 0; i < nr_fds; i++)
		close(fds[i]);
	if (reply.op == 0)
		return;
	MUST(reply.op == asked->op);
	if (reply.error)
		return;
	if (reply.op == WPTRACK_OP_TAKE || reply.op == WPTRACK_OP_ADD) {
		MUST(entry && entry->owner == peer->client.serial && entry->info.generation == 0);
		MUST(entry->uffd >= 0);
	}
	if (reply.op == WPTRACK_OP_ADD) {
		MUST(reply.task.mm_id > last_mm_id);
		last_mm_id = reply.task.mm_id;
	}
	if (reply.op == WPTRACK_OP_PREPARE)
		MUST(entry && entry->owner == peer->client.serial && entry->uffd < 0);
	if (reply.op == WPTRACK_OP_COMMIT)
		for (unsigned int i = 0; i < table.nr; i++)
			MUST(table.entries[i]->owner != peer->client.serial || table.entries[i]->uffd < 0);
	if (reply.op == WPTRACK_OP_ROUND)
		peer->round = reply.task;
	last_reply = reply.task;
}

static bool is_live(uint64_t serial)
{
	for (unsigned int i = 0; i < CLIENTS; i++)
		if (peers[i].sk >= 0 && peers[i].client.serial == serial)
			return true;
	return false;
}

static void check_table(void)
{
	for (unsigned int i = 0; i < table.nr; i++) {
		const struct wptrack_entry *entry = table.entries[i];

		MUST(i == 0 || table.entries[i - 1]->info.pid < entry->info.pid);
		MUST(!entry->owner || is_live(entry->owner));
		MUST(!entry->owner || !entry->info.generation);
		MUST(!entry->info.generation || (entry->session && entry->uffd >= 0));
		MUST(!entry->session || entry->info.generation <= entry->session->generation);
		MUST(memchr(entry->info.comm, '\0', sizeof(entry->info.comm)));
	}
}

static void step(struct input *in)
{
	uint8_t what = next_byte(in);
	struct peer *peer = &peers[what % CLIENTS];
	struct wptrack_msg msg;

	if (what / CLIENTS % 8 == 0) {
		leave(peer);
		return;
	}
	come(peer);
	if (what & 0x80) {
		msg = (struct wptrack_msg){ .version = WPTRACK_WIRE_VERSION, .op = WPTRACK_OP_HELLO };
		MUST(send(peer->sk, &msg, sizeof(msg), 0) == sizeof(msg));
		if (wptrack_serve_one(&table, &peer->client)) {
			leave(peer);
			return;
		}
		check_reply(peer, &msg);
	}
	make_message(in, peer, &msg);
	send_message(in, peer, &msg);
	if (wptrack_serve_one(&table, &peer->client))
		leave(peer);
	else
		check_reply(peer, &msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned int fds;

	if (!null_fd)
		setup();
	fds = count_fds();
	last_mm_id = 0;
	memset(&last_reply, 0, sizeof(last_reply));
	table = (struct wptrack_table){ .cap = 2, .epfd = epoll_create1(EPOLL_CLOEXEC) };
	for (unsigned int i = 0; i < CLIENTS; i++)
		peers[i].sk = -1;
	for (unsigned int i = 0; in.left && i < MAX_STEPS; i++) {
		step(&in);
		check_table();
	}
	for (unsigned int i = 0; i < CLIENTS; i++)
		leave(&peers[i]);
	for (unsigned int i = 0; i < table.nr; i++)
		MUST(!table.entries[i]->owner);
	wptrack_table_clear(&table);
	close(table.epfd);
	MUST(count_fds() == fds);
	return 0;
}
