// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <fcntl.h>

#include "proc.h"

/* Fields of /proc/PID/stat, counted from 1 as proc(5) does. */
#define STAT_FIRST_BEHIND_COMM 3
#define STAT_START_TIME	       22
#define STAT_START_CODE	       26
#define STAT_END_CODE	       27
#define STAT_START_STACK       28
#define STAT_START_DATA	       45
#define STAT_END_DATA	       46
#define STAT_LAST	       46

int wptrack_proc_read(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	size_t len = 0;
	ssize_t n;
	int fd, err = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;

	while (len < size - 1) {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0)
			err = -errno;
		if (n <= 0)
			break;
		len += n;
	}
	close(fd);
	buf[len] = '\0';
	return err;
}

/* FNV-1a: it has to tell layouts apart, not to withstand anybody. */
static uint64_t digest(uint64_t hash, uint64_t value)
{
	int i;

	for (i = 0; i < 8; i++, value >>= 8)
		hash = (hash ^ (value & 0xff)) * 0x100000001b3ull;
	return hash;
}

static int parse_stat(const char *stat, uint64_t fields[STAT_LAST + 1])
{
	/* comm may hold anything, but the last parenthesis ends it */
	const char *pos = strrchr(stat, ')');
	char *end;
	int i;

	if (!pos || pos[1] != ' ' || !pos[2] || pos[3] != ' ')
		return -EBADMSG;

	pos += 3; /* the state is a letter */
	for (i = STAT_FIRST_BEHIND_COMM + 1; i <= STAT_LAST; i++) {
		errno = 0;
		fields[i] = strtoull(pos, &end, 10);
		if (errno || end == pos)
			return -EBADMSG;
		pos = end;
	}
	return 0;
}

int wptrack_proc_identify(pid_t pid, struct wptrack_task *task)
{
	static const int layout[] = { STAT_START_CODE, STAT_END_CODE, STAT_START_STACK, STAT_START_DATA,
				      STAT_END_DATA };
	uint64_t fields[STAT_LAST + 1], stamp = 0xcbf29ce484222325ull;
	char buf[2048], path[64], comm[WPTRACK_COMM_LEN + 1];
	struct statx exe;
	unsigned int i;
	int err;

	err = wptrack_proc_read(pid, "stat", buf, sizeof(buf));
	if (!err)
		err = parse_stat(buf, fields);
	if (!err)
		err = wptrack_proc_read(pid, "comm", comm, sizeof(comm));
	if (err)
		return err;

	for (i = 0; i < sizeof(layout) / sizeof(layout[0]); i++)
		stamp = digest(stamp, fields[layout[i]]);
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	/* Whoever serves the file is not to be waited for: a FUSE server may hang, or be the target. */
	if (!statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_INO, &exe))
		stamp = digest(digest(stamp, makedev(exe.stx_dev_major, exe.stx_dev_minor)), exe.stx_ino);

	comm[strcspn(comm, "\n")] = '\0';
	memset(task->comm, 0, sizeof(task->comm));
	memcpy(task->comm, comm, strnlen(comm, sizeof(task->comm) - 1));
	task->pid = pid;
	task->start_time = fields[STAT_START_TIME];
	task->mm_stamp = stamp;
	return 0;
}

bool wptrack_proc_is_still(pid_t pid, uint64_t start_time)
{
	struct wptrack_task now;

	return !wptrack_proc_identify(pid, &now) && now.start_time == start_time;
}

int wptrack_proc_pinned(pid_t pid, uint64_t *ret_bytes)
{
	char buf[8192], *line;
	uint64_t kib;
	int err;

	err = wptrack_proc_read(pid, "status", buf, sizeof(buf));
	if (err)
		return err;

	line = strstr(buf, "\nVmPin:");
	if (!line || sscanf(line, "\nVmPin: %" SCNu64 " kB", &kib) != 1)
		return -EBADMSG;

	*ret_bytes = kib * 1024;
	return 0;
}

static bool fd_is(pid_t pid, int fd, const char *what)
{
	char path[64], link[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	len = readlink(path, link, sizeof(link));
	return len == (ssize_t)strlen(what) && !memcmp(link, what, len);
}

static bool is_io_uring(pid_t pid, int fd)
{
	return fd_is(pid, fd, "anon_inode:[io_uring]");
}

/* The features that were chosen for a userfaultfd, 0 if it has never been enabled. Return: 0 or -errno. */
static int uffd_features(pid_t pid, int fd, unsigned int *ret)
{
	char name[32], text[512];
	const char *api;
	int err;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	err = wptrack_proc_read(pid, name, text, sizeof(text));
	if (err)
		return err;
	api = strstr(text, "API:");
	return api && sscanf(api, "API: %*x:%x:", ret) == 1 ? 0 : -EBADMSG;
}

static bool is_uffd(pid_t pid, int fd)
{
	return fd_is(pid, fd, "anon_inode:[userfaultfd]");
}

static bool is_idle_uffd(pid_t pid, int fd)
{
	unsigned int features;

	return is_uffd(pid, fd) && !uffd_features(pid, fd, &features) && !features;
}

static bool is_enabled_uffd(pid_t pid, int fd)
{
	unsigned int features;

	return is_uffd(pid, fd) && (uffd_features(pid, fd, &features) || features);
}

/* The lowest descriptor from @from on that is what is wanted, or -errno. */
static int next_fd(pid_t pid, int from, bool (*is_wanted)(pid_t pid, int fd))
{
	struct dirent *entry;
	int fd, found = -1;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;

	while ((entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%d", &fd) != 1 || fd < from || (found >= 0 && fd > found))
			continue;
		if (is_wanted(pid, fd))
			found = fd;
	}
	closedir(dir);
	return found < 0 ? -ENOENT : found;
}

static int table_has(pid_t tid, bool (*is_wanted)(pid_t pid, int fd))
{
	int fd = next_fd(tid, 0, is_wanted);

	return fd == -ENOENT ? 0 : fd < 0 ? fd : 1;
}

static bool share_descriptors(pid_t a, pid_t b)
{
	return !syscall(SYS_kcmp, a, b, KCMP_FILES, 0, 0);
}

int wptrack_proc_any_fd(pid_t pid, bool (*is_wanted)(pid_t pid, int fd))
{
	pid_t tid, other = pid; /* looked at last */
	struct dirent *entry;
	char path[64];
	DIR *tasks;
	int has;

	has = table_has(pid, is_wanted);
	if (has)
		return has;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return errno == ENOENT ? -ESRCH : -errno;

	/* One call for each thread, however many descriptors there are. */
	while (!has && (entry = readdir(tasks))) {
		if (sscanf(entry->d_name, "%d", &tid) != 1 || tid == pid || share_descriptors(pid, tid) ||
		    (other != pid && share_descriptors(other, tid)))
			continue;
		has = table_has(tid, is_wanted);
		other = tid;
	}
	closedir(tasks);
	return has;
}

int wptrack_proc_has_io_uring(pid_t pid)
{
	return wptrack_proc_any_fd(pid, is_io_uring);
}

int wptrack_proc_has_uffd(pid_t pid)
{
	return wptrack_proc_any_fd(pid, is_enabled_uffd);
}

int wptrack_proc_next_idle_uffd(pid_t pid, int from)
{
	return next_fd(pid, from, is_idle_uffd);
}
