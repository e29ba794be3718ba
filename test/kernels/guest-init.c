// SPDX-License-Identifier: GPL-2.0-only
/*
 * First program of a guest of vm.sh. Its root is the host's, read-only; what
 * tests write to is laid over that in memory, but the shared directory, where
 * it finds the command to run and leaves its exit status.
 *
 * From the kernel's command line, as environment: vmkernel, the directory of
 * the kernel's modules; vmshare, the shared directory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#ifndef MODULE_INIT_COMPRESSED_FILE
#define MODULE_INIT_COMPRESSED_FILE 4
#endif

#define OUTPUT "/dev/hvc0"

static const char *share, *kernel;

static void complain(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
}

static __attribute__((format(printf, 2, 3))) const char *join(char buf[4096], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(buf, 4096, format, args);
	va_end(args);
	return buf;
}

static void mount_on(const char *type, const char *where, const char *options)
{
	if (mount(type, where, type, 0, options))
		complain(where);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		complain(path);
	if (fd >= 0)
		close(fd);
}

static void mount_all(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	mount_on("proc", "/proc", NULL);
	mount_on("sysfs", "/sys", NULL);
	/* The kernel may have done so itself. */
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mkdir("/dev/pts", 0755);
	mkdir("/dev/shm", 01777);
	mount_on("devpts", "/dev/pts", "ptmxmode=666");
	mount_on("tmpfs", "/dev/shm", "mode=1777");
	mount_on("cgroup2", "/sys/fs/cgroup", NULL);
	mount_on("bpf", "/sys/fs/bpf", NULL);
	mount_on("tmpfs", "/run", "mode=755");
	mkdir("/run/lock", 0755);
	mount_on("tmpfs", "/tmp", "mode=1777,size=90%");
	mount_on("tmpfs", "/var/tmp", "mode=1777");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			complain(links[i][1]);
	if (mount("vmshare", share, "virtiofs", 0, NULL))
		complain(share);
}

/* What is asked for later comes by modprobe; criu asks for these before it has looked. */
static void load_modules(void)
{
	static const char *const names[] = { "net/unix/unix_diag",   "net/ipv4/inet_diag", "net/ipv4/tcp_diag",
					     "net/ipv4/udp_diag",    "net/ipv4/raw_diag",  "net/packet/af_packet_diag",
					     "net/netlink/netlink_diag" };
	char path[4096];
	struct utsname uts;

	write_file("/run/modprobe", join(path, "#!/bin/sh\nexec /sbin/modprobe -d %s/modroot \"$@\"\n", kernel));
	write_file("/proc/sys/kernel/modprobe", "/run/modprobe");
	uname(&uts);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int packed = MODULE_INIT_COMPRESSED_FILE;
		int fd = open(join(path, "%s/modroot/lib/modules/%s/kernel/%s.ko.xz", kernel, uts.release, names[i]),
			      O_RDONLY | O_CLOEXEC);

		if (fd < 0) {
			packed = 0;
			path[strlen(path) - strlen(".xz")] = '\0';
			fd = open(path, O_RDONLY | O_CLOEXEC);
		}
		if (fd < 0 || syscall(SYS_finit_module, fd, "", packed))
			complain(path);
		if (fd >= 0)
			close(fd);
	}
}

static void loopback_up(void)
{
	struct ifreq req = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (ioctl(fd, SIOCGIFFLAGS, &req))
		complain("lo");
	req.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &req))
		complain("lo");
	close(fd);
}

/*
 * As long as there is one breakpoint event, the kernel does not patch its own
 * text at the first and last of a debugger's. QEMU's emulation of two
 * processors has been seen to run into the half-patched text.
 */
static void hold_breakpoint(void)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_BREAKPOINT,
		.bp_type = 4,
		.bp_len = sizeof(long),
		.bp_addr = (unsigned long)hold_breakpoint,
		.disabled = 1,
	};

	if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC) < 0)
		complain("perf_event_open");
}

/* Lines end as they are written, and not with a carriage return, too. */
static void leave_output_alone(int fd)
{
	struct termios t;

	if (tcgetattr(fd, &t)) {
		complain("output");
		return;
	}
	t.c_oflag &= ~(tcflag_t)OPOST;
	if (tcsetattr(fd, TCSANOW, &t))
		complain("output");
}

static void run_command(void)
{
	static char *const environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
					     "TERM=dumb", "LANG=C.UTF-8", NULL };
	int in = open("/dev/null", O_RDONLY), out = open(OUTPUT, O_WRONLY | O_NOCTTY);
	char path[4096];

	setsid();
	leave_output_alone(out);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		complain("output");
	close(in);
	close(out);
	if (chdir(share))
		complain(share);
	execle("/bin/bash", "bash", join(path, "%s/.vm/command", share), NULL, environment);
	complain("bash");
	_exit(127);
}

static void end(int status)
{
	char path[4096], text[16];
	int fd;

	snprintf(text, sizeof(text), "%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	write_file(join(path, "%s/.vm/status", share), text);
	fd = open(OUTPUT, O_WRONLY | O_NOCTTY);
	if (fd >= 0) {
		/* TCSBRK: when all of it has been written */
		ioctl(fd, 0x5409, 1);
		close(fd);
	}
	sync();
	reboot(RB_POWER_OFF);
}

int main(void)
{
	int console, status = 0;
	char path[4096];
	pid_t pid, ended;

	share = getenv("vmshare");
	kernel = getenv("vmkernel");
	mount_all();
	console = open("/dev/console", O_RDWR);
	if (console >= 0) {
		dup2(console, 0);
		dup2(console, 1);
		dup2(console, 2);
		close(console);
	}
	load_modules();
	loopback_up();
	hold_breakpoint();
	if (sethostname("guest", strlen("guest")))
		complain("sethostname");
	write_file(join(path, "%s/.vm/booted", share), "yes\n");
	pid = fork();
	if (!pid)
		run_command();
	/* Orphans end here, too. */
	do
		ended = wait(&status);
	while (ended != pid && (ended > 0 || errno == EINTR));
	end(status);
	for (;;)
		pause();
}
