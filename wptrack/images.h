/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CRIU's images of a process's memory: the pagemap-ID.img of an images directory
 * and of those that its "parent" links lead to, read as one, from the lowest
 * address up. No logging. What the images say is checked before it is believed;
 * the memory it takes does not depend on them, but for a little per directory.
 */
#ifndef WPTRACK_IMAGES_H
#define WPTRACK_IMAGES_H

#include <stdint.h>

#define WPTRACK_IMAGES_WHY_LEN 512

struct wptrack_level;

/* All zero before it is opened, and when it is closed. */
struct wptrack_images {
	struct wptrack_level **levels; /* 0 is the directory given, 1 its parent... as far as they were needed */
	unsigned int nr_levels;
	uint32_t id;
	uint64_t next; /* all below has been handed out */
	char why[WPTRACK_IMAGES_WHY_LEN];
};

/* Memory of the process that lies in one piece in one of the directories. */
struct wptrack_piece {
	uint64_t start;
	uint64_t end;
	unsigned int level;
	uint64_t offset; /* of start, in that directory's pages-*.img */
};

/**
 * wptrack_images_open - begin to read the images of a process
 * @images:	all zero; to be closed whatever is returned
 * @path:	images directory
 * @id:		of the process, in the names of its images
 *
 * Return: 0, -EBADMSG for images that are damaged, or -errno. When it fails,
 * @images->why says what with, for a person.
 */
int wptrack_images_open(struct wptrack_images *images, const char *path, uint32_t id);

/**
 * wptrack_images_next - the next piece of memory that the images have
 *
 * A parent directory is opened when the first page is left to it. Return: 1,
 * 0 when there is no more, or as wptrack_images_open().
 */
int wptrack_images_next(struct wptrack_images *images, struct wptrack_piece *ret);

/**
 * wptrack_images_read - the content of a piece, or of its beginning
 * @bytes:	no more than the piece has
 *
 * Return: 0, or as wptrack_images_open().
 */
int wptrack_images_read(struct wptrack_images *images, const struct wptrack_piece *piece, void *buf, uint64_t bytes);

/* The path of a level's directory. Return: a string that lives until @images is closed. */
const char *wptrack_images_path(const struct wptrack_images *images, unsigned int level);

void wptrack_images_close(struct wptrack_images *images);

#endif
