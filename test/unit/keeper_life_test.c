/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the keeper starts, what ends it, and what it leaves behind. WPTRACK_KEEPER names the program.
 */
#include <sys/file.h>

#include "keeper_client.h"
#include "lib/clock.h"

static void exit_of_a_task_drops_it(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	CHECK(target_kill(&target));
	/* Still a zombie: the pid is not free, and yet nothing is tracked under it. */
	CHECK_EQ(take(sk, target.pid, NULL), -ENOENT);
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
}

static void exec_drops_the_task_when_asked(void)
{
	WORLD world = world_new();
	TARGET one = target_new();
	TARGET two = target_new();
	struct wptrack_task round, task;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&one, false, &round), 0);
	CHECK_EQ(run_round(&two, false, &round), 0);
	sk = client_new();
	CHECK(target_exec(&one));
	CHECK_EQ(take(sk, one.pid, NULL), -ENOENT);
	CHECK_EQ(list(sk, 0, &task), 0);
	CHECK_EQ(task.pid, two.pid);
	CHECK(target_exec(&two));
	CHECK_EQ(list(sk, 0, &task), -ENOENT);
	CHECK_EQ(add(sk, &two), -ESRCH);
}

/* Userfaultfds that the keeper has open. */
static unsigned int uffds_of(pid_t keeper)
{
	char path[64], link[64];
	unsigned int nr = 0;

	for (int fd = 0; fd < 64; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", keeper, fd);
		len = readlink(path, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = '\0';
		nr += !strcmp(link, "anon_inode:[userfaultfd]");
	}
	return nr;
}

static void what_is_released_for_later_is_closed_when_it_ends(void)
{
	WORLD world = world_new();
	TARGET here = target_new();
	TARGET ends = target_new();
	TARGET at_once = target_new();
	struct wptrack_msg msg;
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(add(sk, &here), 0);
	CHECK_EQ(add(sk, &ends), 0);
	CHECK_EQ(add(sk, &at_once), 0);
	CHECK_EQ(uffds_of(world.keepers[0]), 3);
	msg = message(WPTRACK_OP_RELEASE, at_once.pid);
	CHECK_EQ(ask(sk, &msg), 0);
	CHECK_EQ(uffds_of(world.keepers[0]), 2);
	msg = message(WPTRACK_OP_RELEASE, here.pid);
	msg.index = WPTRACK_RELEASE_LATER;
	CHECK_EQ(ask(sk, &msg), 0);
	msg = message(WPTRACK_OP_RELEASE, ends.pid);
	msg.index = WPTRACK_RELEASE_LATER;
	CHECK_EQ(ask(sk, &msg), 0);
	/* The keeper looks after two seconds, which have not passed yet. */
	CHECK_EQ(uffds_of(world.keepers[0]), 2);
	CHECK(target_kill(&ends));
	for (int i = 0; i < 100 && uffds_of(world.keepers[0]) != 1; i++)
		usleep(10000);
	CHECK_EQ(uffds_of(world.keepers[0]), 1);
	CHECK_EQ(take(sk, here.pid, NULL), -ENOENT);
	CHECK_EQ(uffds_of(world.keepers[0]), 0);
}

static void nothing_left_ends_the_keeper_without_a_trace(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	CHECK_EQ(harness_count(world.run), 1);
	CHECK(target_kill(&target));
	CHECK_EQ(world_await_exit(&world, 0, WORLD_WAIT_MS), 0);
	CHECK_EQ(harness_count(world.base), 0);
}

static void exec_nobody_asks_about_ends_the_keeper_too(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	CHECK(target_exec(&target));
	CHECK_EQ(world_await_exit(&world, 0, 3 * WORLD_WAIT_MS), 0);
	CHECK_EQ(harness_count(world.base), 0);
}

static void keeper_stays_while_it_holds_a_task(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	/* Longer than it would stay with nothing to hold. */
	CHECK_EQ(world_await_exit(&world, 0, 4000), -1);
	sk = client_new();
	CHECK_EQ(take(sk, target.pid, NULL), 0);
}

static void keeper_that_was_cut_off_leaves(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	char path[96];

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, world.run);
	CHECK(!unlink(path) && !rmdir(world.run));
	/* As its successor has it before it listens there: that one is not to be removed. */
	CHECK_EQ(mkdir(world.run, 0700), 0);
	CHECK_EQ(world_await_exit(&world, 0, 3 * WORLD_WAIT_MS), 0);
	CHECK_EQ(harness_count(world.base), 1);
	CHECK(world_start(&world));
}

