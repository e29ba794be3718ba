/* SPDX-License-Identifier: GPL-2.0-only */
/* Can a program that is announced be restored on this host? No logging. */
#ifndef WPTRACK_MIGRATE_ARRIVAL_H
#define WPTRACK_MIGRATE_ARRIVAL_H

#include "migrate.pb-c.h"

/* Takes a sentence that says what is in the way, and what to do. */
typedef void wptrack_arrival_tell(void *arg, const char *text);

/**
 * wptrack_arrival_check - before anything comes
 * @dir:	that the images are going to
 * @tell:	is called for each obstacle
 *
 * Return: how many obstacles there are.
 */
unsigned int wptrack_arrival_check(const char *dir, const Wptrack__MigrateHello *hello, wptrack_arrival_tell *tell,
				   void *arg);

/* What criu cpuinfo has written at the source, in a directory of ours. Return: as above. */
unsigned int wptrack_arrival_check_cpu(const char *dir, const Wptrack__MigrateHello *hello, wptrack_arrival_tell *tell,
				       void *arg);

#endif
