// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/clock.h"
#include "peer.h"

/* A hello names each library, and each process. */
#define MESSAGE_BYTES_MAX (4u << 20)

#define CHUNK_BYTES	(1u << 20)
#define ASK_STOP_MS	50
#define END_PATIENCE_MS 2000

/* ---------------------------------------------------------------- bytes */

static void make_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	/* Of a pipe: it holds back less often. Nothing depends on it. */
	fcntl(fd, F_SETPIPE_SZ, CHUNK_BYTES);
}

void wptrack_peer_init(struct wptrack_peer *peer, int in, int out)
{
	*peer = (struct wptrack_peer){ .in = in, .out = out };
	make_nonblocking(in);
	make_nonblocking(out);
}

/* Return: 0 when something can be read or written, or there is an error to be seen in doing so. */
static int wait_until(struct wptrack_peer *peer, int fd, short events, int for_ms)
{
	const int64_t end = wptrack_now_ms() + for_ms;
	struct pollfd ready = { .fd = fd, .events = events };

	for (;;) {
		if (peer->stop && peer->stop(peer->arg))
			return -ECANCELED;
		if (poll(&ready, 1, ASK_STOP_MS) > 0)
			return 0;
		if (peer->moved)
			peer->moved(peer->arg);
		if (for_ms >= 0 && wptrack_now_ms() >= end)
			return -ETIMEDOUT;
	}
}

