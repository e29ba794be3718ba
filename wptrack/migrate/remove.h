/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef WPTRACK_MIGRATE_REMOVE_H
#define WPTRACK_MIGRATE_REMOVE_H

/**
 * wptrack_remove_directory - a directory and all that is in it
 * @keep:	an entry that stays, and the directory with it, if it is there; NULL: none does
 *
 * No link is followed. What cannot be removed stays, and nothing is said of it. Not for more than one thread.
 */
void wptrack_remove_directory(const char *path, const char *keep);

#endif
