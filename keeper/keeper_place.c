/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "keeper_place.h"
#include "lib/clock.h"
#include "lib/wire.h"

#define TAKE_TIMEOUT_MS 5000
#define TAKE_PERIOD_MS	10
#define LISTEN_BACKLOG	64

/* The directory's name may have been removed, or be another directory's by now. */
static bool is_ours(const struct wptrack_place *place)
{
	struct stat held, named;

	return !fstat(place->dirfd, &held) && held.st_nlink > 0 && !lstat(place->path, &named) &&
	       held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

bool wptrack_place_is_found(const struct wptrack_place *place)
{
	struct stat st;

	return is_ours(place) && !fstatat(place->dirfd, WPTRACK_SOCKET, &st, AT_SYMLINK_NOFOLLOW) && S_ISSOCK(st.st_mode);
}

/* -EAGAIN: it went away while it was looked at. */
static int open_dir(const char *path, int *ret_fd)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	/* Mode bits are refused, not changed: the path may be a mistake. */
	if (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		close(fd);
		return -EPERM;
	}
	*ret_fd = fd;
	return 0;
}

static int open_listener(const struct wptrack_place *place, int *ret_sk)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sk, err, len;

	len = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", place->path, WPTRACK_SOCKET);
	if (len < 0 || (size_t)len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	/* Only a keeper that was killed leaves one behind: we hold the lock. */
	if (unlinkat(place->dirfd, WPTRACK_SOCKET, 0) && errno != ENOENT)
		return -errno;

	sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sk < 0)
		return -errno;
	/* The umask has kept others out since bind; chmod takes the execute bit too. */
	if (bind(sk, (struct sockaddr *)&addr, sizeof(addr)) || fchmodat(place->dirfd, WPTRACK_SOCKET, 0600, 0) ||
	    listen(sk, LISTEN_BACKLOG)) {
		err = errno;
		unlinkat(place->dirfd, WPTRACK_SOCKET, 0);
		close(sk);
		return -err;
	}
	*ret_sk = sk;
	return 0;
}

/* -EAGAIN: the lock, the directory or the other keeper is in between two states. */
static int try_take(struct wptrack_place *place)
{
	int err, sk;

	err = open_dir(place->path, &place->dirfd);
	if (err)
		return err;
	if (flock(place->dirfd, LOCK_EX | LOCK_NB)) {
		err = errno == EWOULDBLOCK ? -EAGAIN : -errno;
		close(place->dirfd);
		if (err == -EAGAIN && !wptrack_wire_connect(&sk)) {
			close(sk);
			err = -EALREADY;
		}
		return err;
	}
	/* The lock may be that of a directory which its last keeper removed on leaving. */
	if (!is_ours(place)) {
		close(place->dirfd);
		return -EAGAIN;
	}
	err = open_listener(place, &place->listener);
	if (err) {
		rmdir(place->path);
		close(place->dirfd);
	}
	return err;
}

int wptrack_place_take(struct wptrack_place *ret)
{
	const int64_t deadline = wptrack_now_ms() + TAKE_TIMEOUT_MS;
	struct wptrack_place place = { .path = wptrack_wire_run_dir(), .dirfd = -1, .listener = -1 };
	int err;

	if (place.path[0] != '/')
		return -EINVAL;
	/* Nothing tells of a lock that is let go or a socket that begins to listen: ask again. */
	while ((err = try_take(&place)) == -EAGAIN) {
		if (wptrack_now_ms() > deadline)
			return -ETIMEDOUT;
		poll(NULL, 0, TAKE_PERIOD_MS);
	}
	if (!err)
		*ret = place;
	return err;
}

void wptrack_place_leave(struct wptrack_place *place)
{
	/* Unlinked before the socket closes: whom this turns away finds no keeper, and starts one. */
	unlinkat(place->dirfd, WPTRACK_SOCKET, 0);
	if (is_ours(place))
		rmdir(place->path);
	close(place->listener);
	close(place->dirfd);
}
