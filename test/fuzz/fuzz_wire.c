// SPDX-License-Identifier: GPL-2.0-only
/*
 * CRIU's side of the connection: a keeper that may answer anything at any time,
 * with any descriptors, or leave. What has to come of it is worked out for each
 * answer as it is sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/wire.h"

#define MAX_STEPS   32u
#define MAX_ANSWERS (2 * MAX_STEPS)
#define OUR_PID	    42
#define NO_ERROR    77 /* stands in a request; no reply has it */

/* An answer that waits in the socket. */
struct answer {
	bool is_ours; /* of the right size and version, with no more than WPTRACK_MAX_FDS descriptors */
	unsigned int nr_fds;
	struct wptrack_msg msg;
};

static struct {
	int sk;	    /* the client's */
	int peer;   /* -1: it has left */
	bool creds; /* control data that is no descriptor comes with every message */
	bool fills; /* the peer soon takes no more */
	bool ended; /* a call has failed, or the peer has left: no call works any more */
	struct answer answers[MAX_ANSWERS];
	unsigned int first, nr;
} line;

static int null_fd = -1;

static void answer(struct input *in, uint32_t op)
{
	struct answer *one = &line.answers[line.nr % MAX_ANSWERS];
	uint8_t how = next_byte(in), buf[sizeof(struct wptrack_msg) + 8] = { 0 };
	struct wptrack_msg *msg = &one->msg;
	size_t len = sizeof(*msg);
	int fds[FUZZ_MAX_FDS];

	if (line.peer < 0 || line.nr == MAX_ANSWERS)
		return;
	memset(msg, 0, sizeof(*msg));
	msg->version = WPTRACK_WIRE_VERSION;
	msg->op = op;
	if (how & 8)
		next_bytes(in, &msg->task, sizeof(msg->task));
	if (how & 16)
		msg->version = next_byte(in);
	if (how & 32)
		msg->op = next_byte(in) % 16;
	if (how & 64)
		msg->error = next_byte(in) - 250;
	if (how & 128)
		len = next_byte(in) % (sizeof(buf) + 1);
	one->nr_fds = how & 7;
	for (unsigned int i = 0; i < one->nr_fds; i++)
		fds[i] = null_fd;
	memcpy(buf, msg, sizeof(*msg));
	one->is_ours = len == sizeof(*msg) && msg->version == WPTRACK_WIRE_VERSION && one->nr_fds <= WPTRACK_MAX_FDS &&
		       !line.creds;
	/* An empty packet is the end of the connection to SOCK_SEQPACKET. */
	line.nr += send_raw(line.peer, buf, len, fds, one->nr_fds);
}

/* The answer that is received next; NULL: there is none. */
static const struct answer *next_answer(void)
{
	return line.first < line.nr ? &line.answers[line.first++] : NULL;
}

static void check_fds(const int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		MUST(fds[i] >= 0 && fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
		close(fds[i]);
	}
}

static void receive(void)
{
	const struct answer *one = next_answer();
	struct wptrack_msg msg, before;
	int fds[WPTRACK_MAX_FDS] = { -7, -7 };
	unsigned int nr_fds = 99;
	int err;

	memset(&msg, 0x5a, sizeof(msg));
	before = msg;
	err = wptrack_wire_recv(line.sk, &msg, fds, &nr_fds);
	if (err) {
		MUST(err < 0 && !memcmp(&msg, &before, sizeof(msg)) && nr_fds == 99);
		MUST(!one || !one->is_ours || line.ended);
		MUST(one || line.ended || err == -EAGAIN);
		return;
	}
	MUST(nr_fds <= WPTRACK_MAX_FDS);
	MUST(!msg.task.comm[WPTRACK_COMM_LEN - 1] && msg.version == WPTRACK_WIRE_VERSION);
	check_fds(fds, nr_fds);
	for (unsigned int i = nr_fds; i < WPTRACK_MAX_FDS; i++)
		MUST(fds[i] == -1);
	/* How many answers a call that failed has taken is not known. */
	if (line.ended)
		return;
	MUST(one && one->is_ours && nr_fds == one->nr_fds);
	msg.task.comm[WPTRACK_COMM_LEN - 1] = one->msg.task.comm[WPTRACK_COMM_LEN - 1];
	MUST(!memcmp(&msg, &one->msg, sizeof(msg)));
}

