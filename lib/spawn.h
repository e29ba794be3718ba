/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef WPTRACK_SPAWN_H
#define WPTRACK_SPAWN_H

#define WPTRACK_KEEPER_NAME "wptrack-keeper"

/**
 * wptrack_spawn_keeper - start a keeper, unless one runs already
 *
 * The program lies in the same directory as the plugin. It becomes nobody's
 * child and has nothing of the caller's open. When this returns 0 a keeper
 * listens.
 *
 * Return: 0, -ENOENT when the program is not there, -ETIMEDOUT, or -errno.
 */
int wptrack_spawn_keeper(void);

#endif
