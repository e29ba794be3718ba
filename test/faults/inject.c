// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded into criu: makes one of its calls fail, or kills at it.
 *
 * INJECT=CLASS:N:ACTION picks the Nth call of a class in the process named
 * INJECT_COMM (criu):
 *
 *	keeper	messages to and from the keeper, and connecting to it
 *	track	ioctls on userfaultfds and PAGEMAP_SCAN, pidfd_open, pidfd_getfd
 *	register, unprotect, collect, getfd	of these, UFFDIO_REGISTER, UFFDIO_WRITEPROTECT,
 *		PAGEMAP_SCAN with PM_SCAN_WP_MATCHING or pidfd_getfd alone
 *	image	what is written to, renamed or removed in the directory INJECT_DIR
 *	copy	process_vm_readv of pages, which copies them from a running program
 *	mem	reading the memory of a running program through /proc/PID/mem
 *	record	what is read of session records
 *	look	files of /proc that are opened, and pidfds
 *	any	look, keeper, track and mem together: all that a live round asks about a program
 *	nft	commands for nftables
 *	signal	kill()
 *	word	send()
 *
 * ACTION is kill (SIGKILL to itself before the call), keeper (SIGKILL to the
 * keeper before it), target (SIGKILL to INJECT_PID before it), short (half of
 * what was to be written, read or copied), late-ERROR (the call is made, and said to have
 * failed), pause (it waits before the call until there is a file INJECT_GO) or an ERROR to fail with: EIO,
 * ENOSPC, ... INJECT_HIT names a file that gets a line when it happens.
 *
 * INJECT=CLASS:0:nap waits for up to 2 ms before one call of 32, as INJECT_SEED has it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/uapi.h"
#include "lib/wire.h"

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum what { GO_ON, FAIL, FAIL_LATE, SHORT };

static struct {
	char class[16], action[32];
	unsigned long n, seen;
	int error;
} plan;
static int keeper_sk = -1;
static pid_t planned_for;

static const struct {
	const char *name;
	int error;
} errors[] = {
	{ "EIO", EIO },	      { "ENOSPC", ENOSPC }, { "EPERM", EPERM },	      { "ENOMEM", ENOMEM }, { "EINVAL", EINVAL },
	{ "EBUSY", EBUSY },   { "ESRCH", ESRCH },   { "ECONNRESET", ECONNRESET }, { "EMFILE", EMFILE }, { "ENOENT", ENOENT }, { "EFAULT", EFAULT },
};

static __attribute__((constructor)) void make_plan(void)
{
	const char *text = getenv("INJECT"), *comm = getenv("INJECT_COMM");
	char self[16] = "";
	const char *name;
	int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t len = read(fd, self, sizeof(self) - 1);

		self[len > 0 ? len - 1 : 0] = '\0';
		close(fd);
	}
	if (!text || strcmp(self, comm ? comm : "criu") ||
	    sscanf(text, "%15[^:]:%lu:%31s", plan.class, &plan.n, plan.action) != 3)
		return;
	name = strncmp(plan.action, "late-", 5) ? plan.action : plan.action + 5;
	for (unsigned int i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!strcmp(errors[i].name, name))
			plan.error = errors[i].error;
	planned_for = getpid();
}

static void mark(const char *call)
{
	const char *path = getenv("INJECT_HIT");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	char line[128];
	int len = snprintf(line, sizeof(line), "%s %lu %s %s\n", plan.class, plan.n, plan.action, call);

	if (fd < 0)
		return;
	if (syscall(SYS_write, fd, line, len) != len)
		abort();
	close(fd);
}

static void kill_keeper(void)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (keeper_sk >= 0 && !getsockopt(keeper_sk, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid > 0) {
		kill(peer.pid, SIGKILL);
		/* It is nobody's child here: see it gone. */
		for (int i = 0; i < 1000 && !kill(peer.pid, 0); i++)
			usleep(1000);
	}
}

