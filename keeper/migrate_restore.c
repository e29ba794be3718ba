// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu_options.h"
#include "migrate.h"
#include "wptrack_cmd.h"

/* What a restore has to be given as the dump was. */
static const struct {
	const char *name;
	char letter;
	bool has_value;
} repeated[] = {
	{ "shell-job", 'j', false },	 { "file-locks", 'l', false }, { "tcp-established", 0, false },
	{ "tcp-close", 0, false },	 { "ext-unix-sk", 'x', false }, { "allow-uprobes", 0, false },
	{ "root", 'r', true },		 { "evasive-devices", 0, false }, { "mntns-compat-mode", 0, false },
};

#define NR_REPEATED (sizeof(repeated) / sizeof(repeated[0]))

/* As a shell reads it. */
static void print_word(const char *word)
{
	bool plain = *word;

	for (const char *c = word; *c; c++)
		plain = plain && (isalnum((unsigned char)*c) || strchr("_-./:=,+@%", *c));
	if (plain) {
		printf(" %s", word);
		return;
	}
	fputs(" '", stdout);
	for (const char *c = word; *c; c++)
		if (*c == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*c);
	putchar('\'');
}

static void print_json_word(const char *word)
{
	fputs(", ", stdout);
	wptrack_json_string(stdout, word);
}

static void print_all(const struct wptrack_migrate *m, const struct wptrack_criu_options *given,
		      void (*print)(const char *word))
{
	char path[PATH_MAX];
	const bool shell_job = wptrack_criu_option(given, "shell-job", 'j');

	print("restore");
	print("-D");
	print(realpath(m->dir, path) ? path : m->dir);
	/* A program that is to have this terminal stays in the foreground. */
	if (!shell_job)
		print("-d");
	for (size_t i = 0; i < NR_REPEATED; i++) {
		const char *value = wptrack_criu_option(given, repeated[i].name, repeated[i].letter);
		char option[64];

		if (!value)
			continue;
		snprintf(option, sizeof(option), "--%s", repeated[i].name);
		print(option);
		if (repeated[i].has_value)
			print(value);
	}
}

void wptrack_migrate_show_restore(const struct wptrack_migrate *m, bool json)
{
	/* Those of configuration files come from there again. */
	const struct wptrack_criu_options given = { .all = m->opt.extra, .nr = (size_t)m->opt.nr_extra };

	if (json) {
		putchar('[');
		wptrack_json_string(stdout, m->opt.criu);
		print_all(m, &given, print_json_word);
		putchar(']');
		return;
	}
	if (m->opt.server_cmd)
		printf("to restore it there, bring what is in %s to the pages of round %u, and run there:\n", m->dir,
		       m->rounds);
	else
		printf("to restore it:\n");
	fputs("   ", stdout);
	print_word(m->opt.criu);
	print_all(m, &given, print_word);
	putchar('\n');
}
