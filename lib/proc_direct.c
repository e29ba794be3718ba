// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc.h"

/* What is known of a file. */
struct file {
	unsigned int mnt_id;
	unsigned int major;
	unsigned int minor;
};

/*
 * Filesystems that may have a server write into the pages of whoever reads, O_DIRECT
 * or not: it depends on mount options, and on how the server has opened the file.
 */
static bool may_read_directly(const char *type)
{
	static const char *const types[] = { "fuse", "fuseblk", "virtiofs", "9p", "cifs", "smb3" };
	unsigned int i;

	if (!strncmp(type, "fuse.", 5))
		return true;
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

/* Return: 1 or 0, or -ENOENT if these mounts have none of that file. */
static int look_up(const char *mountinfo, const struct file *file)
{
	unsigned int mnt_id, major, minor;
	char *line = NULL, type[64];
	const char *rest;
	size_t size = 0;
	int ret = -ENOENT;
	FILE *f;

	f = fopen(mountinfo, "re");
	if (!f)
		return -ENOENT;

	while (getline(&line, &size, f) > 0) {
		rest = strstr(line, " - ");
		if (!rest || sscanf(line, "%u %*u %u:%u", &mnt_id, &major, &minor) != 3 ||
		    sscanf(rest, " - %63s", type) != 1)
			continue;
		if (mnt_id != file->mnt_id && (major != file->major || minor != file->minor))
			continue;
		ret = may_read_directly(type);
		if (ret || mnt_id == file->mnt_id)
			break;
	}
	free(line);
	fclose(f);
	return ret;
}

/* A file of mounts that are not seen from here might be anything. */
static bool is_on_such_a_filesystem(pid_t pid, int fd, unsigned int mnt_id)
{
	struct file file = { .mnt_id = mnt_id };
	struct statx stx;
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	/* Whoever serves the file is not to be waited for. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &stx))
		return errno != ENOENT;
	if (!S_ISREG(stx.stx_mode))
		return false;
	file.major = stx.stx_dev_major;
	file.minor = stx.stx_dev_minor;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	ret = look_up(path, &file);
	if (ret == -ENOENT)
		ret = look_up("/proc/self/mountinfo", &file);
	return ret != 0;
}

/* Has it no name in any mount? Such memory is the kernel's own. */
static bool is_in_memory(const char *link)
{
	return *link != '/' || !strncmp(link, "/memfd:", 7) || !strncmp(link, "/dev/zero", 9) ||
	       !strncmp(link, "/SYSV", 5) || !strncmp(link, "/anon_hugepage", 14);
}

static bool is_direct(pid_t pid, int fd)
{
	unsigned int mode = O_DIRECT, mnt_id = 0;
	char name[32], text[512], link[64], path[64];
	const char *at;
	ssize_t len;
	int err;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return errno != ENOENT;
	link[len] = '\0';
	/* Packets of a pipe are no direct I/O, though it has the flag. */
	if (!strncmp(link, "pipe:", 5))
		return false;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	err = wptrack_proc_read(pid, name, text, sizeof(text));
	if (err)
		return err != -ESRCH;
	at = strstr(text, "flags:");
	if (!at || sscanf(at, "flags: %o", &mode) != 1 || mode & O_DIRECT)
		return true;
	if (is_in_memory(link))
		return false;
	at = strstr(text, "mnt_id:");
	if (at)
		sscanf(at, "mnt_id: %u", &mnt_id);
	return is_on_such_a_filesystem(pid, fd, mnt_id);
}

int wptrack_proc_has_direct_io(pid_t pid)
{
	return wptrack_proc_any_fd(pid, is_direct);
}

int wptrack_proc_has_aio(pid_t pid)
{
	char *line = NULL, path[64];
	size_t size = 0;
	int has = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;

	while (!has && getline(&line, &size, f) > 0)
		has = strstr(line, " /[aio]") != NULL;
	free(line);
	fclose(f);
	return has;
}
