/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How wptrack reads numbers, and writes them and names, for people and as JSON.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
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

int wptrack_cmd_option(int argc, char **argv, const struct option *options)
{
	opterr = 0;
	return getopt_long(argc, argv, "-:", options, NULL);
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

/* Length of the UTF-8 sequence at @s (RFC 3629: no overlong form, no surrogate), 0 if it is none. */
static size_t utf8_length(const unsigned char *s)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;

	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	/* The final NUL is no continuation byte: this stops at it. */
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return len;
}

void wptrack_json_string(FILE *to, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	putc('"', to);
	while (*s) {
		const size_t len = utf8_length(s);

		if (len == 0)
			fputs("\\ufffd", to);
		else if (*s == '"' || *s == '\\')
			fprintf(to, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(to, "\\u%04x", *s);
		else
			fwrite(s, 1, len, to);
		s += len ? len : 1;
	}
	putc('"', to);
}

void wptrack_json_refused(FILE *to, const uint32_t refused[WPTRACK_REFUSED_NR])
{
	bool first = true;

	putc('{', to);
	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++) {
		if (!refused[i])
			continue;
		fprintf(to, "%s\"%s\": %" PRIu32, first ? "" : ", ", wptrack_refusal_name(i), refused[i]);
		first = false;
	}
	putc('}', to);
}
