/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack-keeper: holds pidfd and userfaultfd of tracked processes from one run
 * of CRIU to the next. It never touches anybody's memory or images; killing it
 * at any time un-tracks everything and harms nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper_place.h"
#include "keeper_serve.h"
#include "lib/clock.h"
#include "table.h"

#define MAX_TASKS	65536u
#define MAX_CLIENTS	256u
#define SPARE_FDS	64u /* stdio, loop, lock, what a message brings */
#define EVENTS_AT_ONCE	64
#define FIRST_CLIENT_MS 10000
#define IDLE_MS		2000
#define SWEEP_MS	2000
#define ACCEPT_PAUSE_MS 10

/* Beside WPTRACK_EVENT_TASK: what a descriptor of the loop is; the low half is the client's slot. */
#define EVENT_CLIENT   (2ull << 32)
#define EVENT_LISTENER (3ull << 32)
#define EVENT_SIGNAL   (4ull << 32)
#define EVENT_KIND     (~0ull << 32)

struct keeper {
	struct wptrack_place place;
	struct wptrack_table table;
	struct wptrack_client *clients[MAX_CLIENTS];
	unsigned int nr_clients;
	uint64_t last_serial;
	int epfd;
	int sigfd;
	int64_t idle_deadline_ms; /* 0: not idle */
	int64_t sweep_deadline_ms;
	bool leaving;
};

static int watch(const struct keeper *keeper, int fd, uint64_t data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = data };

	return epoll_ctl(keeper->epfd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void close_client(struct keeper *keeper, unsigned int slot)
{
	struct wptrack_client *client = keeper->clients[slot];

	wptrack_serve_end(&keeper->table, client);
	close(client->sk);
	free(client);
	keeper->clients[slot] = NULL;
	keeper->nr_clients--;
}

/* The directory and the socket's mode keep others out; this holds even if somebody changes them. */
static bool peer_is_welcome(int sk)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sk, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return false;
	return cred.uid == 0 || cred.uid == geteuid();
}

static int add_client(struct keeper *keeper, int sk)
{
	struct wptrack_client *client;
	unsigned int slot = 0;

	while (slot < MAX_CLIENTS && keeper->clients[slot])
		slot++;
	if (slot == MAX_CLIENTS)
		return -ENOSPC;
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	if (watch(keeper, sk, EVENT_CLIENT | slot)) {
		free(client);
		return -ENOMEM;
	}
	client->sk = sk;
	client->serial = ++keeper->last_serial;
	keeper->clients[slot] = client;
	keeper->nr_clients++;
	return 0;
}

static void on_listener(struct keeper *keeper)
{
	int sk;

	sk = accept4(keeper->place.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sk < 0) {
		/* Out of something: the connection stays pending, and would keep the loop spinning. */
		if (errno != EAGAIN && errno != ECONNABORTED)
			poll(NULL, 0, ACCEPT_PAUSE_MS);
		return;
	}
	if (!peer_is_welcome(sk) || add_client(keeper, sk))
		close(sk);
}

static void on_client(struct keeper *keeper, unsigned int slot)
{
	/* The slot may have been emptied since the event was fetched. */
	if (keeper->clients[slot] && wptrack_serve_one(&keeper->table, keeper->clients[slot]))
		close_client(keeper, slot);
}

static void on_event(struct keeper *keeper, uint64_t data)
{
	switch (data & EVENT_KIND) {
	case WPTRACK_EVENT_TASK:
		wptrack_table_ended(&keeper->table, (int32_t)(uint32_t)data);
		break;
	case EVENT_CLIENT:
		on_client(keeper, (uint32_t)data);
		break;
	case EVENT_LISTENER:
		on_listener(keeper);
		break;
	case EVENT_SIGNAL:
		keeper->leaving = true;
		break;
	}
}

/* What only time brings: memory that went by exec, a directory that was removed, nothing left to do. */
static void on_time(struct keeper *keeper)
{
	const int64_t now = wptrack_now_ms();

	if (now >= keeper->sweep_deadline_ms) {
		wptrack_table_sweep(&keeper->table);
		/* Nobody can reach this keeper any more: what it holds would be held in vain. */
		if (!wptrack_place_is_found(&keeper->place))
			keeper->leaving = true;
		keeper->sweep_deadline_ms = now + SWEEP_MS;
	}

	if (keeper->table.nr || keeper->nr_clients)
		keeper->idle_deadline_ms = 0;
	else if (!keeper->idle_deadline_ms)
		keeper->idle_deadline_ms = now + IDLE_MS;
	else if (now >= keeper->idle_deadline_ms)
		keeper->leaving = true;
}

static int next_timeout_ms(const struct keeper *keeper)
{
	int64_t deadline = keeper->sweep_deadline_ms;
	int64_t left;

	if (keeper->idle_deadline_ms && keeper->idle_deadline_ms < deadline)
		deadline = keeper->idle_deadline_ms;
	left = deadline - wptrack_now_ms();
	return left > 0 ? (int)left : 0;
}