/* A process that was killed has its memory until it gets to run. */
static void wait_for_no_memory(const char *pid)
{
	char path[64], size[2] = "";
	long fd;

	snprintf(path, sizeof(path), "/proc/%s/statm", pid);
	for (int i = 0; i < 10000 && *size != '0'; i++) {
		fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_read, fd, size, 1) != 1)
			*size = '0';
		if (fd >= 0)
			syscall(SYS_close, fd);
		usleep(1000);
	}
}

/* Whoever waits for INJECT_HIT has a time limit of its own, and ends us. */
static void wait_for_go(void)
{
	const char *go = getenv("INJECT_GO");

	while (!go || syscall(SYS_access, go, F_OK))
		usleep(500);
}

static void nap(void)
{
	static unsigned int dice;
	const char *seed = getenv("INJECT_SEED");

	if (!dice)
		dice = 2 * (unsigned int)atoi(seed ? seed : "0") + 1;
	dice = dice * 1103515245 + 12345;
	if (!(dice >> 16 & 31))
		usleep(dice >> 8 & 2047);
}

static bool is_planned(const char *class)
{
	static const char *const any[] = { "look", "keeper", "track", "mem" };

	if (planned_for != getpid())
		return false;
	if (strcmp(plan.class, "any"))
		return !strcmp(class, plan.class);
	for (unsigned int i = 0; i < sizeof(any) / sizeof(any[0]); i++)
		if (!strcmp(class, any[i]))
			return true;
	return false;
}

/* A call of @class is about to be made. */
static enum what at(const char *class, const char *call)
{
	if (!is_planned(class))
		return GO_ON;
	if (!strcmp(plan.action, "nap")) {
		nap();
		return GO_ON;
	}
	if (++plan.seen != plan.n)
		return GO_ON;
	mark(call);
	if (!strcmp(plan.action, "pause")) {
		wait_for_go();
		return GO_ON;
	}
	if (!strcmp(plan.action, "kill"))
		raise(SIGKILL);
	if (!strcmp(plan.action, "keeper")) {
		kill_keeper();
		return GO_ON;
	}
	if (!strcmp(plan.action, "target")) {
		kill(atoi(getenv("INJECT_PID")), SIGKILL);
		/* Between two of criu's calls it may be dying; between two of a copy it is to have died. */
		if (!strcmp(class, "copy"))
			wait_for_no_memory(getenv("INJECT_PID"));
		return GO_ON;
	}
	if (!strcmp(plan.action, "short"))
		return SHORT;
	if (!plan.error)
		abort();
	return strncmp(plan.action, "late-", 5) ? FAIL : FAIL_LATE;
}

#define INJECTED(class, call, make)                                                                                   \
	do {                                                                                                           \
		enum what what_ = at(class, call);                                                                     \
		if (what_ == FAIL || what_ == FAIL_LATE) {                                                             \
			if (what_ == FAIL_LATE)                                                                        \
				(void)!(make);                                                                         \
			errno = plan.error;                                                                            \
			return -1;                                                                                     \
		}                                                                                                      \
	} while (0)

static bool is_image(int fd)
{
	const char *dir = getenv("INJECT_DIR");
	char link[32], path[512];
	struct stat st;
	ssize_t len;

	if (!dir || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	/* The log is no image. */
	return !strncmp(path, dir, strlen(dir)) && (len < 4 || strcmp(path + len - 4, ".log"));
}

static bool is_message(const struct msghdr *msg)
{
	return msg->msg_iovlen == 1 && msg->msg_iov[0].iov_len >= sizeof(struct wptrack_msg) &&
	       msg->msg_iov[0].iov_len <= sizeof(struct wptrack_msg) + 1;
}

int connect(int sk, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)addr;

	if (addr->sa_family == AF_UNIX && strstr(un->sun_path, "keeper.sock")) {
		keeper_sk = sk;
		INJECTED("keeper", "connect", REAL(connect)(sk, addr, len));
	}
	return REAL(connect)(sk, addr, len);
}

ssize_t sendmsg(int sk, const struct msghdr *msg, int flags)
{
	if (is_message(msg))
		INJECTED("keeper", "sendmsg", REAL(sendmsg)(sk, msg, flags));
	return REAL(sendmsg)(sk, msg, flags);
}

