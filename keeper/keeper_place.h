/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the keeper can be found: its directory, the lock that makes it the
 * only one, and the listening socket.
 */
#ifndef WPTRACK_KEEPER_PLACE_H
#define WPTRACK_KEEPER_PLACE_H

#include <stdbool.h>

struct wptrack_place {
	const char *path; /* of the directory */
	int dirfd;	  /* locked for as long as it is open */
	int listener;	  /* non-blocking */
};

/**
 * wptrack_place_take - become the keeper of the run directory
 * @ret:	place, given back with wptrack_place_leave()
 *
 * Any number of starters may call this at once: one gets the place, the others
 * are told once it answers.
 *
 * Return: 0, -EALREADY when another keeper runs and answers, -EPERM when the
 * directory is not ours alone, -ETIMEDOUT when the lock is held by somebody
 * who does not answer, or -errno.
 */
int wptrack_place_take(struct wptrack_place *ret);

/* Whether clients that look for the keeper still find this one. */
bool wptrack_place_is_found(const struct wptrack_place *place);

/* Remove socket and directory, then let the next keeper in. */
void wptrack_place_leave(struct wptrack_place *place);

#endif
