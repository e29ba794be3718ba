// SPDX-License-Identifier: GPL-2.0-only
/* Who may have pinned memory of a process without VmPin saying so. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proc.h"

/* Majors and minors of <linux/major.h> and <linux/miscdevice.h>, which never change. */
#define MEM_MAJOR	       1
#define TTY_MAJOR	       4
#define TTYAUX_MAJOR	       5
#define MISC_MAJOR	       10
#define UNIX98_PTY_FIRST_MAJOR 128
#define UNIX98_PTY_LAST_MAJOR  143
#define TUN_MINOR	       200
#define FUSE_MINOR	       229

/* Drivers that only copy. Any other may take the pages of whoever tells it to. */
static bool device_copies(unsigned int major, unsigned int minor)
{
	if (major == MISC_MAJOR)
		return minor == TUN_MINOR || minor == FUSE_MINOR;
	return major == MEM_MAJOR || major == TTY_MAJOR || major == TTYAUX_MAJOR ||
	       (major >= UNIX98_PTY_FIRST_MAJOR && major <= UNIX98_PTY_LAST_MAJOR);
}

/* What has no name and pins nothing; io_urings are looked for by themselves. */
static bool anonymous_pins_nothing(const char *what)
{
	static const char *const begin[] = { "[eventfd",   "[eventpoll", "[signalfd", "[timerfd", "[userfaultfd",
					     "[io_uring]", "[fanotify",	 "inotify",   "[pidfd",	  "[perf_event",
					     "bpf",	   "[bpf",	 "seccomp",   "[landlock" };

	for (unsigned int i = 0; i < sizeof(begin) / sizeof(begin[0]); i++)
		if (!strncmp(what, begin[i], strlen(begin[i])))
			return true;
	return false;
}

/* The name of a socket's protocol is asked for, as its number is nowhere to be read. */
static bool socket_may_pin(const char *path)
{
	char name[32];
	ssize_t len = getxattr(path, "system.sockprotoname", name, sizeof(name) - 1);

	if (len < 0)
		return errno != ENOENT;
	name[len] = '\0';
	return !strcmp(name, "XDP");
}

static bool may_pin(pid_t pid, int fd)
{
	static const char anonymous[] = "anon_inode:";
	char path[64], link[64];
	struct statx stx;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return errno != ENOENT;
	link[len] = '\0';
	if (!strncmp(link, "socket:", 7))
		return socket_may_pin(path);
	if (!strncmp(link, anonymous, sizeof(anonymous) - 1))
		return !anonymous_pins_nothing(link + sizeof(anonymous) - 1);
	if (*link != '/')
		return false;

	/* Whoever serves the file is not to be waited for. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &stx))
		return errno != ENOENT;
	return S_ISCHR(stx.stx_mode) && !device_copies(stx.stx_rdev_major, stx.stx_rdev_minor);
}

/* Has anybody an AF_XDP socket in the network of this process? Return: 1, 0 or -errno. */
static int network_has_xdp(pid_t pid)
{
	char *line = NULL, path[64], name[32];
	size_t size = 0;
	int sockets, has = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/net/protocols", pid);
	f = fopen(path, "re");
	/* A kernel without networks has none; a process that ends has none any more. */
	if (!f)
		return errno == ENOENT ? 0 : -errno;
	while (!has && getline(&line, &size, f) > 0)
		has = sscanf(line, "%31s %*d %d", name, &sockets) == 2 && !strcmp(name, "XDP") && sockets;
	if (ferror(f))
		has = -EIO;
	free(line);
	fclose(f);
	return has;
}

int wptrack_proc_may_pin_uncounted(pid_t pid)
{
	int has = network_has_xdp(pid);

	return has ? has : wptrack_proc_any_fd(pid, may_pin);
}
