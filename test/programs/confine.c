// SPDX-License-Identifier: GPL-2.0-only
/*
 * confine HOW CMD [ARG...]: run a command with less than we have.
 *
 *   nocaps   uid 0 without any capability
 *   nobody   uid and gid 65534, no capability
 *   userns   uid 1000 in a user namespace of its own, no capability there
 *   seccomp  a filter that kills whoever calls userfaultfd(2)
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filter.h"

#define NOBODY	  65534
#define INNER_UID 1000
#define OUTER_UID 101000

static int fail(const char *what)
{
	fprintf(stderr, "confine: %s: %s\n", what, strerror(errno));
	return 1;
}

static int drop_caps(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	/* The exec of the command must not give uid 0 its capabilities back. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return fail("PR_CAPBSET_DROP");
	return syscall(SYS_capset, &head, none) ? fail("capset") : 0;
}

static int become(unsigned int id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id))
		return fail("setresuid");
	return 0;
}

static int write_map(const char *name, pid_t pid)
{
	char path[64], map[64];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = snprintf(map, sizeof(map), "0 %d %d\n", OUTER_UID - INNER_UID, 65536);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, map, (size_t)n) != n)
		return fail(path);
	return close(fd) ? fail(path) : 0;
}

/* Enter a user namespace that a child, still outside, maps for us. */
static int enter_userns(void)
{
	pid_t pid, self = getpid();
	int go[2], status;
	char c;

	if (pipe2(go, O_CLOEXEC))
		return fail("pipe2");
	pid = fork();
	if (pid < 0)
		return fail("fork");
	if (pid == 0) {
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(write_map("uid_map", self) || write_map("gid_map", self));
	}
	if (unshare(CLONE_NEWUSER))
		return fail("unshare");
	if (write(go[1], "g", 1) != 1)
		return fail("write");
	close(go[0]);
	close(go[1]);
	if (waitpid(pid, &status, 0) != pid || status)
		return fail("the user namespace is not mapped");
	return become(INNER_UID);
}

int main(int argc, char **argv)
{
	int ret = 2;

	if (argc >= 3) {
		if (!strcmp(argv[1], "nocaps"))
			ret = drop_caps();
		else if (!strcmp(argv[1], "nobody"))
			ret = become(NOBODY);
		else if (!strcmp(argv[1], "userns"))
			ret = enter_userns();
		else if (!strcmp(argv[1], "seccomp"))
			ret = filter_userfaultfd() ? fail("seccomp") : 0;
	}
	if (ret == 2)
		fprintf(stderr, "usage: confine nocaps|nobody|userns|seccomp CMD [ARG...]\n");
	if (ret)
		return ret;
	execvp(argv[2], argv + 2);
	return fail(argv[2]);
}