ssize_t recvmsg(int sk, struct msghdr *msg, int flags)
{
	if (is_message(msg))
		INJECTED("keeper", "recvmsg", REAL(recvmsg)(sk, msg, flags));
	return REAL(recvmsg)(sk, msg, flags);
}

int kill(pid_t pid, int sig)
{
	INJECTED("signal", "kill", REAL(kill)(pid, sig));
	return REAL(kill)(pid, sig);
}

ssize_t send(int sk, const void *buf, size_t len, int flags)
{
	INJECTED("word", "send", REAL(send)(sk, buf, len, flags));
	return REAL(send)(sk, buf, len, flags);
}

static bool collects(const struct pm_scan_arg *arg)
{
	return arg->flags & PM_SCAN_WP_MATCHING;
}

static const char *ioctl_name(unsigned long cmd, const void *arg)
{
	switch (cmd) {
	case UFFDIO_API:
		return "UFFDIO_API";
	case UFFDIO_REGISTER:
		return "UFFDIO_REGISTER";
	case UFFDIO_WRITEPROTECT:
		return "UFFDIO_WRITEPROTECT";
	case PAGEMAP_SCAN:
		return collects(arg) ? "PAGEMAP_SCAN with WP_MATCHING" : "PAGEMAP_SCAN";
	default:
		return NULL;
	}
}

int ioctl(int fd, unsigned long cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (ioctl_name(cmd, arg))
		INJECTED("track", ioctl_name(cmd, arg), REAL(ioctl)(fd, cmd, arg));
	if (cmd == UFFDIO_REGISTER)
		INJECTED("register", ioctl_name(cmd, arg), REAL(ioctl)(fd, cmd, arg));
	if (cmd == UFFDIO_WRITEPROTECT)
		INJECTED("unprotect", ioctl_name(cmd, arg), REAL(ioctl)(fd, cmd, arg));
	if (cmd == PAGEMAP_SCAN && collects(arg))
		INJECTED("collect", ioctl_name(cmd, arg), REAL(ioctl)(fd, cmd, arg));
	return REAL(ioctl)(fd, cmd, arg);
}

long syscall(long nr, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, nr);
	for (unsigned int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_pidfd_open || nr == SYS_pidfd_getfd)
		INJECTED("track", nr == SYS_pidfd_open ? "pidfd_open" : "pidfd_getfd",
			 REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
	if (nr == SYS_pidfd_open || nr == SYS_kcmp)
		INJECTED("look", nr == SYS_kcmp ? "kcmp" : "pidfd_open",
			 REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
	if (nr == SYS_pidfd_getfd)
		INJECTED("getfd", "pidfd_getfd", REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]));
	return REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t write(int fd, const void *buf, size_t len)
{
	if (is_image(fd)) {
		enum what what = at("image", "write");

		if (what == FAIL || what == FAIL_LATE) {
			errno = plan.error;
			return -1;
		}
		if (what == SHORT && len > 1)
			len /= 2;
	}
	return REAL(write)(fd, buf, len);
}

ssize_t writev(int fd, const struct iovec *iov, int nr)
{
	if (is_image(fd))
		INJECTED("image", "writev", REAL(writev)(fd, iov, nr));
	return REAL(writev)(fd, iov, nr);
}

ssize_t splice(int in, off64_t *off_in, int out, off64_t *off_out, size_t len, unsigned int flags)
{
	if (is_image(out)) {
		enum what what = at("image", "splice");

		if (what == FAIL || what == FAIL_LATE) {
			errno = plan.error;
			return -1;
		}
		if (what == SHORT && len > 4096)
			len = len / 2 & ~4095ul;
	}
	return REAL(splice)(in, off_in, out, off_out, len, flags);
}

ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long nr_local, const struct iovec *remote,
			 unsigned long nr_remote, unsigned long flags)
{
	enum what what = local[0].iov_len < 4096 ? GO_ON : at("copy", "process_vm_readv");
	struct iovec half = remote[0];

	if (what == FAIL || what == FAIL_LATE) {
		errno = plan.error;
		return -1;
	}
	if (what == SHORT && nr_remote > 1) {
		nr_remote /= 2;
	} else if (what == SHORT && half.iov_len > 4096) {
		half.iov_len = half.iov_len / 2 & ~4095ul;
		remote = &half;
	}
	return REAL(process_vm_readv)(pid, local, nr_local, remote, nr_remote, flags);
}

