/* SPDX-License-Identifier: GPL-2.0-only */
/* How wptrack reads numbers, and writes them and names, for people. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int wptrack_cmd_failed(const char *what, int err)
{
	fprintf(stderr, "wptrack: %s: %s\n", what, strerror(-err));
	return WPTRACK_EXIT_FAILED;
}

int wptrack_cmd_misused(const char *name, const char *why)
{
	fprintf(stderr, "wptrack %s: %s (see wptrack help)\n", name, why);
	return WPTRACK_EXIT_USAGE;
}

int wptrack_cmd_cannot(const char *name, int status, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "wptrack %s: ", name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	putc('\n', stderr);
	return status;
}

int wptrack_cmd_option(int argc, char **argv, const struct wptrack_option *options)
{
	struct option all[WPTRACK_OPTIONS_MAX + 3] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
	};
	size_t nr = 2;

	for (size_t i = 0; options[i].name && i < WPTRACK_OPTIONS_MAX; i++)
		all[nr++] = (struct option){
			.name = options[i].name,
			.has_arg = options[i].value ? required_argument : no_argument,
			.val = options[i].kind,
		};
	opterr = 0;
	return getopt_long(argc, argv, "-:hV", all, NULL);
}

int32_t wptrack_parse_number(const char *text)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	return errno || end == text || *end || number <= 0 || number > INT32_MAX ? 0 : (int32_t)number;
}

const char *wptrack_print_size(uint64_t bytes, char buf[WPTRACK_SIZE_LEN])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned int unit = 0;

	if (bytes < 1024) {
		snprintf(buf, WPTRACK_SIZE_LEN, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* Keeps a fraction of ten bits, so that no floating point rounds 1023.99 up to 1024.0. */
	while (bytes >= 1024 * 1024) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, WPTRACK_SIZE_LEN, "%" PRIu64 ".%" PRIu64 " %s", bytes / 1024, bytes % 1024 * 10 / 1024,
		 units[unit]);
	return buf;
}

const char *wptrack_print_plain(const char *comm, char buf[WPTRACK_PLAIN_LEN])
{
	size_t len = 0;

	/* A process chooses its name, and must not choose what the terminal does. */
	for (; comm[len] && len < WPTRACK_PLAIN_LEN - 1; len++)
		buf[len] = comm[len] >= ' ' && comm[len] <= '~' ? comm[len] : '?';
	buf[len] = '\0';
	return buf;
}

const char *wptrack_print_refused(const uint32_t refused[WPTRACK_REFUSED_NR], char buf[WPTRACK_REFUSED_LEN])
{
	size_t len = 0;

	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++)
		if (refused[i])
			len += (size_t)snprintf(buf + len, WPTRACK_REFUSED_LEN - len, "%s%s:%" PRIu32, len ? " " : "",
						wptrack_refusal_name(i), refused[i]);
	if (!len)
		strcpy(buf, "-");
	return buf;
}

void wptrack_print_word(FILE *to, const char *word)
{
	bool plain = *word;

	for (const char *c = word; *c; c++)
		plain = plain && (isalnum((unsigned char)*c) || strchr("_-./:=,+@%", *c));
	if (plain) {
		fputs(word, to);
		return;
	}
	putc('\'', to);
	for (const char *c = word; *c; c++)
		if (*c == '\'')
			fputs("'\\''", to);
		else
			putc(*c, to);
	putc('\'', to);
}
