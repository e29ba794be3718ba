// SPDX-License-Identifier: GPL-2.0-only
/*
 * measure FILE CMD [ARG...]: run a command and write "key value" lines of it to
 * FILE: wall_us, peak_rss_kb (its own, as the kernel accounts it) and
 * peak_pte_kb (sampled each millisecond). Exits with the command's status.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"

#define EXIT_MEASURE 126

static long page_tables_kb(pid_t pid)
{
	char path[64], line[128];
	long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPTE: %ld", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

int main(int argc, char **argv)
{
	struct timespec period = { .tv_nsec = 1000000 };
	const uint64_t start = wptrack_now_us();
	long pte = 0, sample;
	struct rusage usage;
	int status;
	pid_t pid;
	FILE *out;

	if (argc < 3) {
		fprintf(stderr, "usage: measure FILE CMD [ARG...]\n");
		return EXIT_MEASURE;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0)
		return EXIT_MEASURE;

	while (wait4(pid, &status, WNOHANG, &usage) == 0) {
		sample = page_tables_kb(pid);
		if (sample > pte)
			pte = sample;
		nanosleep(&period, NULL);
	}

	out = fopen(argv[1], "we");
	if (!out) {
		fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
		return EXIT_MEASURE;
	}
	fprintf(out, "wall_us %" PRIu64 "\npeak_rss_kb %ld\npeak_pte_kb %ld\n", wptrack_now_us() - start,
		usage.ru_maxrss, pte);
	fclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_MEASURE;
}
