// SPDX-License-Identifier: GPL-2.0-only
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "remove.h"

/* That are open at a time: directories of images lie in one another no deeper than this. */
#define FDS 8

static const char *kept; /* nftw() has no argument for it */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type;
	if (!kept || at->level != 1 || strcmp(path + at->base, kept))
		remove(path);
	return 0;
}

void wptrack_remove_directory(const char *path, const char *keep)
{
	kept = keep;
	nftw(path, remove_entry, FDS, FTW_DEPTH | FTW_PHYS);
}
