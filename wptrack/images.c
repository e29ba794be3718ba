// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "images.h"
#include "lib/cleanup.h"
#include "lib/page.h"
#include "pagemap.pb-c.h"

/* Source: criu/include/magic.h, criu/include/pagemap.h. */
#define COMMON_MAGIC  0x54564319u
#define PAGEMAP_MAGIC 0x56084025u
#define PE_PARENT     (1u << 0)
#define PE_PRESENT    (1u << 2)

/* An entry takes 40 bytes at most. */
#define MESSAGE_MAX_BYTES 1024u

/* One images directory, and where in its images we are. */
struct wptrack_level {
	char *path;
	int dir;
	FILE *pagemap;
	char name[32]; /* of the pagemap image */
	int pages;
	uint64_t pages_bytes;
	dev_t dev;
	ino_t ino;

	/* The current entry; empty before the first one. */
	uint64_t start;
	uint64_t end;
	bool in_parent;
	uint64_t offset; /* of start, in pages; of what comes next, when the entry is in the parent */
};

static void free_level(struct wptrack_level *level)
{
	if (level->pagemap)
		fclose(level->pagemap);
	wptrack_close_fd(&level->pages);
	wptrack_close_fd(&level->dir);
	free(level->path);
	free(level);
}

static __attribute__((format(printf, 3, 4))) int fail(struct wptrack_images *images, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(images->why, sizeof(images->why), format, args);
	va_end(args);
	return err;
}

static int damaged(struct wptrack_images *images, const struct wptrack_level *level, const char *why)
{
	return fail(images, -EBADMSG, "%s/%s is damaged: %s", level->path, level->name, why);
}

/* Return: a descriptor the caller owns, or -errno. */
static int open_image(struct wptrack_images *images, const struct wptrack_level *level, const char *name,
		      off_t *ret_bytes)
{
	/* O_NONBLOCK: a FIFO of that name must not hang us. */
	const int fd = openat(level->dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		const int err = -errno;

		if (fd >= 0)
			close(fd);
		return fail(images, err, "%s/%s: %s", level->path, name, strerror(-err));
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return fail(images, -EBADMSG, "%s/%s is no regular file", level->path, name);
	}
	*ret_bytes = st.st_size;
	return fd;
}

/* Read one framed message into @buf. Return: 1, 0 at the end of the file, or -errno. */
static int read_message(struct wptrack_images *images, struct wptrack_level *level, uint8_t *buf, uint32_t *ret_bytes)
{
	const size_t got = fread(ret_bytes, 1, sizeof(*ret_bytes), level->pagemap);

	if (ferror(level->pagemap))
		return fail(images, -EIO, "%s/%s: cannot be read", level->path, level->name);
	if (!got)
		return 0;
	if (got != sizeof(*ret_bytes))
		return damaged(images, level, "it ends within an entry");
	if (*ret_bytes > MESSAGE_MAX_BYTES)
		return damaged(images, level, "an entry is too long");
	if (fread(buf, 1, *ret_bytes, level->pagemap) != *ret_bytes)
		return damaged(images, level, "it ends within an entry");
	return 1;
}

/* The heading says in which file the pages are. */
static int open_pages(struct wptrack_images *images, struct wptrack_level *level)
{
	uint8_t buf[MESSAGE_MAX_BYTES];
	uint32_t magic[2], bytes;
	PagemapHead *head;
	char name[32];
	off_t size = 0;
	int ret;

	if (fread(magic, sizeof(magic), 1, level->pagemap) != 1 || magic[0] != COMMON_MAGIC ||
	    magic[1] != PAGEMAP_MAGIC)
		return damaged(images, level, "it is no pagemap image");
	ret = read_message(images, level, buf, &bytes);
	if (ret <= 0)
		return ret < 0 ? ret : damaged(images, level, "it has no heading");
	head = pagemap_head__unpack(NULL, bytes, buf);
	if (!head)
		return damaged(images, level, "its heading cannot be read");
	snprintf(name, sizeof(name), "pages-%" PRIu32 ".img", head->pages_id);
	pagemap_head__free_unpacked(head, NULL);

	ret = open_image(images, level, name, &size);
	if (ret < 0)
		return ret;
	level->pages = ret;
	level->pages_bytes = (uint64_t)size;
	return 0;
}

