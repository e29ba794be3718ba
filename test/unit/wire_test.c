/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "harness.h"
#include "lib/wire.h"

struct pair {
	int near;
	int far;
};

static void close_pair(struct pair *pair)
{
	close(pair->near);
	close(pair->far);
}

#define PAIR __attribute__((cleanup(close_pair))) struct pair

/* Nothing here should wait; what does is cut short. */
static struct pair new_pair(void)
{
	const struct timeval timeout = { .tv_usec = 100 * 1000 };
	int sk[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sk))
		abort();
	for (int i = 0; i < 2; i++)
		setsockopt(sk[i], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	return (struct pair){ sk[0], sk[1] };
}

/* Send @len bytes and @nr_fds copies of stdin as they are. */
static bool send_raw(int sk, const void *data, size_t len, unsigned int nr_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 16)];
		struct cmsghdr header;
	} control = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		const int fd = STDIN_FILENO;

		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		for (unsigned int i = 0; i < nr_fds; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &fd, sizeof(fd));
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
	}
	return sendmsg(sk, &hdr, MSG_NOSIGNAL) == (ssize_t)len;
}

static struct wptrack_msg new_msg(void)
{
	struct wptrack_msg msg;

	memset(&msg, 0, sizeof(msg));
	msg.version = WPTRACK_WIRE_VERSION;
	msg.op = WPTRACK_OP_TAKE;
	return msg;
}

static int recv_quietly(int sk)
{
	struct wptrack_msg msg;
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr;

	return wptrack_wire_recv(sk, &msg, fds, &nr);
}

static void message_arrives_as_sent(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg out = new_msg(), in;
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr = 99;

	out.version = 0;
	out.error = -EBUSY;
	out.index = 7;
	out.task.pid = 1234;
	out.task.generation = UINT64_MAX;
	strcpy(out.task.comm, "fifteen letters");
	CHECK_EQ(wptrack_wire_send(pair.near, &out, NULL, 0), 0);
	CHECK_EQ(wptrack_wire_recv(pair.far, &in, fds, &nr), 0);
	CHECK_EQ(in.version, WPTRACK_WIRE_VERSION);
	CHECK(!memcmp(&in, &out, sizeof(in)));
	CHECK_EQ(nr, 0);
	CHECK_EQ(fds[0], -1);
	CHECK_EQ(fds[1], -1);
}

static void descriptors_arrive_close_on_exec(void)
{
	const int before = harness_count_fds();
	struct wptrack_msg msg = new_msg();
	const int sent[] = { STDIN_FILENO, STDOUT_FILENO };
	int fds[WPTRACK_MAX_FDS] = { -1, -1 };
	unsigned int nr = 0;

	{
		PAIR pair = new_pair();

		CHECK_EQ(wptrack_wire_send(pair.near, &msg, sent, 2), 0);
		CHECK_EQ(wptrack_wire_recv(pair.far, &msg, fds, &nr), 0);
	}
	CHECK_EQ(nr, 2);
	CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
	close(fds[0]);
	close(fds[1]);
	CHECK_EQ(harness_count_fds(), before);
}

static void more_descriptors_than_fit_are_not_sent(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();
	const int fds[] = { 0, 1, 2 };

	CHECK_EQ(wptrack_wire_send(pair.near, &msg, fds, 3), -EINVAL);
	CHECK_EQ(wptrack_wire_send(pair.near, &msg, NULL, 1), -EINVAL);
	CHECK_EQ(recv_quietly(pair.far), -EAGAIN);
}

static void truncated_message_is_refused(void)
{
	PAIR pair = new_pair();
	const struct wptrack_msg msg = new_msg();

	for (size_t len = 1; len < sizeof(msg); len++) {
		CHECK(send_raw(pair.near, &msg, len, 0));
		CHECK_EQ(recv_quietly(pair.far), -EPROTO);
	}
}

static void oversize_message_is_refused(void)
{
	PAIR pair = new_pair();
	const struct wptrack_msg msg = new_msg();
	char big[4 * sizeof(msg)] = { 0 };

	memcpy(big, &msg, sizeof(msg));
	for (size_t len = sizeof(msg) + 1; len <= sizeof(big); len += 37) {
		CHECK(send_raw(pair.near, big, len, 0));
		CHECK_EQ(recv_quietly(pair.far), -EPROTO);
	}
}

static void other_version_is_refused(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();

	msg.version = WPTRACK_WIRE_VERSION + 1;
	CHECK(send_raw(pair.near, &msg, sizeof(msg), 0));
	CHECK_EQ(recv_quietly(pair.far), -EPROTO);
	msg.version = 0;
	CHECK(send_raw(pair.near, &msg, sizeof(msg), 0));
	CHECK_EQ(recv_quietly(pair.far), -EPROTO);
}

