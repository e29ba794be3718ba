// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>

#include "criu_log.h"
#include "lib/cleanup.h"

bool wptrack_criu_first_error(const char *path, char line[WPTRACK_CRIU_LINE_LEN])
{
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = fopen(path, "re");
	const char *at = NULL;

	while (f && !at && fgets(line, WPTRACK_CRIU_LINE_LEN, f)) {
		at = strstr(line, "Error (");
		if (at && strstr(at, "RLIMIT_NOFILE"))
			at = NULL;
	}
	if (!at)
		return false;
	memmove(line, at, strlen(at) + 1);
	line[strcspn(line, "\n")] = '\0';
	/* Names in it are the program's choice. */
	for (char *c = line; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return true;
}
