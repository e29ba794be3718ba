// SPDX-License-Identifier: GPL-2.0-only
/*
 * measure RESULT CMD [ARG...]: run a command and write what it took to RESULT, as
 * "field value" lines:
 *
 *   wall_us       from its start to its end
 *   peak_rss_kb   most memory it had, or one of its children that it waited for
 *   peak_pte_kb   most page tables it had, looked at every other millisecond
 *
 * Exits with the command's status.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_MS 2
#define STATUS_MAX    4096

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Return: a field of /proc/PID/status in kB, 0 for a process that has none (any more). */
static unsigned long status_kb(pid_t pid, const char *field)
{
	char path[64], text[STATUS_MAX];
	unsigned long kb = 0;
	const char *at;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	at = strstr(text, field);
	if (at)
		sscanf(at + strlen(field), "%lu", &kb);
	return kb;
}

/* Wait for the end of @pid. Return: the most page tables seen on the way. */
static unsigned long watch(pid_t pid, int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	unsigned long kb, peak = 0;

	while (poll(&pfd, 1, LOOK_EVERY_MS) == 0) {
		kb = status_kb(pid, "\nVmPTE:");
		if (kb > peak)
			peak = kb;
	}
	return peak;
}

static int write_result(const char *path, uint64_t wall_us, long rss_kb, unsigned long pte_kb)
{
	FILE *f = fopen(path, "we");

	if (!f) {
		fprintf(stderr, "measure: %s: %s\n", path, strerror(errno));
		return 1;
	}
	fprintf(f, "wall_us %llu\npeak_rss_kb %ld\npeak_pte_kb %lu\n", (unsigned long long)wall_us, rss_kb, pte_kb);
	return fclose(f) ? 1 : 0;
}

int main(int argc, char **argv)
{
	uint64_t start = now_us();
	unsigned long pte_kb;
	struct rusage usage;
	int status, pidfd;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: measure RESULT CMD [ARG...]\n");
		return 2;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "measure: %s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		perror("measure");
		return 1;
	}
	pte_kb = watch(pid, pidfd);
	start = now_us() - start;
	if (wait4(pid, &status, 0, &usage) != pid) {
		perror("measure: wait4");
		return 1;
	}
	if (write_result(argv[1], start, usage.ru_maxrss, pte_kb))
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
