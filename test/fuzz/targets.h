/* SPDX-License-Identifier: GPL-2.0-only */
/* Processes to be tracked, which may end in the course of an input. */
#ifndef WPTRACK_TEST_FUZZ_TARGETS_H
#define WPTRACK_TEST_FUZZ_TARGETS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/sys_uffd.h"

#define TARGETS 3u
#define NOBODY	TARGETS

static struct {
	pid_t pid;
	int pidfd;
	int uffd;
	bool is_dead;
} target[TARGETS];

/* A process that sleeps, with a userfaultfd of its memory. */
static inline void make_target(unsigned int i)
{
	int ready[2], remote;
	ssize_t len;

	MUST(!pipe2(ready, O_CLOEXEC));
	target[i].pid = fork();
	if (!target[i].pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		remote = wptrack_uffd_create();
		if (remote < 0 || write(ready[1], &remote, sizeof(remote)) != sizeof(remote))
			_exit(1);
		for (;;)
			pause();
	}
	MUST(target[i].pid > 0);
	do {
		/* libFuzzer's clock ticks by a signal. */
		len = read(ready[0], &remote, sizeof(remote));
	} while (len < 0 && errno == EINTR);
	MUST(len == sizeof(remote));
	close(ready[0]);
	close(ready[1]);
	target[i].pidfd = wptrack_pidfd_open(target[i].pid);
	MUST(target[i].pidfd >= 0);
	target[i].uffd = wptrack_pidfd_getfd(target[i].pidfd, remote);
	MUST(target[i].uffd >= 0 && !wptrack_uffd_enable(target[i].uffd));
	target[i].is_dead = false;
}

/* It is a zombie, or even waited for, and its memory is gone. */
static inline void kill_target(unsigned int i, bool wait_for_it)
{
	struct pollfd pfd = { .fd = target[i].pidfd, .events = POLLIN };
	int nr;

	if (target[i].is_dead)
		return;
	kill(target[i].pid, SIGKILL);
	do {
		nr = poll(&pfd, 1, -1);
	} while (nr < 0 && errno == EINTR);
	MUST(nr == 1);
	if (wait_for_it)
		waitpid(target[i].pid, NULL, 0);
	target[i].is_dead = true;
}

static inline void end_target(unsigned int i)
{
	kill_target(i, false);
	waitpid(target[i].pid, NULL, 0);
	close(target[i].pidfd);
	close(target[i].uffd);
}

/* As at the start of an input: all are alive. */
static inline void renew_targets(void)
{
	for (unsigned int i = 0; i < TARGETS; i++) {
		if (!target[i].is_dead)
			continue;
		end_target(i);
		make_target(i);
	}
}

static inline void end_targets(void)
{
	for (unsigned int i = 0; i < TARGETS; i++)
		end_target(i);
}

static inline void make_targets(void)
{
	for (unsigned int i = 0; i < TARGETS; i++)
		make_target(i);
	atexit(end_targets);
}

/* Which target has that pid; NOBODY: none. */
static inline unsigned int target_of(int32_t pid)
{
	unsigned int i = 0;

	while (i < TARGETS && target[i].pid != pid)
		i++;
	return i;
}

/* A descriptor of some kind, @other now and then. */
static inline int pick_fd(uint8_t how, int other)
{
	const unsigned int i = how / 4 % TARGETS;

	if (how % 4 == 3)
		return other;
	return how % 4 == 1 ? target[i].uffd : target[i].pidfd;
}

#endif