static void keeper_without_its_socket_leaves(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	char path[96];

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, world.run);
	CHECK(!unlink(path));
	CHECK_EQ(world_await_exit(&world, 0, 3 * WORLD_WAIT_MS), 0);
	CHECK_EQ(harness_count(world.base), 0);
	CHECK(world_start(&world));
}

static void sigterm_ends_the_keeper_without_a_trace(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	CHECK_EQ(take(sk, target.pid, NULL), 0);
	CHECK_EQ(kill(world.keepers[0], SIGHUP), 0);
	CHECK_EQ(list(sk, 0, NULL), 0);
	CHECK_EQ(kill(world.keepers[0], SIGTERM), 0);
	CHECK_EQ(world_await_exit(&world, 0, WORLD_WAIT_MS), 0);
	CHECK_EQ(harness_count(world.base), 0);
	CHECK_EQ(list(sk, 0, NULL), -ECONNRESET);
	CHECK_EQ(client_new(), -1);
}

static void killed_keeper_is_replaced(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, task;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	CHECK_EQ(kill(world.keepers[0], SIGKILL), 0);
	CHECK_EQ(world_await_exit(&world, 0, WORLD_WAIT_MS), SIGKILL);
	CHECK_EQ(client_new(), -1);
	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(take(sk, target.pid, NULL), -ENOENT);
	CHECK_EQ(begin_round(sk, target.pid, &task), 0);
	CHECK(!same_session(&round, &task));
}

/* How many of the world's keepers run; the others must have ended well. -1: one has failed. */
static int count_running(struct world *world)
{
	int running = 0;

	for (unsigned int i = 0; i < world->nr_keepers; i++) {
		int status;

		if (!world->keepers[i])
			continue;
		if (waitpid(world->keepers[i], &status, WNOHANG) == 0) {
			running++;
			continue;
		}
		world->keepers[i] = 0;
		if (status)
			return -1;
	}
	return running;
}

static void starters_at_once_end_with_one_keeper(void)
{
	for (int round = 0; round < 20; round++) {
		WORLD world = world_new();
		const int64_t deadline = wptrack_now_ms() + WORLD_WAIT_MS;
		int ready[8], running;
		FD sk = -1;

		for (int i = 0; i < 8; i++)
			world_spawn(&world, &ready[i], NULL);
		for (int i = 0; i < 8; i++)
			CHECK(world_is_ready(ready[i]));
		/* Ready means that it answers, whoever of them it was. */
		sk = client_new();
		CHECK(sk >= 0);
		while ((running = count_running(&world)) > 1 && wptrack_now_ms() < deadline)
			poll(NULL, 0, 5);
		CHECK_EQ(running, 1);
		CHECK_EQ(harness_count(world.run), 1);
	}
}

static void starter_is_not_ready_before_somebody_answers(void)
{
	WORLD world = world_new();
	FD sk = -1;
	int lock, ready;

	/* Another keeper that has got as far as the lock. */
	CHECK_EQ(mkdir(world.run, 0700), 0);
	lock = open(world.run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(flock(lock, LOCK_EX | LOCK_NB), 0);
	world_spawn(&world, &ready, NULL);
	CHECK(!world_wait_fd(ready, POLLIN, 300));
	/* It did not make it: the starter takes over. */
	close(lock);
	CHECK(world_is_ready(ready));
	sk = client_new();
	CHECK(sk >= 0);
}

static void starting_while_another_leaves_ends_with_a_keeper(void)
{
	for (int round = 0; round < 100; round++) {
		WORLD world = world_new();
		int ready;
		FD sk = -1;

		CHECK(world_start(&world));
		/* In another order each time, as far as two processors go. */
		if (round % 2)
			CHECK_EQ(kill(world.keepers[0], SIGTERM), 0);
		world_spawn(&world, &ready, NULL);
		if (round % 2 == 0)
			CHECK_EQ(kill(world.keepers[0], SIGTERM), 0);
		CHECK(world_is_ready(ready));
		CHECK_EQ(world_await_exit(&world, 0, WORLD_WAIT_MS), 0);
		sk = client_new();
		/* The starter may have found the first one still there: then it is started again. */
		if (sk < 0) {
			CHECK_EQ(world_await_exit(&world, 1, WORLD_WAIT_MS), 0);
			CHECK_EQ(harness_count(world.base), 0);
			CHECK(world_start(&world));
			sk = client_new();
		}
		CHECK(sk >= 0);
	}
}

static void starters_pipes_are_not_held_open(void)
{
	WORLD world = world_new();
	FD sk = -1;
	int to[2], from[2], ready;

	CHECK_EQ(pipe2(to, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(from, O_CLOEXEC), 0);
	world_spawn(&world, &ready, (int[]){ to[0], from[1] });
	close(to[0]);
	close(from[1]);
	CHECK(world_is_ready(ready));
	/* Both ends of everything: nobody reads what we write, nobody writes what we read. */
	CHECK(world_wait_fd(to[1], POLLERR, WORLD_WAIT_MS));
	CHECK(world_wait_fd(from[0], POLLHUP, WORLD_WAIT_MS));
	close(to[1]);
	close(from[0]);
	sk = client_new();
	CHECK(sk >= 0);
}

static bool link_is(pid_t pid, const char *name, const char *expected)
{
	char path[64], link[128];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return false;
	link[len] = '\0';
	return !strcmp(link, expected);
}

static void keeper_is_a_daemon_of_its_own(void)
{
	WORLD world = world_new();
	char path[128];
	struct stat st;
	pid_t pid;

	CHECK(world_start(&world));
	pid = world.keepers[0];
	CHECK_EQ(getsid(pid), pid);
	CHECK(link_is(pid, "cwd", "/"));
	CHECK(link_is(pid, "fd/0", "/dev/null"));
	CHECK(link_is(pid, "fd/1", "/dev/null"));
	CHECK(link_is(pid, "fd/2", "/dev/null"));
	CHECK_EQ(stat(world.run, &st), 0);
	CHECK_EQ(st.st_mode, S_IFDIR | 0700);
	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, world.run);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode, S_IFSOCK | 0600);
}

