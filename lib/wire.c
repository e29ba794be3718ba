/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeper protocol: the only place that sends, receives and connects.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define CALL_TIMEOUT_S	5
#define CONNECT_RETRIES 3

/* Both ends are built from one header, but not always at one time. */
_Static_assert(sizeof(struct wptrack_task) == 144, "the layout is the protocol");
_Static_assert(sizeof(struct wptrack_msg) == 160, "the layout is the protocol");

/* More room than WPTRACK_MAX_FDS needs, so that a surplus shows as such. */
union fd_control {
	char buf[CMSG_SPACE(sizeof(int) * (WPTRACK_MAX_FDS + 2))];
	struct cmsghdr align;
};

static void close_all(const int *fds, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		close(fds[i]);
}

int wptrack_wire_send(int sk, struct wptrack_msg *msg, const int *fds, unsigned int nr_fds)
{
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(*msg) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	union fd_control control = { 0 };
	ssize_t ret;

	if (nr_fds > WPTRACK_MAX_FDS || (nr_fds && !fds))
		return -EINVAL;

	msg->version = WPTRACK_WIRE_VERSION;
	if (nr_fds) {
		struct cmsghdr *cmsg = &control.align;

		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nr_fds);
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
	}

	do {
		ret = sendmsg(sk, &hdr, MSG_NOSIGNAL);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return ret == (ssize_t)sizeof(*msg) ? 0 : -EPROTO;
}

/*
 * Take every descriptor out of the control data: the kernel has installed all
 * of them by now, so those that are one too many have to be closed here.
 */
static bool collect_fds(struct msghdr *hdr, int *fds, unsigned int *ret_nr)
{
	unsigned int nr = 0;
	bool fine = true;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t count;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
			fine = false;
			continue;
		}
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (nr < WPTRACK_MAX_FDS) {
				fds[nr++] = fd;
			} else {
				close(fd);
				fine = false;
			}
		}
	}
	*ret_nr = nr;
	return fine;
}

int wptrack_wire_recv(int sk, struct wptrack_msg *ret_msg, int ret_fds[WPTRACK_MAX_FDS], unsigned int *ret_nr_fds)
{
	struct wptrack_msg msg;
	struct iovec iov = { .iov_base = &msg, .iov_len = sizeof(msg) };
	union fd_control control;
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr_fds;
	ssize_t len;
	bool fine;

	do {
		len = recvmsg(sk, &hdr, MSG_CMSG_CLOEXEC);
	} while (len < 0 && errno == EINTR);
	if (len < 0)
		return -errno;

	fine = collect_fds(&hdr, fds, &nr_fds);
	/* An empty packet reads like the end of the connection: it is the sender's loss. */
	if (len == 0 && !nr_fds)
		return -ECONNRESET;
	if (!fine || len != (ssize_t)sizeof(msg) || (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
	    msg.version != WPTRACK_WIRE_VERSION) {
		close_all(fds, nr_fds);
		return -EPROTO;
	}

	msg.task.comm[sizeof(msg.task.comm) - 1] = '\0';
	*ret_msg = msg;
	for (unsigned int i = 0; i < WPTRACK_MAX_FDS; i++)
		ret_fds[i] = i < nr_fds ? fds[i] : -1;
	*ret_nr_fds = nr_fds;
	return 0;
}

/* Wait for the reply to @op; a descriptor comes with a success, and only if @want_fd. */
static int recv_reply(int sk, uint32_t op, struct wptrack_msg *ret_msg, int *ret_fd, bool want_fd)
{
	struct wptrack_msg reply;
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr_fds;
	int ret;

	ret = wptrack_wire_recv(sk, &reply, fds, &nr_fds);
	if (ret)
		return ret == -EAGAIN ? -ETIMEDOUT : ret;

	/* The keeper answers a message it could not make out with op 0. */
	if (reply.op != op && !(reply.op == 0 && reply.error == -EPROTO)) {
		close_all(fds, nr_fds);
		return -EPROTO;
	}
	if (reply.error > 0 || nr_fds != (want_fd && reply.error == 0 ? 1 : 0)) {
		close_all(fds, nr_fds);
		return -EPROTO;
	}
	*ret_msg = reply;
	*ret_fd = fds[0];
	return 0;
}

int wptrack_wire_call(int sk, struct wptrack_msg *msg, const int *fds, unsigned int nr_fds, int *ret_fd)
{
	struct wptrack_msg reply;
	int fd = -1;
	int ret;

	msg->task.pid_ns = wptrack_wire_pid_ns();
	ret = wptrack_wire_send(sk, msg, fds, nr_fds);
	if (ret == -EAGAIN)
		ret = -ETIMEDOUT;
	if (!ret)
		ret = recv_reply(sk, msg->op, &reply, &fd, ret_fd != NULL);
	if (ret) {
		/* A reply that comes late must never pass for the next one's. */
		shutdown(sk, SHUT_RDWR);
		return ret;
	}

	*msg = reply;
	if (reply.error)
		return reply.error;
	if (ret_fd)
		*ret_fd = fd;
	return 0;
}

uint64_t wptrack_wire_pid_ns(void)
{
	struct stat ns;

	return stat("/proc/self/ns/pid", &ns) ? 0 : ns.st_ino;
}

const char *wptrack_wire_run_dir(void)
{
	/* Not from the environment of a caller we have more rights than. */
	const char *dir = secure_getenv(WPTRACK_RUN_DIR_ENV);

	return dir && *dir ? dir : WPTRACK_RUN_DIR;
}

/* The peer's credentials are those of the keeper when it began to listen. */
static int check_owner(int sk)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sk, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	return cred.uid == 0 || cred.uid == geteuid() ? 0 : -EPERM;
}

