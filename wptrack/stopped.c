// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stopped.h"

/* The whole of a small file of /proc or of a cgroup. Return: false when it cannot be read. */
static bool slurp(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t len;

	if (!f)
		return false;
	len = fread(buf, 1, size - 1, f);
	fclose(f);
	buf[len] = '\0';
	return len > 0;
}

/* In a frozen cgroup, of either version. With version 1, each thread may be in another one. */
static bool is_frozen(pid_t pid, const char *tid)
{
	char path[PATH_MAX + 64], list[PATH_MAX], state[256];
	char *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/cgroup", pid, tid);
	if (!slurp(path, list, sizeof(list)))
		return false;
	for (char *line = strtok_r(list, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *group = strchr(line, '/');

		if (!group)
			continue;
		if (!strncmp(line, "0::", 3)) {
			/* Beside the controllers of version 1 it has a directory of its own. */
			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cgroup.events", group);
			if (!slurp(path, state, sizeof(state))) {
				snprintf(path, sizeof(path), "/sys/fs/cgroup/unified%s/cgroup.events", group);
				if (!slurp(path, state, sizeof(state)))
					continue;
			}
			if (strstr(state, "frozen 1"))
				return true;
		} else if (strstr(line, ":freezer:")) {
			snprintf(path, sizeof(path), "/sys/fs/cgroup/freezer%s/freezer.state", group);
			if (slurp(path, state, sizeof(state)) && !strcmp(state, "FROZEN\n"))
				return true;
		}
	}
	return false;
}

/* Return: the letter of /proc/PID/task/TID/stat, 0 when it is gone. */
static char thread_state(pid_t pid, const char *tid)
{
	char path[64 + NAME_MAX], stat[512];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid, tid);
	if (!slurp(path, stat, sizeof(stat)))
		return 0;
	end = strrchr(stat, ')');
	return end && end[1] == ' ' ? end[2] : 0;
}

bool wptrack_proc_is_stopped(pid_t pid)
{
	bool any = false, all = true;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	/* A thread that is on its way to a stop still runs. */
	for (const struct dirent *entry; dir && (entry = readdir(dir));) {
		const char state = entry->d_name[0] == '.' ? 0 : thread_state(pid, entry->d_name);

		if (!state || state == 'Z' || state == 'X')
			continue;
		if (state == 'T' || state == 't' || is_frozen(pid, entry->d_name))
			any = true;
		else
			all = false;
	}
	if (dir)
		closedir(dir);
	return any && all;
}

bool wptrack_proc_await_stopped(pid_t pid, unsigned int for_ms)
{
	static const unsigned int nap_ms = 10;

	for (unsigned int waited_ms = 0; !wptrack_proc_is_stopped(pid); waited_ms += nap_ms) {
		if (waited_ms >= for_ms)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = nap_ms * 1000000L }, NULL);
	}
	return true;
}

uint32_t wptrack_proc_innermost_pid(pid_t pid)
{
	char path[64], buf[8192];
	const char *line, *last;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (!slurp(path, buf, sizeof(buf)))
		return 0;
	line = strstr(buf, "\nNSpid:");
	if (!line)
		return 0;
	line++;
	last = line + strcspn(line, "\n");
	while (last > line && last[-1] != '\t')
		last--;
	return (uint32_t)strtoul(last, NULL, 10);
}
