/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An images directory of a test's own, gone with everything in it when the test is left.
 */
#ifndef WPTRACK_TEST_IMAGES_DIR_H
#define WPTRACK_TEST_IMAGES_DIR_H

#include <fcntl.h>
#include <sys/stat.h>

#include "harness.h"
#include "lib/session.h"

/* An images directory. */
struct images {
	char path[40];
	int fd;
};

/* Nothing deeper than one directory is made in it. */
static inline void remove_entries(int dirfd)
{
	DIR *dir = fdopendir(dirfd);

	for (const struct dirent *entry; dir && (entry = readdir(dir));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (unlinkat(dirfd, entry->d_name, 0)) {
			remove_entries(openat(dirfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
			unlinkat(dirfd, entry->d_name, AT_REMOVEDIR);
		}
	}
	if (dir)
		closedir(dir);
}

static inline void remove_images(struct images *images)
{
	remove_entries(images->fd);
	rmdir(images->path);
}

static inline struct images new_images(void)
{
	struct images images = { .path = "/tmp/wptrack-session-XXXXXX" };

	if (!mkdtemp(images.path))
		abort();
	images.fd = open(images.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return images;
}

#define IMAGES __attribute__((cleanup(remove_images))) struct images

static inline bool put_file(const struct images *images, const void *data, size_t len)
{
	const int fd = openat(images->fd, WPTRACK_RECORD_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const bool fine = fd >= 0 && write(fd, data, len) == (ssize_t)len;

	close(fd);
	return fine;
}

static inline size_t get_file(const struct images *images, uint8_t *buf, size_t room)
{
	const int fd = openat(images->fd, WPTRACK_RECORD_NAME, O_RDONLY | O_CLOEXEC);
	const ssize_t len = read(fd, buf, room);

	close(fd);
	return len > 0 ? (size_t)len : 0;
}

#endif