static int open_socket(int *ret_sk)
{
	const struct timeval timeout = { .tv_sec = CALL_TIMEOUT_S };
	int sk;

	sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sk < 0)
		return -errno;
	if (setsockopt(sk, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
	    setsockopt(sk, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout))) {
		int err = errno;

		close(sk);
		return -err;
	}
	*ret_sk = sk;
	return 0;
}

static int connect_to(int sk, const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret;

	if (dir[0] != '/')
		return -EINVAL;
	ret = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", dir, WPTRACK_SOCKET);
	if (ret < 0 || (size_t)ret >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;

	do {
		ret = connect(sk, (struct sockaddr *)&addr, sizeof(addr));
	} while (ret && errno == EINTR);
	if (!ret)
		return check_owner(sk);

	switch (errno) {
	case ECONNREFUSED: /* the socket of a keeper that was killed */
		return -ENOENT;
	case EACCES:
		return -EPERM;
	case EAGAIN:
		return -ETIMEDOUT;
	default:
		return -errno;
	}
}

static int connect_once(int *ret_sk)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_HELLO };
	int sk = -1;
	int ret;

	ret = open_socket(&sk);
	if (ret)
		return ret;
	ret = connect_to(sk, wptrack_wire_run_dir());
	if (!ret)
		ret = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
	if (ret) {
		close(sk);
		return ret;
	}
	*ret_sk = sk;
	return 0;
}

int wptrack_wire_connect(int *ret_sk)
{
	int ret = -ECONNRESET;

	/* A keeper on its way out unlinks its socket first: the next try finds none, or its successor. */
	for (int i = 0; i < CONNECT_RETRIES && ret == -ECONNRESET; i++)
		ret = connect_once(ret_sk);
	return ret;
}

const char *wptrack_refusal_name(unsigned int refusal)
{
	static const char *const names[WPTRACK_REFUSED_NR] = {
		[WPTRACK_REFUSED_FILE] = "file",
		[WPTRACK_REFUSED_SHARED] = "shared",
		[WPTRACK_REFUSED_HUGETLB] = "hugetlb",
		[WPTRACK_REFUSED_SPECIAL] = "special",
		[WPTRACK_REFUSED_BUSY] = "busy",
		[WPTRACK_REFUSED_KERNEL] = "kernel",
		[WPTRACK_REFUSED_LIMIT] = "limit",
	};

	return refusal < WPTRACK_REFUSED_NR ? names[refusal] : "?";
}
