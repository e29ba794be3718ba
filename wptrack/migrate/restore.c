// SPDX-License-Identifier: GPL-2.0-only
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu_options.h"
#include "migrate.h"

/* What a restore has to be given as the dump was. */
static const struct {
	const char *option;
	char letter;
	bool has_value;
} repeated[] = {
	{ "--shell-job", 'j', false },	   { "--file-locks", 'l', false },  { "--tcp-established", 0, false },
	{ "--tcp-close", 0, false },	   { "--ext-unix-sk", 'x', false }, { "--allow-uprobes", 0, false },
	{ "--evasive-devices", 0, false }, { "--root", 'r', true },
};

#define NR_REPEATED (sizeof(repeated) / sizeof(repeated[0]))

void wptrack_migrate_restore(const struct wptrack_migrate *m, struct wptrack_migrate_command *ret)
{
	/* Those of configuration files come from there again. */
	const struct wptrack_criu_options given = { .all = m->opt.extra, .nr = (size_t)m->opt.nr_extra };
	size_t nr = 0;

	_Static_assert(6 + 2 * NR_REPEATED <= sizeof(ret->argv) / sizeof(ret->argv[0]), "room for all of them");
	ret->argv[nr++] = m->opt.criu;
	ret->argv[nr++] = "restore";
	ret->argv[nr++] = "-D";
	ret->argv[nr++] = realpath(m->dir, ret->dir) ? ret->dir : m->dir;
	/* A program that is to have this terminal stays in the foreground. */
	if (!wptrack_criu_option(&given, "shell-job", 'j'))
		ret->argv[nr++] = "-d";
	for (size_t i = 0; i < NR_REPEATED; i++) {
		const char *value = wptrack_criu_option(&given, repeated[i].option + 2, repeated[i].letter);

		if (!value)
			continue;
		ret->argv[nr++] = repeated[i].option;
		if (repeated[i].has_value)
			ret->argv[nr++] = value;
	}
	ret->argv[nr] = NULL;
}
