// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chain.h"
#include "cleanup.h"

/* Links may form a ring. */
#define DIRECTORIES_MAX 65536

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 0x100000001b3ull;
	return hash;
}

/* Which mappings and pages there are, and what is in them. */
static bool is_memory_image(const char *name)
{
	return !strncmp(name, "pagemap-", 8) || !strncmp(name, "pages-", 6) || !strncmp(name, "mm-", 3) ||
	       !strcmp(name, "inventory.img");
}

/* Files come in any order, so what they add is added up. */
static int add_directory(DIR *dir, uint64_t level, uint64_t *stamp)
{
	const struct dirent *entry;
	struct stat st;

	while (errno = 0, (entry = readdir(dir))) {
		uint64_t hash = 0xcbf29ce484222325ull;

		if (!is_memory_image(entry->d_name))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, 0))
			return -errno;
		hash = mix(hash, &level, sizeof(level));
		hash = mix(hash, entry->d_name, strlen(entry->d_name));
		hash = mix(hash, &st.st_ino, sizeof(st.st_ino));
		hash = mix(hash, &st.st_size, sizeof(st.st_size));
		hash = mix(hash, &st.st_mtim.tv_sec, sizeof(st.st_mtim.tv_sec));
		hash = mix(hash, &st.st_mtim.tv_nsec, sizeof(st.st_mtim.tv_nsec));
		*stamp += hash ^ hash >> 29;
	}
	return -errno;
}

int wptrack_chain_stamp(int dirfd, const char *subdir, uint64_t *ret)
{
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	uint64_t stamp = 1;
	int err;

	fd = openat(dirfd, subdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	for (uint64_t level = 0; level < DIRECTORIES_MAX; level++) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), next;
		DIR *dir = copy < 0 ? NULL : fdopendir(copy);

		if (!dir) {
			err = -errno;
			if (copy >= 0)
				close(copy);
			return err;
		}
		err = add_directory(dir, level, &stamp);
		closedir(dir);
		if (err)
			return err;

		next = openat(fd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (next < 0 && errno == ENOENT) {
			*ret = stamp ? stamp : 1;
			return 0;
		}
		if (next < 0)
			return -errno;
		close(fd);
		fd = next;
	}
	return -ELOOP;
}
