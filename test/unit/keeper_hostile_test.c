/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the keeper does not let its peers do to it. WPTRACK_KEEPER names the program.
 */
#include <sys/un.h>

#include "keeper_client.h"
#include "lib/clock.h"

static void peer_of_another_user_is_refused(void)
{
	WORLD world = world_new();
	char path[96];
	FD sk = -1;
	pid_t pid;

	if (geteuid())
		SKIP("needs root to be another user");
	CHECK(world_start(&world));
	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, world.run);
	CHECK(!chmod(world.base, 0755) && !chmod(world.run, 0755) && !chmod(path, 0666));
	pid = fork();
	if (pid == 0) {
		int peer;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setgid(65534) || setuid(65534))
			_exit(100);
		/* -EPERM would be the file modes' doing: it is let in that far, and then turned away. */
		_exit(wptrack_wire_connect(&peer) == -ECONNRESET ? 0 : 1);
	}
	CHECK_EQ(world_reap(pid, WORLD_WAIT_MS), 0);
	sk = client_new();
	CHECK(sk >= 0);
}

/* Connected but not greeted. */
static int connect_raw(const struct world *world)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" WPTRACK_SOCKET, world->run);
	if (connect(sk, (struct sockaddr *)&addr, sizeof(addr))) {
		close(sk);
		return -1;
	}
	return sk;
}

/* Whether the keeper answers -EPROTO, if at all, and then closes. */
static bool is_thrown_out(int sk)
{
	struct wptrack_msg reply;

	while (world_wait_fd(sk, POLLIN, WORLD_WAIT_MS)) {
		const ssize_t len = recv(sk, &reply, sizeof(reply), 0);

		if (len <= 0)
			return true;
		if (len != sizeof(reply) || reply.error != -EPROTO)
			return false;
	}
	return false;
}

static void hostile_messages_end_their_connection_only(void)
{
	WORLD world = world_new();
	const uint32_t ops[] = { 0, WPTRACK_OP_RELEASE + 1, UINT32_MAX, 1u << 31 };
	static const char big[65536] = { 0 };
	FD good = -1;

	CHECK(world_start(&world));
	good = client_new();
	for (size_t len = 1; len < sizeof(big); len = len * 3 / 2 + 1) {
		FD sk = connect_raw(&world);

		CHECK_EQ(send(sk, big, len, MSG_NOSIGNAL), len);
		CHECK(is_thrown_out(sk));
	}
	for (size_t i = 0; i < 4; i++) {
		FD sk = client_new();
		struct wptrack_msg msg = { .version = WPTRACK_WIRE_VERSION, .op = ops[i] };

		CHECK_EQ(send(sk, &msg, sizeof(msg), MSG_NOSIGNAL), sizeof(msg));
		CHECK(is_thrown_out(sk));
	}
	CHECK_EQ(list(good, 0, NULL), -ENOENT);
}

static void every_op_has_its_number_of_descriptors(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	const int fds[] = { target.pidfd, target.uffd };

	CHECK(world_start(&world));
	for (unsigned int op = WPTRACK_OP_HELLO; op <= WPTRACK_OP_RESTORED; op++) {
		for (unsigned int nr = 0; nr <= 2; nr++) {
			FD sk = client_new();
			struct wptrack_msg msg = message(op, target.pid);

			if (nr == (op == WPTRACK_OP_ADD ? 2 : op == WPTRACK_OP_PREPARE ? 1 : 0))
				continue;
			CHECK_EQ(wptrack_wire_call(sk, &msg, fds, nr, NULL), -EPROTO);
			CHECK(is_thrown_out(sk));
		}
	}
}

static void greeting_comes_first(void)
{
	WORLD world = world_new();

	CHECK(world_start(&world));
	for (unsigned int op = WPTRACK_OP_ROUND; op <= WPTRACK_OP_RESTORED; op++) {
		FD sk = connect_raw(&world);
		struct wptrack_msg msg = message(op, 1);

		if (op == WPTRACK_OP_ADD || op == WPTRACK_OP_PREPARE)
			continue;
		CHECK_EQ(ask(sk, &msg), -EPROTO);
		CHECK(is_thrown_out(sk));
	}
}

static int count_keeper_fds(const struct world *world)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", world->keepers[0]);
	return harness_count(path);
}

