// SPDX-License-Identifier: GPL-2.0-only
/*
 * stranger PID: somebody who has nothing to do with a program that is dumped, but the number of a process of it that
 * has ended. Prints a line when its 16 MiB are written; waits for it and ends when its standard input does.
 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (16ul << 20)

/* As linux/sched.h has it since Linux 5.5. */
struct stranger_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size;
};

static pid_t fork_as(pid_t pid)
{
	struct stranger_clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = 1,
	};

	return syscall(SYS_clone3, &args, sizeof(args));
}

static int live(void)
{
	char *memory = malloc(SIZE), c;

	if (!memory)
		return 1;
	memset(memory, 1, SIZE);
	if (write(STDOUT_FILENO, "there\n", 6) != 6)
		return 1;
	return read(STDIN_FILENO, &c, 1) < 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc != 2) {
		fprintf(stderr, "usage: %s PID\n", argv[0]);
		return 2;
	}
	pid = fork_as(atoi(argv[1]));
	if (pid < 0) {
		fprintf(stderr, "stranger: can't have the number %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	if (!pid)
		return live();
	return waitpid(pid, NULL, 0) != pid;
}
