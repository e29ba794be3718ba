// SPDX-License-Identifier: GPL-2.0-only
/* First program of a guest whose kernel needs modules to mount its root: loads them, and goes on with the guest's init. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static void complain(const char *what)
{
	fprintf(stderr, "initrd: %s: %s\n", what, strerror(errno));
}

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		complain(path);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	char line[128], path[160];
	const char *init;
	FILE *list;

	(void)argc;
	/* In the order in which they need each other. */
	list = fopen("/modules", "re");
	while (list && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/%s", line);
		load(path);
	}
	if (mount("vmroot", "/new", "virtiofs", MS_RDONLY, NULL) || chdir("/new") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/")) {
		complain("root");
		return 1;
	}
	/* What the kernel does not know of its command line is environment. */
	init = getenv("vminit");
	if (init)
		execv(init, argv);
	complain("init");
	return 1;
}