static int write_all(struct wptrack_peer *peer, const void *from, size_t size)
{
	const char *at = from;

	while (size) {
		const ssize_t done = write(peer->out, at, size);

		if (done > 0) {
			at += done;
			size -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) {
			const int err = wait_until(peer, peer->out, POLLOUT, -1);

			if (err)
				return err;
		} else if (done < 0 && errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* @for_ms: as long as nothing comes. */
static int read_all(struct wptrack_peer *peer, void *to, size_t size, int for_ms)
{
	char *at = to;

	while (size) {
		const ssize_t done = read(peer->in, at, size);

		if (!done)
			return -ECONNRESET;
		if (done > 0) {
			at += done;
			size -= (size_t)done;
		} else if (errno == EAGAIN) {
			const int err = wait_until(peer, peer->in, POLLIN, for_ms);

			if (err)
				return err;
		} else if (errno != EINTR) {
			return errno == EIO ? -ECONNRESET : -errno;
		}
	}
	return 0;
}

/* ---------------------------------------------------------------- messages */

int wptrack_peer_send(struct wptrack_peer *peer, const Wptrack__MigrateMessage *message)
{
	const size_t size = wptrack__migrate_message__get_packed_size(message);
	uint8_t *packed WPTRACK_CLEANUP(wptrack_free_pointer) = malloc(sizeof(uint32_t) + size);
	const uint32_t length = htole32((uint32_t)size);

	if (!packed)
		return -ENOMEM;
	if (size > MESSAGE_BYTES_MAX)
		return -E2BIG;
	memcpy(packed, &length, sizeof(length));
	wptrack__migrate_message__pack(message, packed + sizeof(length));
	return write_all(peer, packed, sizeof(length) + size);
}

int wptrack_peer_receive(struct wptrack_peer *peer, int for_ms, Wptrack__MigrateMessage **ret)
{
	uint8_t *packed WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	uint32_t length;
	int err = read_all(peer, &length, sizeof(length), for_ms);

	if (err)
		return err;
	length = le32toh(length);
	if (length > MESSAGE_BYTES_MAX)
		return -EPROTO;
	packed = malloc(length ? length : 1);
	if (!packed)
		return -ENOMEM;
	err = read_all(peer, packed, length, for_ms);
	if (err)
		return err;
	*ret = wptrack__migrate_message__unpack(NULL, length, packed);
	return *ret ? 0 : -EPROTO;
}

void wptrack_peer_free(Wptrack__MigrateMessage **message)
{
	if (*message)
		wptrack__migrate_message__free_unpacked(*message, NULL);
	*message = NULL;
}

/* ---------------------------------------------------------------- files */

static int send_bytes(struct wptrack_peer *peer, int file, uint64_t size)
{
	while (size) {
		const ssize_t done = sendfile(peer->out, file, NULL, size < CHUNK_BYTES ? size : CHUNK_BYTES);

		/* It has become shorter: what has been promised cannot be sent. */
		if (!done)
			return -EIO;
		if (done > 0) {
			size -= (uint64_t)done;
			peer->file_bytes += (uint64_t)done;
			if (peer->moved)
				peer->moved(peer->arg);
		} else if (errno == EAGAIN) {
			const int err = wait_until(peer, peer->out, POLLOUT, -1);

			if (err)
				return err;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int send_file(struct wptrack_peer *peer, int dirfd, const char *name)
{
	int file WPTRACK_CLEANUP(wptrack_close_fd) = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	WPTRACK_PEER_MESSAGE(message, FILE);
	struct stat st;
	int err;

	if (file < 0 || fstat(file, &st))
		return -errno;
	message.text = (char *)name;
	message.has_bytes = true;
	message.bytes = (uint64_t)st.st_size;
	err = wptrack_peer_send(peer, &message);
	return err ? err : send_bytes(peer, file, message.bytes);
}

static int send_link(struct wptrack_peer *peer, int dirfd, const char *name)
{
	char target[WPTRACK_PEER_NAME_MAX];
	const ssize_t len = readlinkat(dirfd, name, target, sizeof(target) - 1);
	WPTRACK_PEER_MESSAGE(message, LINK);

	if (len < 0)
		return -errno;
	target[len] = '\0';
	message.text = (char *)name;
	message.target = target;
	return wptrack_peer_send(peer, &message);
}

static bool ends_with(const char *name, const char *end)
{
	const size_t len = strlen(name), end_len = strlen(end);

	return len >= end_len && !strcmp(name + len - end_len, end);
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int wptrack_peer_send_directory(struct wptrack_peer *peer, const char *path, const char *skip)
{
	DIR *dir WPTRACK_CLEANUP(close_dir) = opendir(path);
	WPTRACK_PEER_MESSAGE(end, END);
	const struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct stat st;
		int err = 0;

		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			return -errno;
		if (skip && ends_with(entry->d_name, skip))
			continue;
		if (S_ISREG(st.st_mode))
			err = send_file(peer, dirfd(dir), entry->d_name);
		else if (S_ISLNK(st.st_mode))
			err = send_link(peer, dirfd(dir), entry->d_name);
		if (err)
			return err;
	}
	return wptrack_peer_send(peer, &end);
}

static bool is_name(const char *name)
{
	return name && *name && strlen(name) < WPTRACK_PEER_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") &&
	       strcmp(name, "..");
}

/* The round before, as criu calls it: nothing else is linked. */
static bool is_sibling(const char *target)
{
	return target && !strncmp(target, "../", 3) && is_name(target + 3);
}

static int receive_file(struct wptrack_peer *peer, int dirfd, const Wptrack__MigrateMessage *message)
{
	int file WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	char *buf WPTRACK_CLEANUP(wptrack_free_pointer) = malloc(CHUNK_BYTES);
	uint64_t left = message->bytes;

	if (!buf)
		return -ENOMEM;
	if (!is_name(message->text))
		return -EPROTO;
	file = openat(dirfd, message->text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		return -errno;
	while (left) {
		const size_t part = left < CHUNK_BYTES ? left : CHUNK_BYTES;
		int err = read_all(peer, buf, part, -1);

		for (size_t at = 0; !err && at < part;) {
			const ssize_t done = write(file, buf + at, part - at);

			if (done > 0)
				at += (size_t)done;
			else if (done < 0 && errno != EINTR)
				err = -errno;
		}
		if (err)
			return err;
		left -= part;
		peer->file_bytes += part;
	}
	return 0;
}

static int receive_entry(struct wptrack_peer *peer, int dirfd, const Wptrack__MigrateMessage *message)
{
	switch (message->kind) {
	case WPTRACK__MIGRATE_KIND__FILE:
		return receive_file(peer, dirfd, message);
	case WPTRACK__MIGRATE_KIND__LINK:
		if (!is_name(message->text) || !is_sibling(message->target))
			return -EPROTO;
		return symlinkat(message->target, dirfd, message->text) ? -errno : 0;
	default:
		return -EPROTO;
	}
}

int wptrack_peer_receive_directory(struct wptrack_peer *peer, const char *path)
{
	int dirfd WPTRACK_CLEANUP(wptrack_close_fd) = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = dirfd < 0 ? -errno : 0;

	while (!err) {
		Wptrack__MigrateMessage *message WPTRACK_CLEANUP(wptrack_peer_free) = NULL;

		err = wptrack_peer_receive(peer, -1, &message);
		if (!err && message->kind == WPTRACK__MIGRATE_KIND__END)
			return 0;
		if (!err)
			err = receive_entry(peer, dirfd, message);
	}
	return err;
}

/* ---------------------------------------------------------------- a command at the other end */

static __attribute__((noreturn)) void become(char *const argv[], int in, int out)
{
	sigset_t none;

	/* Ctrl-C is for us to act upon, in an order that needs the connection. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "wptrack: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

int wptrack_peer_start(struct wptrack_peer *peer, char *const argv[])
{
	int to[2] = { -1, -1 }, from[2] = { -1, -1 };
	pid_t child = -1;
	int err = 0;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) || (child = fork()) < 0)
		err = -errno;
	if (!child)
		become(argv, to[0], from[1]);
	wptrack_close_fd(&to[0]);
	wptrack_close_fd(&from[1]);
	if (err) {
		wptrack_close_fd(&to[1]);
		wptrack_close_fd(&from[0]);
		return err;
	}
	wptrack_peer_init(peer, from[0], to[1]);
	peer->child = child;
	return 0;
}

void wptrack_peer_hang_up(struct wptrack_peer *peer)
{
	wptrack_close_fd(&peer->in);
	wptrack_close_fd(&peer->out);
	peer->in = peer->out = -1;
}

void wptrack_peer_close(struct wptrack_peer *peer)
{
	const int64_t end = wptrack_now_ms() + END_PATIENCE_MS;

	wptrack_peer_hang_up(peer);
	while (peer->child > 0 && !waitpid(peer->child, NULL, WNOHANG)) {
		if (wptrack_now_ms() >= end)
			kill(peer->child, SIGKILL);
		poll(NULL, 0, 5);
	}
	peer->child = 0;
}
