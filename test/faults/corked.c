// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded into criu: does it wait for an answer while what it has sent
 * lies in a corked socket, where the kernel keeps it for 200 ms?
 *
 * No clock is needed to tell. A socket that TCP_CORK has been set for keeps what
 * is sent from then on. TCP_NODELAY pushes it, and so does the end of TCP_CORK. Each wait
 * (recv, epoll_wait, and read, on a socket that is or was corked) puts a line into the file
 * CORKED_LOG: "pushed", or "corked" when something lies in there.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FDS_MAX	   4096

static struct {
	bool known, corked, kept;
} sockets[FDS_MAX];

static bool is_known(int fd)
{
	return fd >= 0 && fd < FDS_MAX && sockets[fd].known;
}

static void report(const char *call, int fd)
{
	const char *path = getenv("CORKED_LOG");
	char line[128];
	int log, len;

	if (!path || !is_known(fd))
		return;
	len = snprintf(line, sizeof(line), "%s %s %d\n", sockets[fd].kept ? "corked" : "pushed", call, getpid());
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0 || write(log, line, (size_t)len) != len)
		abort();
	close(log);
}

static void sent(int fd)
{
	if (is_known(fd) && sockets[fd].corked)
		sockets[fd].kept = true;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	const int ret = REAL(setsockopt)(fd, level, name, value, len);

	if (!ret && level == SOL_TCP && fd >= 0 && fd < FDS_MAX && len == sizeof(int)) {
		const bool on = *(const int *)value;

		if (name == TCP_CORK) {
			sockets[fd].known = true;
			sockets[fd].corked = on;
		}
		if ((name == TCP_CORK && !on) || (name == TCP_NODELAY && on))
			sockets[fd].kept = false;
	}
	return ret;
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	const ssize_t ret = REAL(send)(fd, buf, len, flags);

	if (ret > 0)
		sent(fd);
	return ret;
}

ssize_t splice(int from, off64_t *from_off, int to, off64_t *to_off, size_t len, unsigned int flags)
{
	const ssize_t ret = REAL(splice)(from, from_off, to, to_off, len, flags);

	if (ret > 0)
		sent(to);
	return ret;
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	report("recv", fd);
	return REAL(recv)(fd, buf, len, flags);
}

ssize_t read(int fd, void *buf, size_t len)
{
	report("read", fd);
	return REAL(read)(fd, buf, len);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	for (int fd = 0; fd < FDS_MAX; fd++)
		report("epoll_wait", fd);
	return REAL(epoll_wait)(epfd, events, max, timeout);
}

int close(int fd)
{
	if (is_known(fd))
		memset(&sockets[fd], 0, sizeof(sockets[fd]));
	return REAL(close)(fd);
}
