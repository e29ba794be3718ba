// SPDX-License-Identifier: GPL-2.0-only
/* CRIU's side of the connection: a keeper that may answer anything, with any descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "wire.h"

static int null_fd;

static void answer(struct input *in, int sk)
{
	uint8_t how = next_byte(in), buf[sizeof(struct wptrack_msg) + 8] = { 0 };
	size_t len = how & 0x80 ? next_byte(in) * 2 % sizeof(buf) : sizeof(struct wptrack_msg);
	struct wptrack_msg *msg = (struct wptrack_msg *)buf;
	unsigned int nr_fds = how % 8;
	int fds[8];

	if (how & 8)
		next_bytes(in, buf, sizeof(buf));
	if (how & 16)
		msg->version = WPTRACK_WIRE_VERSION;
	if (how & 32)
		msg->op = WPTRACK_OP_TAKE;
	if (how & 64)
		msg->error = 0;
	for (unsigned int i = 0; i < nr_fds; i++)
		fds[i] = null_fd;
	send_packet(sk, buf, len, fds, nr_fds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned int fds;
	int sks[2];

	if (!null_fd)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	fds = count_fds();
	MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sks));
	for (unsigned int i = 0; in.left && i < 16; i++) {
		struct wptrack_msg msg = { .op = WPTRACK_OP_TAKE, .task.pid = 42 };
		bool want_fd = next_byte(&in) & 1;
		int fd = -1, err;

		answer(&in, sks[1]);
		err = wptrack_wire_call(sks[0], &msg, NULL, 0, want_fd ? &fd : NULL);
		MUST(err <= 0);
		MUST((fd >= 0) == (!err && want_fd));
		/* Nothing of an answer that cannot be right is handed on. */
		MUST(err != -EPROTO || msg.task.pid == 42 || msg.error == -EPROTO);
		MUST(memchr(msg.task.comm, '\0', sizeof(msg.task.comm)));
		if (fd >= 0)
			close(fd);
	}
	close(sks[0]);
	close(sks[1]);
	MUST(count_fds() == fds);
	return 0;
}