static int open_pagemap(struct wptrack_images *images, struct wptrack_level *level)
{
	off_t size;
	int fd;

	snprintf(level->name, sizeof(level->name), "pagemap-%" PRIu32 ".img", images->id);
	fd = open_image(images, level, level->name, &size);
	if (fd < 0)
		return fd;
	level->pagemap = fdopen(fd, "r");
	if (!level->pagemap) {
		close(fd);
		return fail(images, -ENOMEM, "out of memory");
	}
	return open_pages(images, level);
}

/* A parent link that leads back would be followed for ever. */
static int check_new(struct wptrack_images *images, struct wptrack_level *level)
{
	struct stat st;

	if (fstat(level->dir, &st))
		return fail(images, -errno, "%s: %s", level->path, strerror(errno));
	level->dev = st.st_dev;
	level->ino = st.st_ino;
	for (unsigned int i = 0; i < images->nr_levels; i++)
		if (images->levels[i]->dev == st.st_dev && images->levels[i]->ino == st.st_ino)
			return fail(images, -EBADMSG, "%s: its parent links lead back to it", level->path);
	return 0;
}

/* The directory without the links that have led to it, or @path. */
static char *name_of(int dir, const char *path)
{
	char link[64], buf[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	len = readlink(link, buf, sizeof(buf) - 1);
	if (len <= 0)
		return strdup(path);
	buf[len] = '\0';
	return strdup(buf);
}

/* Add @path, seen from @at, as the last level. */
static int add_level(struct wptrack_images *images, int at, const char *path)
{
	struct wptrack_level **levels, *level;
	int err;

	levels = reallocarray(images->levels, images->nr_levels + 1, sizeof(*levels));
	if (!levels)
		return fail(images, -ENOMEM, "out of memory");
	images->levels = levels;
	level = calloc(1, sizeof(*level));
	if (!level)
		return fail(images, -ENOMEM, "out of memory");
	level->pages = -1;

	level->dir = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (level->dir < 0) {
		err = -errno;
		if (images->nr_levels)
			fail(images, err, "%s/%s: %s", images->levels[images->nr_levels - 1]->path, path,
			     strerror(-err));
		else
			fail(images, err, "%s: %s", path, strerror(-err));
		free_level(level);
		return err;
	}
	level->path = name_of(level->dir, path);
	err = level->path ? check_new(images, level) : fail(images, -ENOMEM, "out of memory");
	if (!err)
		err = open_pagemap(images, level);
	if (err) {
		free_level(level);
		return err;
	}
	levels[images->nr_levels++] = level;
	return 0;
}

int wptrack_images_open(struct wptrack_images *images, const char *path, uint32_t id)
{
	images->id = id;
	return add_level(images, AT_FDCWD, path);
}

void wptrack_images_close(struct wptrack_images *images)
{
	for (unsigned int i = 0; i < images->nr_levels; i++)
		free_level(images->levels[i]);
	free(images->levels);
	*images = (struct wptrack_images){ 0 };
}

const char *wptrack_images_path(const struct wptrack_images *images, unsigned int level)
{
	return images->levels[level]->path;
}

static int take_entry(struct wptrack_images *images, struct wptrack_level *level, const PagemapEntry *entry)
{
	const uint64_t nr_pages = entry->has_nr_pages ? entry->nr_pages : entry->compat_nr_pages;
	const uint32_t flags = entry->has_flags ? entry->flags : 0;
	/* Images of before there were flags have in_parent, or nothing. */
	const bool in_parent = (entry->has_in_parent && entry->in_parent) || flags & PE_PARENT;
	const bool present = flags & PE_PRESENT || (!in_parent && !entry->has_flags);
	const uint64_t offset = level->offset + (level->in_parent ? 0 : level->end - level->start);
	const uint64_t page_bytes = wptrack_page_bytes();

	if (entry->vaddr % page_bytes || !nr_pages || nr_pages > (UINT64_MAX - entry->vaddr) / page_bytes)
		return damaged(images, level, "an entry makes no sense");
	if (entry->vaddr < level->end)
		return damaged(images, level, "its entries are not in order");
	if (in_parent && present)
		return damaged(images, level, "an entry is both here and in the parent");
	if (!in_parent && !present)
		return fail(images, -EBADMSG, "%s/%s: %" PRIx64 " is in no image, it was left to --lazy-pages",
			    level->path, level->name, entry->vaddr);
	if (present && (offset > level->pages_bytes || nr_pages > (level->pages_bytes - offset) / page_bytes))
		return damaged(images, level, "its pages image is too short");

	level->start = entry->vaddr;
	level->end = entry->vaddr + nr_pages * page_bytes;
	level->in_parent = in_parent;
	level->offset = offset;
	return 1;
}

/* Go to a level's next entry. Return: 1, 0 when there is none, or -errno. */
static int advance(struct wptrack_images *images, struct wptrack_level *level)
{
	uint8_t buf[MESSAGE_MAX_BYTES];
	PagemapEntry *entry;
	uint32_t bytes;
	int ret;

	ret = read_message(images, level, buf, &bytes);
	if (ret <= 0)
		return ret;
	entry = pagemap_entry__unpack(NULL, bytes, buf);
	if (!entry)
		return damaged(images, level, "an entry cannot be read");
	ret = take_entry(images, level, entry);
	pagemap_entry__free_unpacked(entry, NULL);
	return ret;
}

/* Go to the entry of a parent that has @addr, which is never below what it was asked for last. */
static int seek(struct wptrack_images *images, unsigned int i, uint64_t addr)
{
	struct wptrack_level *level;
	int ret = 1;

	if (i == images->nr_levels) {
		ret = add_level(images, images->levels[i - 1]->dir, "parent");
		if (ret)
			return ret;
		ret = 1;
	}
	level = images->levels[i];
	while (ret > 0 && level->end <= addr)
		ret = advance(images, level);
	if (ret < 0)
		return ret;
	if (!ret || level->start > addr)
		return fail(images, -EBADMSG, "%s leaves %" PRIx64 " to %s, which does not have it",
			    images->levels[i - 1]->path, addr, level->path);
	return 0;
}

/* What is newer may have replaced the end of a parent; damage there is damage all the same. */
static int read_to_the_end(struct wptrack_images *images)
{
	for (unsigned int i = 1; i < images->nr_levels; i++) {
		int ret;

		while ((ret = advance(images, images->levels[i])) > 0)
			;
		if (ret < 0)
			return ret;
	}
	return 0;
}

int wptrack_images_next(struct wptrack_images *images, struct wptrack_piece *ret)
{
	struct wptrack_level *level = images->levels[0];
	struct wptrack_piece piece = { 0 };
	int err;

	if (images->next >= level->end) {
		err = advance(images, level);
		if (err <= 0)
			return err ? err : read_to_the_end(images);
	}
	piece.start = level->start > images->next ? level->start : images->next;
	piece.end = level->end;
	while (level->in_parent) {
		err = seek(images, ++piece.level, piece.start);
		if (err)
			return err;
		level = images->levels[piece.level];
		/* The parent may have cut the same memory into other pieces. */
		if (level->end < piece.end)
			piece.end = level->end;
	}
	piece.offset = level->offset + (piece.start - level->start);
	images->next = piece.end;
	*ret = piece;
	return 1;
}

int wptrack_images_read(struct wptrack_images *images, const struct wptrack_piece *piece, void *buf, uint64_t bytes)
{
	const struct wptrack_level *level = images->levels[piece->level];
	uint64_t done = 0;

	while (done < bytes) {
		const ssize_t got = pread(level->pages, (char *)buf + done, bytes - done,
					  (off_t)(piece->offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(images, -errno, "%s: its pages cannot be read: %s", level->path, strerror(errno));
		if (got == 0)
			return fail(images, -EBADMSG, "%s: its pages image has become shorter", level->path);
		done += (uint64_t)got;
	}
	return 0;
}
