// SPDX-License-Identifier: GPL-2.0-only
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spawn.h"

#define READY_TIMEOUT_MS 10000

static int keeper_path(char *path, size_t size)
{
	const char *slash;
	Dl_info self;
	int dir;

	if (!dladdr(keeper_path, &self) || !self.dli_fname)
		return -ENOENT;

	slash = strrchr(self.dli_fname, '/');
	dir = slash ? slash - self.dli_fname : 0;
	if (snprintf(path, size, "%.*s/%s", dir, slash ? self.dli_fname : ".", WPTRACK_KEEPER_NAME) >= (int)size)
		return -ENAMETOOLONG;

	return access(path, X_OK) ? -errno : 0;
}

/* Only async-signal-safe calls from here: the caller may have threads. */
static _Noreturn void run_keeper(const char *path, int ready_fd)
{
	char fd_arg[16];
	sigset_t none;
	pid_t pid;

	pid = fork();
	if (pid)
		_exit(pid < 0);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(fd_arg, sizeof(fd_arg), "%d", ready_fd);
	fcntl(ready_fd, F_SETFD, 0);
	execl(path, WPTRACK_KEEPER_NAME, "--ready-fd", fd_arg, (char *)NULL);
	_exit(1);
}

/* The keeper writes a byte once it listens; its end of the pipe closes if it dies before. */
static int wait_ready(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char byte;
	int ret;

	do {
		ret = poll(&pfd, 1, READY_TIMEOUT_MS);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return -errno;
	if (!ret)
		return -ETIMEDOUT;
	return read(fd, &byte, 1) == 1 ? 0 : -ECHILD;
}

int wptrack_spawn_keeper(void)
{
	char path[PATH_MAX];
	int ready[2], err, status;
	pid_t pid;

	err = keeper_path(path, sizeof(path));
	if (err)
		return err;

	if (pipe2(ready, O_CLOEXEC))
		return -errno;

	pid = fork();
	if (!pid)
		run_keeper(path, ready[1]);
	err = pid < 0 ? -errno : 0;
	close(ready[1]);

	if (!err) {
		/* The child in between is gone at once, the keeper is init's. */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		err = wait_ready(ready[0]);
	}

	close(ready[0]);
	return err;
}
