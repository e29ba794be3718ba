// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "criu_run.h"
#include "lib/cleanup.h"
#include "wptrack/proc_tree.h"

#define TICK_NS	    200000000L
#define QUESTION_MS 10000
#define CANCEL_NS   2000000L /* how often is asked whether criu can be told */

static sigset_t mask_before;
static sigset_t cancelling; /* empty before wptrack_run_prepare() */

void wptrack_run_prepare(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action;
	sigset_t set;

	sigemptyset(&cancelling);
	/* What is ignored is to be ignored still (nohup), and would not be when held back. */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (!sigaction(signals[i], NULL, &action) && action.sa_handler != SIG_IGN)
			sigaddset(&cancelling, signals[i]);
	set = cancelling;
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &mask_before);
	/* With SIGCHLD ignored by who has started us, a child's status would be lost. */
	signal(SIGCHLD, SIG_DFL);
	/* Who reads along may leave; the rounds are to end in order nevertheless. */
	signal(SIGPIPE, SIG_IGN);
}

int wptrack_run_cancelled(struct wptrack_run *run)
{
	const int sig = sigtimedwait(&cancelling, NULL, &(struct timespec){ 0 });

	if (sig > 0 && !run->cancelled)
		run->cancelled = sig;
	return run->cancelled;
}

static bool traces_any(pid_t tracer, pid_t root)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };

	/* A tree that cannot be read has ended, or as much of it is looked at as is known. */
	wptrack_tree_read(root, &tree);
	for (size_t i = 0; i < tree.nr; i++)
		if (wptrack_proc_tracer(tree.pids[i]) == tracer)
			return true;
	return false;
}

/* In a child, of which @out gets all that is written. What cannot be executed ends with 127; @teller has told why. */
static __attribute__((noreturn)) void become(char *const argv[], int out, const char *teller)
{
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &mask_before, NULL);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "%s%s: %s\n", teller, argv[0], strerror(errno));
	_exit(127);
}

/* Return: the child, or -errno. */
static pid_t start(char *const argv[], bool own_group)
{
	const pid_t child = fork();

	if (child < 0)
		return -errno;
	/* In both, so that whichever is first has the group before it is needed. */
	if (own_group)
		setpgid(child, 0);
	if (child)
		return child;
	/* Our stdout is for what others read. */
	become(argv, STDERR_FILENO, "wptrack: ");
}

/* @traced_root: 0 for a command that stops nothing. */
static int wait_for(struct wptrack_run *run, pid_t child, pid_t traced_root)
{
	bool told = false;
	sigset_t set = cancelling;
	int status;

	sigaddset(&set, SIGCHLD);
	for (;;) {
		const struct timespec patience = { .tv_nsec = run->cancelled && !told ? CANCEL_NS : TICK_NS };
		const pid_t ended = waitpid(child, &status, WNOHANG);
		bool at_once = false;
		int sig;

		if (ended == child)
			return status;
		if (ended < 0)
			return -errno;
		if (run->leave)
			return -EINPROGRESS;
		sig = sigtimedwait(&set, NULL, &patience);
		if (sig > 0 && sig != SIGCHLD) {
			at_once = run->cancelled;
			if (!at_once)
				run->cancelled = sig;
		}
		if (run->cancelled && !run->spare &&
		    (at_once || (!told && !(traced_root && traces_any(child, traced_root))))) {
			/* What it has started itself is to end as well. */
			kill(traced_root ? -child : child, run->cancelled);
			told = true;
		}
		if (sig < 0 && !run->cancelled && run->tick)
			run->tick(run->arg);
	}
}

int wptrack_run_criu(struct wptrack_run *run, char *const argv[])
{
	const pid_t child = start(argv, true);

	return child < 0 ? child : wait_for(run, child, run->root);
}

/* It cannot ask back. */
static __attribute__((noreturn)) void answer_to(char *const argv[], int out)
{
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	become(argv, out, "");
}

/* Up to the end, all but the beginning is dropped. Return: false when that does not come. */
static bool read_answer(int from, char *answer, size_t size)
{
	struct pollfd ready = { .fd = from, .events = POLLIN };
	char drop[BUFSIZ];
	size_t len = 0;
	ssize_t got;

	do {
		const bool is_full = len + 1 >= size;

		/* A signal that cancels is held back. */
		if (poll(&ready, 1, QUESTION_MS) <= 0)
			return false;
		got = read(from, is_full ? drop : answer + len, is_full ? sizeof(drop) : size - 1 - len);
		if (got > 0 && !is_full)
			len += (size_t)got;
		answer[len] = '\0';
	} while (got > 0);
	return true;
}

int wptrack_run_question(char *const argv[], char *answer, size_t size)
{
	int pipefd[2], status;
	pid_t child;

	answer[0] = '\0';
	if (pipe2(pipefd, O_CLOEXEC))
		return -errno;
	child = fork();
	if (!child)
		answer_to(argv, pipefd[1]);
	close(pipefd[1]);
	if (child > 0 && !read_answer(pipefd[0], answer, size))
		kill(child, SIGKILL);
	close(pipefd[0]);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -errno;
	return status;
}

bool wptrack_run_succeeded(int status)
{
	return status >= 0 && WIFEXITED(status) && !WEXITSTATUS(status);
}

int wptrack_run_shell(struct wptrack_run *run, const char *command)
{
	char *const argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)command, NULL };
	const pid_t child = start(argv, false);

	return child < 0 ? child : wait_for(run, child, 0);
}
