// SPDX-License-Identifier: GPL-2.0-only
/*
 * reaper CMD [ARG...]: run a command as the parent of last resort of all that
 * it starts. Dumped and restored programs, and daemons, end up as children of
 * this process, which waits for them: a pid is free as soon as its process is
 * dead, whatever the machine's own init does.
 *
 * Exits with the command's status; with 125 when the command left processes
 * behind (they are named, given a moment to go, then killed).
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MS    5000
#define EXIT_LEFT   125
#define CHILDREN_MAX 256

static volatile sig_atomic_t told_to_stop;

static void on_stop(int sig)
{
	told_to_stop = sig;
}

static void nap_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* Fill in the pids of this process's children. Return: how many. */
static int list_children(pid_t pids[CHILDREN_MAX])
{
	char path[64];
	FILE *f;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (n < CHILDREN_MAX && fscanf(f, "%d", &pids[n]) == 1)
		n++;
	fclose(f);
	return n;
}

static void name_child(pid_t pid)
{
	char path[64], comm[32] = "?\n";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (f) {
		if (!fgets(comm, sizeof(comm), f))
			strcpy(comm, "?\n");
		fclose(f);
	}
	fprintf(stderr, "reaper: left behind: %d %s", pid, comm);
}

/* Kill children, and what they leave to us, until there are none. */
static void kill_all(bool loud)
{
	pid_t pids[CHILDREN_MAX];
	int n;

	while ((n = list_children(pids)) > 0) {
		for (int i = 0; i < n; i++) {
			if (loud)
				name_child(pids[i]);
			kill(pids[i], SIGKILL);
		}
		for (int i = 0; i < n; i++)
			waitpid(pids[i], NULL, 0);
	}
}

/* Wait for the command, reaping everybody else. Return: its wait status, -1 when told to stop. */
static int wait_command(pid_t cmd)
{
	int status;
	pid_t pid;

	for (;;) {
		pid = waitpid(-1, &status, 0);
		if (told_to_stop)
			return -1;
		if (pid == cmd)
			return status;
		if (pid < 0 && errno != EINTR)
			return -1;
	}
}

/* Return: true when every child has gone by itself in time. */
static bool wait_rest(void)
{
	for (int waited = 0; waited < GRACE_MS; waited += 20) {
		pid_t pid;

		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return true;
		nap_ms(20);
	}
	return false;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_stop };
	pid_t cmd;
	int status;

	if (argc < 2) {
		fprintf(stderr, "usage: reaper CMD [ARG...]\n");
		return 2;
	}
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) {
		perror("reaper: PR_SET_CHILD_SUBREAPER");
		return 1;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	setenv("WPTRACK_REAPED", "1", 1);
	cmd = fork();
	if (cmd < 0) {
		perror("reaper: fork");
		return 1;
	}
	if (cmd == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "reaper: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	status = wait_command(cmd);
	if (status < 0) {
		/* Its own clean-up first. */
		kill(cmd, SIGTERM);
		wait_rest();
		kill_all(false);
		return 128 + told_to_stop;
	}
	if (!wait_rest()) {
		kill_all(true);
		return EXIT_LEFT;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