/* Start a keeper that is expected to fail. Return: its wait status. */
static int start_status(struct world *world)
{
	int ready;

	world_spawn(world, &ready, (int[]){ STDIN_FILENO, open("/dev/null", O_WRONLY | O_CLOEXEC) });
	if (world_is_ready(ready))
		return -1;
	return world_await_exit(world, world->nr_keepers - 1, WORLD_WAIT_MS);
}

static void directory_that_is_not_ours_alone_is_refused(void)
{
	WORLD world = world_new();
	const int failed = 1 << 8;

	CHECK_EQ(mkdir(world.run, 0700), 0);
	CHECK_EQ(chmod(world.run, 0777), 0);
	CHECK_EQ(start_status(&world), failed);
	CHECK_EQ(harness_count(world.run), 0);
	CHECK_EQ(rmdir(world.run), 0);
	CHECK_EQ(symlink("/tmp", world.run), 0);
	CHECK_EQ(start_status(&world), failed);
	CHECK_EQ(unlink(world.run), 0);
	CHECK_EQ(close(open(world.run, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	CHECK_EQ(start_status(&world), failed);
	CHECK_EQ(unlink(world.run), 0);
	if (geteuid() == 0) {
		CHECK_EQ(mkdir(world.run, 0700), 0);
		CHECK_EQ(chown(world.run, 65534, 65534), 0);
		CHECK_EQ(start_status(&world), failed);
	}
}

static void wrong_arguments_are_told(void)
{
	static const char *const wrong[] = { "x", "", "-1", "0", "2", "999", "99999999999", "3x" };
	const char *path = getenv("WPTRACK_KEEPER");

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const pid_t pid = fork();

		if (pid == 0) {
			const int null = open("/dev/null", O_WRONLY);

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			dup2(null, STDERR_FILENO);
			closefrom(3);
			execl(path, path, "--ready-fd", wrong[i], NULL);
			_exit(127);
		}
		CHECK_EQ(world_reap(pid, WORLD_WAIT_MS), 2 << 8);
	}
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(exit_of_a_task_drops_it),
		TEST(exec_drops_the_task_when_asked),
		TEST(what_is_released_for_later_is_closed_when_it_ends),
		TEST(nothing_left_ends_the_keeper_without_a_trace),
		TEST(exec_nobody_asks_about_ends_the_keeper_too),
		TEST(keeper_stays_while_it_holds_a_task),
		TEST(keeper_that_was_cut_off_leaves),
		TEST(keeper_without_its_socket_leaves),
		TEST(sigterm_ends_the_keeper_without_a_trace),
		TEST(killed_keeper_is_replaced),
		TEST(starters_at_once_end_with_one_keeper),
		TEST(starter_is_not_ready_before_somebody_answers),
		TEST(starting_while_another_leaves_ends_with_a_keeper),
		TEST(starters_pipes_are_not_held_open),
		TEST(keeper_is_a_daemon_of_its_own),
		TEST(directory_that_is_not_ours_alone_is_refused),
		TEST(wrong_arguments_are_told),
	};

	return world_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