/* One too many, as many as are looked for, and more than the control buffer holds. */
static void surplus_descriptors_are_closed(void)
{
	PAIR pair = new_pair();
	const struct wptrack_msg msg = new_msg();
	const int before = harness_count_fds();

	for (unsigned int nr = WPTRACK_MAX_FDS + 1; nr <= 16; nr++) {
		CHECK(send_raw(pair.near, &msg, sizeof(msg), nr));
		CHECK_EQ(recv_quietly(pair.far), -EPROTO);
		CHECK_EQ(harness_count_fds(), before);
	}
}

static void descriptors_of_a_refused_message_are_closed(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();
	const int before = harness_count_fds();

	CHECK(send_raw(pair.near, &msg, sizeof(msg) - 1, 2));
	CHECK_EQ(recv_quietly(pair.far), -EPROTO);
	msg.version++;
	CHECK(send_raw(pair.near, &msg, sizeof(msg), 2));
	CHECK_EQ(recv_quietly(pair.far), -EPROTO);
	CHECK_EQ(harness_count_fds(), before);
}

static void comm_is_terminated_whatever_was_sent(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();
	int fds[WPTRACK_MAX_FDS];
	unsigned int nr;

	memset(msg.task.comm, 'x', sizeof(msg.task.comm));
	CHECK(send_raw(pair.near, &msg, sizeof(msg), 0));
	CHECK_EQ(wptrack_wire_recv(pair.far, &msg, fds, &nr), 0);
	CHECK_EQ(strlen(msg.task.comm), sizeof(msg.task.comm) - 1);
}

static void outputs_are_untouched_on_failure(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg(), before;
	int fds[WPTRACK_MAX_FDS] = { 77, 78 };
	unsigned int nr = 79;

	CHECK(send_raw(pair.near, "x", 1, 0));
	before = msg;
	CHECK_EQ(wptrack_wire_recv(pair.far, &msg, fds, &nr), -EPROTO);
	CHECK(!memcmp(&msg, &before, sizeof(msg)));
	CHECK(fds[0] == 77 && fds[1] == 78 && nr == 79);
}

static void gone_peer_is_a_reset_and_no_signal(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();

	close(pair.far);
	pair.far = -1;
	CHECK_EQ(recv_quietly(pair.near), -ECONNRESET);
	CHECK_EQ(wptrack_wire_send(pair.near, &msg, NULL, 0), -ECONNRESET);
}

static void reply_comes_back_with_its_descriptor(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg(), reply = new_msg();
	const int sent = STDIN_FILENO;
	int fd = -1;

	reply.task.mm_id = 5;
	CHECK_EQ(wptrack_wire_send(pair.far, &reply, &sent, 1), 0);
	CHECK_EQ(wptrack_wire_call(pair.near, &msg, NULL, 0, &fd), 0);
	CHECK_EQ(msg.task.mm_id, 5);
	CHECK(fd >= 0);
	close(fd);
}

static void error_of_the_keeper_is_returned(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg(), reply = new_msg();
	int fd = 77;

	reply.error = -EBUSY;
	CHECK_EQ(wptrack_wire_send(pair.far, &reply, NULL, 0), 0);
	CHECK_EQ(wptrack_wire_call(pair.near, &msg, NULL, 0, &fd), -EBUSY);
	CHECK_EQ(fd, 77);
}

/* Sends @reply with @nr_fds descriptors as the answer to a TAKE and returns what the caller makes of it. */
static int answer_with(const struct wptrack_msg *reply, unsigned int nr_fds, bool want_fd)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg();
	int fd = -1;
	int ret;

	if (!send_raw(pair.far, reply, sizeof(*reply), nr_fds))
		return 1;
	ret = wptrack_wire_call(pair.near, &msg, NULL, 0, want_fd ? &fd : NULL);
	if (fd >= 0)
		close(fd);
	return ret;
}

static void odd_replies_are_refused(void)
{
	struct wptrack_msg reply = new_msg();
	const int before = harness_count_fds();

	CHECK_EQ(answer_with(&reply, 1, false), -EPROTO);
	CHECK_EQ(answer_with(&reply, 0, true), -EPROTO);
	CHECK_EQ(answer_with(&reply, 2, true), -EPROTO);
	reply.error = -ENOENT;
	CHECK_EQ(answer_with(&reply, 1, true), -EPROTO);
	reply.error = 1;
	CHECK_EQ(answer_with(&reply, 0, false), -EPROTO);
	reply.error = 0;
	reply.op = WPTRACK_OP_ADD;
	CHECK_EQ(answer_with(&reply, 0, false), -EPROTO);
	CHECK_EQ(harness_count_fds(), before);
}

static void late_reply_is_not_taken_for_the_next(void)
{
	PAIR pair = new_pair();
	struct wptrack_msg msg = new_msg(), late = new_msg();

	CHECK_EQ(wptrack_wire_call(pair.near, &msg, NULL, 0, NULL), -ETIMEDOUT);
	wptrack_wire_send(pair.far, &late, NULL, 0);
	CHECK_EQ(wptrack_wire_call(pair.near, &msg, NULL, 0, NULL), -ECONNRESET);
}

