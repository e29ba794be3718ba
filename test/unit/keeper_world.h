/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the keeper's tests are made of: a private run directory, a keeper in it,
 * and processes to be tracked. All of it is gone when the test is left.
 */
#ifndef WPTRACK_TEST_KEEPER_WORLD_H
#define WPTRACK_TEST_KEEPER_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "harness.h"
#include "lib/wire.h"

/* The newer of these are not in every system's headers. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define WORLD_WAIT_MS	  10000
#define WORLD_MAX_KEEPERS 16

struct world {
	char base[40];
	char run[64]; /* the keeper's to make and to remove */
	pid_t keepers[WORLD_MAX_KEEPERS];
	unsigned int nr_keepers;
};

/* A process to be tracked; it ends when ctl is closed. */
struct target {
	pid_t pid;
	int pidfd;
	int uffd;
	int ctl; /* 'x': execute another program; end of file there: it has */
};

/* Wait for an event with a bound. Return: whether it came. */
static inline bool world_wait_fd(int fd, short events, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* Wait for a child to end, with a bound. Return: its wait status, -1 when it goes on. */
static inline int world_reap(pid_t pid, int timeout_ms)
{
	const int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	const bool ended = pidfd >= 0 && world_wait_fd(pidfd, POLLIN, timeout_ms);
	int status = -1;

	if (pidfd >= 0)
		close(pidfd);
	return ended && waitpid(pid, &status, 0) == pid ? status : -1;
}

static inline void world_end(struct world *world)
{
	char path[96];

	for (unsigned int i = 0; i < world->nr_keepers; i++) {
		/* 0: the test has waited for it itself. */
		if (!world->keepers[i])
			continue;
		kill(world->keepers[i], SIGTERM);
		if (world_reap(world->keepers[i], WORLD_WAIT_MS) < 0) {
			kill(world->keepers[i], SIGKILL);
			waitpid(world->keepers[i], NULL, 0);
		}
	}
	snprintf(path, sizeof(path), "%s/" WPTRACK_SOCKET, world->run);
	unlink(path);
	rmdir(world->run);
	rmdir(world->base);
	unsetenv(WPTRACK_RUN_DIR_ENV);
}

static inline struct world world_new(void)
{
	struct world world = { .base = "/tmp/wptrack-keeper-XXXXXX" };

	if (!mkdtemp(world.base))
		abort();
	snprintf(world.run, sizeof(world.run), "%s/run", world.base);
	setenv(WPTRACK_RUN_DIR_ENV, world.run, 1);
	return world;
}

#define WORLD __attribute__((cleanup(world_end))) struct world

/*
 * Start a keeper without waiting for it. With @pipes, its stdio and one more
 * descriptor are ends of that pipe, as a careless starter leaves them open.
 */
static inline pid_t world_spawn(struct world *world, int *ret_ready, const int *pipes)
{
	const char *path = getenv("WPTRACK_KEEPER");
	int ready[2];
	pid_t pid;

	if (!path || world->nr_keepers == WORLD_MAX_KEEPERS || pipe2(ready, O_CLOEXEC))
		abort();
	pid = fork();
	if (pid == 0) {
		char text[16];
		const int fd = dup(ready[1]);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pipes) {
			dup2(pipes[0], STDIN_FILENO);
			dup2(pipes[1], STDOUT_FILENO);
			dup2(pipes[1], STDERR_FILENO);
			dup2(pipes[1], 200);
		}
		snprintf(text, sizeof(text), "%d", fd);
		execl(path, path, "--ready-fd", text, NULL);
		_exit(127);
	}
	close(ready[1]);
	*ret_ready = ready[0];
	world->keepers[world->nr_keepers++] = pid;
	return pid;
}

/* Whether a starter has said that a keeper listens; takes the descriptor. */
static inline bool world_is_ready(int ready)
{
	char byte;
	const bool fine = world_wait_fd(ready, POLLIN, WORLD_WAIT_MS) && read(ready, &byte, 1) == 1;

	close(ready);
	return fine;
}

static inline bool world_start(struct world *world)
{
	int ready;

	world_spawn(world, &ready, NULL);
	return world_is_ready(ready);
}

/* Wait for keeper @i of the world to end by itself. Return: its wait status, -1 when it goes on. */
static inline int world_await_exit(struct world *world, unsigned int i, int timeout_ms)
{
	const int status = world_reap(world->keepers[i], timeout_ms);

	if (status >= 0)
		world->keepers[i] = 0;
	return status;
}

static inline void target_send_uffd(int sk)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct wptrack_msg msg = { 0 };
	const int uffd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		_exit(2);
	if (wptrack_wire_send(sk, &msg, &uffd, 1))
		_exit(3);
	close(uffd);
}

/* What target_exec() turns a target into: this program, told to wait for its end. */
#define TARGET_ARGUMENT "--be-another-program"

static inline void target_run(int sk)
{
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	target_send_uffd(sk);
	while (read(sk, &order, 1) == 1 && order == 'x')
		/* Closes sk, which is how the other end learns that the old memory is gone. */
		execl("/proc/self/exe", "target", TARGET_ARGUMENT, NULL);
	_exit(0);
}

static inline void target_end(struct target *target)
{
	if (target->pid > 0) {
		kill(target->pid, SIGKILL);
		waitpid(target->pid, NULL, 0);
		close(target->pidfd);
		close(target->uffd);
		close(target->ctl);
	}
}

#define TARGET __attribute__((cleanup(target_end))) struct target

static inline struct target target_new(void)
{
	struct target target = { .pid = -1, .pidfd = -1, .uffd = -1 };
	struct wptrack_msg msg;
	int fds[WPTRACK_MAX_FDS], sk[2];
	unsigned int nr_fds;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sk))
		abort();
	target.pid = fork();
	if (target.pid == 0) {
		close(sk[0]);
		target_run(sk[1]);
	}
	close(sk[1]);
	target.ctl = sk[0];
	target.pidfd = (int)syscall(SYS_pidfd_open, target.pid, 0);
	if (!wptrack_wire_recv(target.ctl, &msg, fds, &nr_fds) && nr_fds == 1)
		target.uffd = fds[0];
	return target;
}

/* Make the target execute another program. Return: whether it has. */
static inline bool target_exec(const struct target *target)
{
	char byte;

	return write(target->ctl, "x", 1) == 1 && world_wait_fd(target->ctl, POLLIN | POLLHUP, WORLD_WAIT_MS) &&
	       read(target->ctl, &byte, 1) == 0;
}

/* End the target; it is a zombie from here on. Return: whether it has ended. */
static inline bool target_kill(const struct target *target)
{
	return !kill(target->pid, SIGKILL) && world_wait_fd(target->pidfd, POLLIN, WORLD_WAIT_MS);
}

/* What main() of every test of the keeper does. */
static inline int world_run(const struct harness_test *tests, size_t nr, int argc, char **argv)
{
	/* A target that has executed another program, which is this one. */
	if (argc == 2 && !strcmp(argv[1], TARGET_ARGUMENT))
		return pause();
	if (!getenv("WPTRACK_KEEPER")) {
		fprintf(stderr, "WPTRACK_KEEPER must name the keeper program\n");
		return 2;
	}
	return harness_run(tests, nr, argc, argv);
}

#endif
