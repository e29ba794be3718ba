// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proc.h"

#define FIRST_ROOM 256

static int add(struct wptrack_pids *pids, size_t *room, pid_t pid)
{
	size_t more = *room ? *room * 2 : FIRST_ROOM;
	pid_t *grown;

	if (pids->nr == *room) {
		grown = reallocarray(pids->pids, more, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		pids->pids = grown;
		*room = more;
	}
	pids->pids[pids->nr++] = pid;
	return 0;
}

int wptrack_proc_list(struct wptrack_pids *pids)
{
	struct dirent *entry;
	size_t room = 0;
	int err = 0;
	char *end;
	long pid;
	DIR *dir;

	*pids = (struct wptrack_pids){ 0 };
	dir = opendir("/proc");
	if (!dir)
		return -errno;

	while (!err && (errno = 0, entry = readdir(dir))) {
		pid = strtol(entry->d_name, &end, 10);
		if (!*end && pid > 0)
			err = add(pids, &room, pid);
	}
	if (!err)
		err = -errno;
	closedir(dir);
	if (err)
		wptrack_proc_list_free(pids);
	return err;
}

void wptrack_proc_list_free(struct wptrack_pids *pids)
{
	free(pids->pids);
	*pids = (struct wptrack_pids){ 0 };
}

static bool is_in_memory_of(pid_t pid, pid_t host)
{
	return pid != host && !syscall(SYS_kcmp, pid, host, KCMP_VM, 0, 0);
}

/* What can't be told counts as yes, but for who has ended. */
static bool may_be(int answer)
{
	return answer && answer != -ESRCH;
}

void wptrack_proc_look_at_guests(pid_t host, const struct wptrack_pids *among, struct wptrack_guests *guests)
{
	size_t i;

	*guests = (struct wptrack_guests){ 0 };
	for (i = 0; i < among->nr; i++) {
		pid_t pid = among->pids[i];

		if (!is_in_memory_of(pid, host))
			continue;
		guests->any = true;
		guests->io_uring |= may_be(wptrack_proc_has_io_uring(pid));
		guests->direct_io |= may_be(wptrack_proc_has_direct_io(pid));
		guests->uffd |= may_be(wptrack_proc_has_uffd(pid));
	}
}