static void keeper_leaks_no_descriptors(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	const int fds[] = { target.pidfd, target.uffd };
	int64_t deadline;
	FD good = -1;
	int before;

	CHECK(world_start(&world));
	good = client_new();
	before = count_keeper_fds(&world);
	for (int i = 0; i < 50; i++) {
		FD sk = client_new();
		struct wptrack_msg msg = message(WPTRACK_OP_LIST, 1);

		CHECK_EQ(add(sk, &target), 0);
		CHECK_EQ(add(sk, &target), 0);
		CHECK_EQ(take(sk, target.pid, NULL), 0);
		CHECK_EQ(add_fds(sk, 1, target.pidfd, target.uffd), -EINVAL);
		CHECK_EQ(wptrack_wire_call(sk, &msg, fds, 2, NULL), -EPROTO);
	}
	CHECK_EQ(release(good, 0), 1);
	deadline = wptrack_now_ms() + WORLD_WAIT_MS;
	while (count_keeper_fds(&world) != before && wptrack_now_ms() < deadline)
		poll(NULL, 0, 5);
	CHECK_EQ(count_keeper_fds(&world), before);
}

/* How many descriptors the keeper's loop watches, closed ones that are open elsewhere included. */
static int count_watched(const struct world *world)
{
	char path[64], link[64] = "", line[256];
	int watched = 0;
	FILE *info;

	for (int fd = 0; fd < 64 && strcmp(link, "anon_inode:[eventpoll]"); fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", world->keepers[0], fd);
		len = readlink(path, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = '\0';
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", world->keepers[0], fd);
	}
	info = fopen(path, "re");
	if (!info)
		return -1;
	while (fgets(line, sizeof(line), info))
		watched += !strncmp(line, "tfd:", 4);
	fclose(info);
	return watched;
}

/* The client's pidfd is the same open file: left in the loop, its event would come for ever. */
static void released_task_is_watched_no_longer(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	FD sk = -1;
	int before;

	CHECK(world_start(&world));
	sk = client_new();
	before = count_watched(&world);
	CHECK_EQ(before, 3);
	CHECK_EQ(add(sk, &target), 0);
	CHECK_EQ(count_watched(&world), before + 1);
	CHECK_EQ(release(sk, target.pid), 1);
	CHECK_EQ(count_watched(&world), before);
}

static void idle_connections_block_nobody_and_are_bounded(void)
{
	enum { MANY = 300, ALLOWED = 256 };
	WORLD world = world_new();
	int sk[MANY];
	int open = 0;

	CHECK(world_start(&world));
	for (int i = 0; i < MANY; i++) {
		sk[i] = client_new();
		open += sk[i] >= 0;
	}
	CHECK_EQ(open, ALLOWED);
	CHECK_EQ(list(sk[0], 0, NULL), -ENOENT);
	CHECK_EQ(list(sk[ALLOWED - 1], 0, NULL), -ENOENT);
	for (int i = 0; i < MANY; i++)
		if (sk[i] >= 0)
			close(sk[i]);
	sk[0] = client_new();
	CHECK(sk[0] >= 0);
	CHECK_EQ(close(sk[0]), 0);
}

/* Requests without reading one reply: the socket fills up, and that is the client's loss. */
static void client_that_never_reads_is_closed(void)
{
	WORLD world = world_new();
	struct wptrack_msg msg = { .version = WPTRACK_WIRE_VERSION, .op = WPTRACK_OP_LIST };
	FD deaf = -1;
	FD good = -1;
	int sent = 0;

	CHECK(world_start(&world));
	good = client_new();
	deaf = client_new();
	while (sent < 100000 && send(deaf, &msg, sizeof(msg), MSG_NOSIGNAL) > 0)
		sent++;
	CHECK(sent < 100000);
	CHECK(errno == EPIPE || errno == ECONNRESET);
	CHECK_EQ(list(good, 0, NULL), -ENOENT);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(peer_of_another_user_is_refused),
		TEST(hostile_messages_end_their_connection_only),
		TEST(every_op_has_its_number_of_descriptors),
		TEST(greeting_comes_first),
		TEST(keeper_leaks_no_descriptors),
		TEST(released_task_is_watched_no_longer),
		TEST(idle_connections_block_nobody_and_are_bounded),
		TEST(client_that_never_reads_is_closed),
	};

	return world_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