static void remove_place(char **dir)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, *dir);
	unlink(path);
	rmdir(*dir);
	unsetenv(WPTRACK_RUN_DIR_ENV);
}

static char *new_place(char *template)
{
	if (!mkdtemp(template))
		abort();
	setenv(WPTRACK_RUN_DIR_ENV, template, 1);
	return template;
}

#define PLACE(name)                                          \
	char name##_template[] = "/tmp/wptrack-wire-XXXXXX"; \
	char *name __attribute__((cleanup(remove_place))) = new_place(name##_template)

static int listen_in(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" WPTRACK_SOCKET, dir);
	if (sk < 0 || bind(sk, (struct sockaddr *)&addr, sizeof(addr)) || listen(sk, 8))
		abort();
	return sk;
}

static void no_keeper_is_told_as_such(void)
{
	PLACE(dir);
	int sk = 77;

	CHECK_EQ(wptrack_wire_connect(&sk), -ENOENT);
	/* The socket of one that was killed. */
	close(listen_in(dir));
	CHECK_EQ(wptrack_wire_connect(&sk), -ENOENT);
	CHECK_EQ(sk, 77);
}

static void unusable_run_dir_is_an_error(void)
{
	char path[200];
	int sk;

	CHECK_EQ(setenv(WPTRACK_RUN_DIR_ENV, "relative", 1), 0);
	CHECK_EQ(wptrack_wire_connect(&sk), -EINVAL);
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	CHECK_EQ(setenv(WPTRACK_RUN_DIR_ENV, path, 1), 0);
	CHECK_EQ(wptrack_wire_connect(&sk), -ENAMETOOLONG);
	CHECK_EQ(setenv(WPTRACK_RUN_DIR_ENV, "", 1), 0);
	CHECK(!strcmp(wptrack_wire_run_dir(), WPTRACK_RUN_DIR));
	unsetenv(WPTRACK_RUN_DIR_ENV);
	CHECK(!strcmp(wptrack_wire_run_dir(), WPTRACK_RUN_DIR));
}

/* Accepts a number of connections and closes them unanswered, then ends. */
static pid_t start_rude_listener(const char *dir, uid_t uid, int connections)
{
	const int listener = listen_in(dir);
	const pid_t pid = fork();

	if (pid) {
		close(listener);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The credentials a peer sees are those of the last listen(). */
	if (setuid(uid) || listen(listener, 8))
		_exit(1);
	raise(SIGSTOP);
	for (int i = 0; i < connections; i++)
		close(accept(listener, NULL, NULL));
	_exit(0);
}

/* Until it has stopped, it may not have changed its uid yet. */
static bool let_go(pid_t pid)
{
	int status;

	return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && !kill(pid, SIGCONT);
}

static void keeper_of_another_user_is_refused(void)
{
	PLACE(dir);
	pid_t pid;
	int sk, ret;

	if (geteuid())
		SKIP("needs root to be another user");
	pid = start_rude_listener(dir, 65534, 1);
	CHECK(let_go(pid));
	ret = wptrack_wire_connect(&sk);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK_EQ(ret, -EPERM);
}

static void keeper_that_leaves_is_asked_again(void)
{
	PLACE(dir);
	const int before = harness_count_fds();
	int status = -1;
	pid_t pid;
	int sk, ret;

	pid = start_rude_listener(dir, geteuid(), 3);
	CHECK(let_go(pid));
	ret = wptrack_wire_connect(&sk);
	waitpid(pid, &status, 0);
	/* It has accepted three times before it ended by itself. */
	CHECK_EQ(status, 0);
	CHECK_EQ(ret, -ECONNRESET);
	CHECK_EQ(harness_count_fds(), before);
}

static void refusals_have_names(void)
{
	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++)
		CHECK(wptrack_refusal_name(i) && strcmp(wptrack_refusal_name(i), "?"));
	CHECK(!strcmp(wptrack_refusal_name(WPTRACK_REFUSED_NR), "?"));
	CHECK(!strcmp(wptrack_refusal_name(~0u), "?"));
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(message_arrives_as_sent),
		TEST(descriptors_arrive_close_on_exec),
		TEST(more_descriptors_than_fit_are_not_sent),
		TEST(truncated_message_is_refused),
		TEST(oversize_message_is_refused),
		TEST(other_version_is_refused),
		TEST(surplus_descriptors_are_closed),
		TEST(descriptors_of_a_refused_message_are_closed),
		TEST(comm_is_terminated_whatever_was_sent),
		TEST(outputs_are_untouched_on_failure),
		TEST(gone_peer_is_a_reset_and_no_signal),
		TEST(reply_comes_back_with_its_descriptor),
		TEST(error_of_the_keeper_is_returned),
		TEST(odd_replies_are_refused),
		TEST(late_reply_is_not_taken_for_the_next),
		TEST(no_keeper_is_told_as_such),
		TEST(unusable_run_dir_is_an_error),
		TEST(keeper_of_another_user_is_refused),
		TEST(keeper_that_leaves_is_asked_again),
		TEST(refusals_have_names),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
