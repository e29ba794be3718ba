// SPDX-License-Identifier: GPL-2.0-only
/*
 * watch-stops PID: look at all threads of a process as fast as can be, until it
 * is ended by SIGTERM, and say when it has begun, and in the end how often one was seen stopped or traced:
 *
 *	watching
 *	looks N stopped N traced N
 *
 * Exit status: 0, 1 when the process cannot be looked at.
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t ended;

static void end(int signo)
{
	(void)signo;
	ended = 1;
}

static int look(const char *pid, const char *tid, uint64_t *stopped, uint64_t *traced)
{
	char path[300], line[256];
	int tracer = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/status", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return 0; /* it has ended */
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "State:\tt", 8) || !strncmp(line, "State:\tT", 8))
			(*stopped)++;
		if (sscanf(line, "TracerPid: %d", &tracer) == 1) {
			*traced += tracer != 0;
			break;
		}
	}
	fclose(f);
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t looks = 0, stopped = 0, traced = 0;
	bool begun = false;
	struct dirent *entry;
	char path[64];

	if (argc != 2) {
		fprintf(stderr, "usage: watch-stops PID\n");
		return 1;
	}
	signal(SIGTERM, end);
	snprintf(path, sizeof(path), "/proc/%.20s/task", argv[1]);
	while (!ended) {
		DIR *dir = opendir(path);

		if (!dir)
			break;
		while ((entry = readdir(dir)))
			if (entry->d_name[0] != '.')
				looks += look(argv[1], entry->d_name, &stopped, &traced);
		closedir(dir);
		/* Whoever waits for this line begins when all have been looked at. */
		if (!begun && looks) {
			printf("watching\n");
			fflush(stdout);
			begun = true;
		}
	}
	printf("looks %" PRIu64 " stopped %" PRIu64 " traced %" PRIu64 "\n", looks, stopped, traced);
	return !looks;
}
