/* SPDX-License-Identifier: GPL-2.0-only */
/* What a log of criu's tells. No logging. */
#ifndef WPTRACK_CRIU_LOG_H
#define WPTRACK_CRIU_LOG_H

#include <stdbool.h>

#define WPTRACK_CRIU_LINE_LEN 512

/* The first error in a log, printable, without what is of no consequence. Return: false when there is none. */
bool wptrack_criu_first_error(const char *path, char line[WPTRACK_CRIU_LINE_LEN]);

#endif