static int run(struct keeper *keeper)
{
	struct epoll_event events[EVENTS_AT_ONCE];

	keeper->sweep_deadline_ms = wptrack_now_ms() + SWEEP_MS;
	keeper->idle_deadline_ms = wptrack_now_ms() + FIRST_CLIENT_MS;
	while (!keeper->leaving) {
		const int nr = epoll_wait(keeper->epfd, events, EVENTS_AT_ONCE, next_timeout_ms(keeper));

		if (nr < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < nr; i++)
			on_event(keeper, events[i].data.u64);
		on_time(keeper);
	}
	return 0;
}

/* Tasks are limited by what the descriptor limit leaves, so that ADD can always receive its two. */
static unsigned int raise_limits(void)
{
	struct rlimit limit;
	rlim_t for_tasks;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) && getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	if (limit.rlim_cur <= MAX_CLIENTS + SPARE_FDS)
		return 0;
	for_tasks = (limit.rlim_cur - MAX_CLIENTS - SPARE_FDS) / 2;
	return for_tasks < MAX_TASKS ? (unsigned int)for_tasks : MAX_TASKS;
}

/* Nothing of the starter's is held: its pipes, its directory, its terminal. */
static int settle(int ready_fd)
{
	int fd;

	/* With 0 to 2 closed, what is opened later would become stdio. */
	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	if (ready_fd < 0) {
		if (close_range(STDERR_FILENO + 1, ~0u, 0))
			return -errno;
	} else {
		if (ready_fd > STDERR_FILENO + 1 && close_range(STDERR_FILENO + 1, (unsigned int)ready_fd - 1, 0))
			return -errno;
		if (close_range((unsigned int)ready_fd + 1, ~0u, 0))
			return -errno;
		if (fcntl(ready_fd, F_SETFD, FD_CLOEXEC))
			return -errno;
	}
	/* Fails for a process group's leader, a shell's child in the foreground: let it be that. */
	setsid();
	umask(077);
	return chdir("/") ? -errno : 0;
}

static int settle_signals(int *ret_sigfd)
{
	sigset_t leave;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&leave);
	sigaddset(&leave, SIGTERM);
	sigaddset(&leave, SIGINT);
	/* Not in addition to what the starter has blocked, but instead of it. */
	if (sigprocmask(SIG_SETMASK, &leave, NULL))
		return -errno;
	fd = signalfd(-1, &leave, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	*ret_sigfd = fd;
	return 0;
}

static int drop_stdio(void)
{
	const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	for (int i = STDIN_FILENO; i <= STDERR_FILENO && !err; i++)
		if (dup2(fd, i) < 0)
			err = -errno;
	close(fd);
	return err;
}

/* A starter that did not wait for the byte has gone: no error. */
static void report_ready(int ready_fd)
{
	if (ready_fd < 0)
		return;
	if (write(ready_fd, "", 1) != 1 && errno != EPIPE)
		fprintf(stderr, "wptrack-keeper: cannot report readiness: %s\n", strerror(errno));
	close(ready_fd);
}

static int start(struct keeper *keeper, int ready_fd)
{
	int err;

	keeper->table.cap = raise_limits();
	err = settle_signals(&keeper->sigfd);
	if (err)
		return err;
	keeper->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (keeper->epfd < 0)
		return -errno;
	keeper->table.epfd = keeper->epfd;
	err = wptrack_place_take(&keeper->place);
	if (err)
		return err;
	err = watch(keeper, keeper->sigfd, EVENT_SIGNAL);
	if (!err)
		err = watch(keeper, keeper->place.listener, EVENT_LISTENER);
	if (!err)
		err = drop_stdio();
	if (err) {
		wptrack_place_leave(&keeper->place);
		return err;
	}
	report_ready(ready_fd);
	return 0;
}

static void leave(struct keeper *keeper)
{
	/* First, so that nobody new is let in while the rest is taken down. */
	wptrack_place_leave(&keeper->place);
	for (unsigned int slot = 0; slot < MAX_CLIENTS; slot++)
		if (keeper->clients[slot])
			close_client(keeper, slot);
	wptrack_table_clear(&keeper->table);
}

static int parse_fd(const char *text)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno || end == text || *end || fd <= STDERR_FILENO || fd > INT_MAX - 1 || fcntl((int)fd, F_GETFD) < 0)
		return -EBADF;
	return (int)fd;
}

static int usage(FILE *to)
{
	fprintf(to, "usage: wptrack-keeper [--ready-fd N]\n"
		    "Started by CRIU's wptrack plugin; says when it listens by one byte to descriptor N.\n");
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct keeper keeper;
	int ready_fd = -1;
	int opt, err;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'h')
			return usage(stdout);
		if (opt != 'r')
			return usage(stderr);
		ready_fd = parse_fd(optarg);
		if (ready_fd < 0) {
			fprintf(stderr, "wptrack-keeper: --ready-fd %s: not an open descriptor above 2\n", optarg);
			return 2;
		}
	}
	if (optind < argc)
		return usage(stderr);

	err = settle(ready_fd);
	if (!err)
		err = start(&keeper, ready_fd);
	if (err == -EALREADY) {
		report_ready(ready_fd);
		return 0;
	}
	if (err) {
		fprintf(stderr, "wptrack-keeper: %s: %s\n", wptrack_wire_run_dir(), strerror(-err));
		return 1;
	}
	err = run(&keeper);
	leave(&keeper);
	return err ? 1 : 0;
}
