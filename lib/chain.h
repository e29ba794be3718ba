/* SPDX-License-Identifier: GPL-2.0-only */
/* Is a chain of images still what it was? */
#ifndef WPTRACK_CHAIN_H
#define WPTRACK_CHAIN_H

#include <stdint.h>

/**
 * wptrack_chain_stamp - what tells when memory images are replaced or written to
 * @dirfd:	images directory
 * @subdir:	"." or CRIU's "parent" link below it
 * @ret:	digest of sizes, inode numbers and times of modification of the memory images in there, and in all the directories
 *		that "parent" links lead to; never 0
 *
 * Return: 0; -ELOOP when there are more directories than a chain can have; or -errno.
 */
int wptrack_chain_stamp(int dirfd, const char *subdir, uint64_t *ret);

#endif
