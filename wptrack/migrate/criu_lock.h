/* SPDX-License-Identifier: GPL-2.0-only */
/* The lock that a dump leaves on TCP connections, for a restore on the same host to take away. No logging. */
#ifndef WPTRACK_CRIU_LOCK_H
#define WPTRACK_CRIU_LOCK_H

/**
 * wptrack_criu_unlock - take it away, as the program has gone to another host
 * @dir:	images of the dump
 *
 * Only that of nftables has a name that the images tell. Return: 0, -ENOENT when
 * there is none, -EBADMSG when the images do not tell, or -errno.
 */
int wptrack_criu_unlock(const char *dir);

#endif
