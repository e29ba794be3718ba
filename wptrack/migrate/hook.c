// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook.h"
#include "lib/clock.h"

#define PATIENCE_MS 10000

static __attribute__((noreturn)) void become(const char *command, const char *event)
{
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	/* Neither Ctrl-C nor what comes on the connection is for it. */
	setpgid(0, 0);
	dup2(null, STDIN_FILENO);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	setenv("WPTRACK_EVENT", event, 1);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int wptrack_hook_run(const char *command, const char *event)
{
	const int64_t end = wptrack_now_ms() + PATIENCE_MS;
	pid_t child, ended;
	int status;

	if (!command)
		return 0;
	child = fork();
	if (child < 0)
		return -EIO;
	if (!child)
		become(command, event);
	setpgid(child, child);
	while (!(ended = waitpid(child, &status, WNOHANG))) {
		if (wptrack_now_ms() >= end)
			kill(-child, SIGKILL);
		poll(NULL, 0, 1);
	}
	return ended == child && WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}
