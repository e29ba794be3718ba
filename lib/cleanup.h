/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a local variable owns is given back when it goes out of scope:
 *
 *	int fd WPTRACK_CLEANUP(wptrack_close_fd) = -1;
 *
 * Destructors of a type are declared where the type is. All take what owns
 * nothing: a descriptor below 0, NULL.
 */
#ifndef WPTRACK_CLEANUP_H
#define WPTRACK_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WPTRACK_CLEANUP(destructor) __attribute__((cleanup(destructor)))

static inline void wptrack_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void wptrack_close_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

/* For a pointer of any type. */
static inline void wptrack_free_pointer(void *pointer)
{
	free(*(void **)pointer);
}

#endif
