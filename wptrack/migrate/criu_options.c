// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu_options.h"
#include "lib/cleanup.h"

/* criu's short options, as it gives them to getopt_long() itself; operands come where they stand. */
#define LETTERS "-dSsRt:hD:o:v::x::Vr:jJ:lW:L:M:"

/* Of the long option that is looked for; no letter. */
#define FOUND	256
#define NEGATED 257

static int append(struct wptrack_criu_options *options, const char *text)
{
	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if ((options->nr & (options->nr - 1)) == 0) {
		char **all = reallocarray(options->all, options->nr ? options->nr * 2 : 1, sizeof(*all));

		if (!all)
			return -ENOMEM;
		options->all = all;
	}
	options->all[options->nr] = strdup(text);
	if (!options->all[options->nr])
		return -ENOMEM;
	options->nr++;
	return 0;
}

/* "name", "name value" or "name "value"" of a line; # begins a comment. */
static int append_line(struct wptrack_criu_options *options, char *line)
{
	char *option WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	char *name = line, *value;
	int err;

	while (isspace((unsigned char)*name))
		name++;
	if (!*name || *name == '#')
		return 0;
	value = name + strcspn(name, " \t\n");
	if (*value)
		*value++ = '\0';
	if (asprintf(&option, "--%s", name) < 0) {
		option = NULL;
		return -ENOMEM;
	}
	err = append(options, option);
	while (isspace((unsigned char)*value))
		value++;
	if (err || !*value || *value == '#')
		return err;
	if (*value == '"') {
		value++;
		value[strcspn(value, "\"\n")] = '\0';
	} else {
		value[strcspn(value, " \t\n")] = '\0';
	}
	return append(options, value);
}

static int append_file(struct wptrack_criu_options *options, const char *path)
{
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = path && *path ? fopen(path, "re") : NULL;
	char *line WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	size_t size = 0;
	int err = 0;

	while (f && !err && getline(&line, &size, f) >= 0)
		err = append_line(options, line);
	return err;
}

static int append_home(struct wptrack_criu_options *options)
{
	const char *home = getenv("HOME");
	char path[PATH_MAX];

	if (!home || snprintf(path, sizeof(path), "%s/.criu/default.conf", home) >= (int)sizeof(path))
		return 0;
	return append_file(options, path);
}

int wptrack_criu_options_read(char *const given[], int nr_given, struct wptrack_criu_options *ret)
{
	const struct wptrack_criu_options only_given = { .all = (char **)given, .nr = (size_t)nr_given };
	int err = 0;

	if (!wptrack_criu_option(&only_given, "no-default-config", 0)) {
		err = append_file(ret, "/etc/criu/default.conf");
		if (!err)
			err = append_home(ret);
	}
	if (!err)
		err = append_file(ret, getenv("CRIU_CONFIG_FILE"));
	if (!err)
		err = append_file(ret, wptrack_criu_option(&only_given, "config", 0));
	for (int i = 0; !err && i < nr_given; i++)
		err = append(ret, given[i]);
	return err;
}

void wptrack_criu_options_free(struct wptrack_criu_options *options)
{
	for (size_t i = 0; i < options->nr; i++)
		free(options->all[i]);
	free(options->all);
	*options = (struct wptrack_criu_options){ 0 };
}

/* What an option has for a value; where it need not have one, an argument that is no option may be it. */
static const char *value_of(int argc, char *const argv[])
{
	if (optarg)
		return optarg;
	return optind < argc && argv[optind][0] != '-' ? argv[optind] : "";
}

const char *wptrack_criu_option(const struct wptrack_criu_options *options, const char *name, char letter)
{
	/* As getopt_long() wants it: the first is the program's name. */
	char **argv WPTRACK_CLEANUP(wptrack_free_pointer) = calloc(options->nr + 2, sizeof(*argv));
	const int argc = (int)options->nr + 1;
	const char *found = NULL;
	char negated[64];
	const struct option table[] = {
		{ name, optional_argument, NULL, FOUND },
		{ negated, no_argument, NULL, NEGATED },
		{ 0 },
	};
	int kind;

	/* Nor is there memory for a criu then. */
	if (!argv)
		return NULL;
	snprintf(negated, sizeof(negated), "no-%s", name);
	argv[0] = (char *)"criu";
	for (size_t i = 0; i < options->nr; i++)
		argv[i + 1] = options->all[i];
	opterr = 0;
	optind = 0;
	while ((kind = getopt_long(argc, argv, LETTERS, table, NULL)) >= 0) {
		if (kind == FOUND || (letter && kind == letter))
			found = value_of(argc, argv);
		else if (kind == NEGATED)
			found = NULL;
	}
	return found;
}

unsigned long long wptrack_criu_size(const char *text, unsigned long long otherwise)
{
	unsigned long long size;
	char *end;

	if (!text)
		return otherwise;
	errno = 0;
	size = strtoull(text, &end, 10);
	if (errno || end == text)
		return otherwise;
	switch (*end) {
	case 'G':
		return size << 30;
	case 'M':
		return size << 20;
	case 'K':
		return size << 10;
	default:
		return size;
	}
}