/* Whether @one may be the reply to @op: "one reply for each request", a descriptor only where one is due. */
static bool is_reply(const struct answer *one, uint32_t op, bool want_fd)
{
	const struct wptrack_msg *msg = one ? &one->msg : NULL;

	if (!one || !one->is_ours || msg->error > 0)
		return false;
	if (msg->op != op && !(msg->op == 0 && msg->error == -EPROTO))
		return false;
	return one->nr_fds == (want_fd && !msg->error ? 1 : 0);
}

static void check_call(const struct wptrack_msg *msg, uint32_t op, const struct answer *one, int err)
{
	MUST(err == msg->error);
	MUST(msg->op == op || msg->op == 0);
	MUST(!msg->task.comm[WPTRACK_COMM_LEN - 1]);
	MUST(msg->task.pid == one->msg.task.pid && msg->task.mm_id == one->msg.task.mm_id &&
	     msg->task.generation == one->msg.task.generation);
}

static void call(struct input *in, uint32_t op)
{
	uint8_t how = next_byte(in);
	bool want_fd = how & 1, is_due;
	unsigned int nr_fds = how >> 1 & 3;
	struct wptrack_msg msg = { .op = op, .error = NO_ERROR, .task.pid = OUR_PID };
	const int fds[3] = { null_fd, null_fd, null_fd };
	const struct answer *one;
	int fd = -7, err;

	one = nr_fds <= WPTRACK_MAX_FDS && !line.ended ? next_answer() : NULL;
	is_due = is_reply(one, op, want_fd);
	err = wptrack_wire_call(line.sk, &msg, fds, nr_fds, want_fd ? &fd : NULL);
	MUST(err <= 0 && (fd >= 0) == (!err && want_fd));
	if (fd >= 0)
		check_fds(&fd, 1);
	if (msg.error != NO_ERROR) {
		MUST(is_due && !line.ended);
		check_call(&msg, op, one, err);
		return;
	}
	/* The transport has failed: nothing is handed on, and no late reply passes for the next one's. */
	MUST(err < 0 && msg.op == op && msg.task.pid == OUR_PID);
	MUST(!is_due || (line.fills && err == -ETIMEDOUT));
	line.ended = true;
}

static void step(struct input *in)
{
	uint8_t what = next_byte(in);
	uint32_t op = 1 + (what >> 4);

	for (unsigned int i = what & 3; i; i--)
		answer(in, op);
	if ((what & 0xf) == 0xf && line.peer >= 0) {
		close(line.peer);
		line.peer = -1;
		line.ended = true;
	}
	if (what & 4)
		receive();
	else
		call(in, op);
	/* A keeper that reads, now and then. */
	if (what & 8 && line.peer >= 0) {
		char buf[sizeof(struct wptrack_msg)];

		while (recv(line.peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	const int on = 1;
	unsigned int fds;
	uint8_t how;
	int sks[2];

	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	fds = count_fds();
	MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sks));
	memset(&line, 0, sizeof(line));
	line.sk = sks[0];
	line.peer = sks[1];
	how = next_byte(&in);
	line.creds = (how & 7) == 7 && !setsockopt(line.sk, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	line.fills = how & 8 && !setsockopt(line.sk, SOL_SOCKET, SO_SNDBUF, &on, sizeof(on));
	for (unsigned int i = 0; in.left && i < MAX_STEPS; i++)
		step(&in);
	close(line.sk);
	if (line.peer >= 0)
		close(line.peer);
	MUST(count_fds() == fds);
	return 0;
}