struct nft_ctx;
int nft_run_cmd_from_buffer(struct nft_ctx *nft, const char *buf);

int nft_run_cmd_from_buffer(struct nft_ctx *nft, const char *buf)
{
	INJECTED("nft", "nft_run_cmd_from_buffer", REAL(nft_run_cmd_from_buffer)(nft, buf));
	return REAL(nft_run_cmd_from_buffer)(nft, buf);
}

static bool is_named(int fd, const char *name)
{
	char link[32], path[512];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strstr(path, name);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	if (is_planned("mem") && is_named(fd, "/mem")) {
		enum what what = at("mem", "pread");

		if (what == FAIL || what == FAIL_LATE) {
			errno = plan.error;
			return -1;
		}
		if (what == SHORT && len > 1)
			len /= 2;
	}
	return REAL(pread64)(fd, buf, len, offset);
}

ssize_t read(int fd, void *buf, size_t len)
{
	if (planned_for && !strcmp(plan.class, "record") && is_named(fd, "/wptrack.img")) {
		enum what what = at("record", "read");

		if (what == FAIL || what == FAIL_LATE) {
			errno = plan.error;
			return -1;
		}
		if (what == SHORT && len > 1)
			len /= 2;
	}
	return REAL(read)(fd, buf, len);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	if (strstr(to, "wptrack"))
		INJECTED("image", "renameat", REAL(renameat)(from_dir, from, to_dir, to));
	return REAL(renameat)(from_dir, from, to_dir, to);
}

int unlinkat(int dir, const char *path, int flags)
{
	if (strstr(path, "wptrack"))
		INJECTED("image", "unlinkat", REAL(unlinkat)(dir, path, flags));
	return REAL(unlinkat)(dir, path, flags);
}

/* CRIU opens what is in /proc/PID relative to that, and its own files in /proc/self. */
static bool is_of_a_process(const char *path)
{
	static const char *const names[] = { "maps", "mem", "stat", "status", "task", "children", "pagemap", "fd" };
	const char *last = strrchr(path, '/');

	if (!strncmp(path, "/proc/self", 10) || (*path == '/' && strncmp(path, "/proc/", 6)))
		return false;
	last = last ? last + 1 : path;
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(last, names[i]))
			return true;
	return false;
}

static int open_looking(int dir, const char *path, int flags, mode_t mode)
{
	if (is_of_a_process(path))
		INJECTED("look", path, REAL(openat64)(dir, path, flags, mode));
	return REAL(openat64)(dir, path, flags, mode);
}

/* Define a function that opens a file; the mode is there if the flags need one. */
#define OPENS(name, dir, ...)                                                     \
	int name(__VA_ARGS__, int flags, ...)                                     \
	{                                                                         \
		mode_t mode = 0;                                                  \
		va_list ap;                                                       \
                                                                                  \
		va_start(ap, flags);                                              \
		if (flags & (O_CREAT | O_TMPFILE))                                \
			mode = va_arg(ap, mode_t);                                \
		va_end(ap);                                                       \
		return open_looking(dir, path, flags, mode);                      \
	}

OPENS(open, AT_FDCWD, const char *path)
OPENS(open64, AT_FDCWD, const char *path)
OPENS(openat, dir, int dir, const char *path)
OPENS(openat64, dir, int dir, const char *path)

static FILE *open_stream(const char *path, const char *mode)
{
	if (is_of_a_process(path))
		at("look", path);
	return REAL(fopen64)(path, mode);
}

FILE *fopen(const char *path, const char *mode)
{
	return open_stream(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return open_stream(path, mode);
}

DIR *opendir(const char *path)
{
	if (is_of_a_process(path))
		at("look", path);
	return REAL(opendir)(path);
}
