// SPDX-License-Identifier: GPL-2.0-only
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "json.h"
#include "lib/cleanup.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static __attribute__((noreturn)) void out_of_memory(void)
{
	fputs("wptrack: out of memory\n", stderr);
	exit(WPTRACK_EXIT_FAILED);
}

static struct json_object *sure(struct json_object *object)
{
	if (!object)
		out_of_memory();
	return object;
}

static void add(struct json_object *to, const char *key, struct json_object *value)
{
	if (json_object_object_add(to, key, value))
		out_of_memory();
}

static void append(struct json_object *list, struct json_object *value)
{
	if (json_object_array_add(list, value))
		out_of_memory();
}

struct json_object *wptrack_json_new(void)
{
	return sure(json_object_new_object());
}

/* glibc lets pass what is as long as UTF-8 and beyond the last code point, U+10FFFF: such a byte begins nothing. */
static void spoil_what_is_too_great(unsigned char *text)
{
	for (; *text; text++)
		if (*text > 0xf4 || (*text == 0xf4 && text[1] > 0x8f))
			*text = 0xff;
}

/* Of UTF-8 in UTF-8: what is none, iconv() stops at. The way needs no file, so nothing but memory can be missing. */
static void repair(char *in, char *out, size_t out_left)
{
	const iconv_t conversion = iconv_open("UTF-8", "UTF-8");
	size_t in_left = strlen(in);

	if (conversion == (iconv_t)-1)
		out_of_memory();
	while (iconv(conversion, &in, &in_left, &out, &out_left) == (size_t)-1) {
		memcpy(out, REPLACEMENT, strlen(REPLACEMENT));
		out += strlen(REPLACEMENT);
		out_left -= strlen(REPLACEMENT);
		in++;
		in_left--;
	}
	*out = '\0';
	iconv_close(conversion);
}

struct json_object *wptrack_json_string(const char *text)
{
	const size_t size = text ? strlen(text) * strlen(REPLACEMENT) + 1 : 0;
	char *given WPTRACK_CLEANUP(wptrack_free_pointer) = text ? strdup(text) : NULL;
	char *utf8 WPTRACK_CLEANUP(wptrack_free_pointer) = text ? malloc(size) : NULL;

	if (!text)
		return NULL;
	if (!given || !utf8)
		out_of_memory();
	spoil_what_is_too_great((unsigned char *)given);
	repair(given, utf8, size);
	return sure(json_object_new_string(utf8));
}

void wptrack_json_add_string(struct json_object *to, const char *key, const char *text)
{
	add(to, key, wptrack_json_string(text));
}

void wptrack_json_add_number(struct json_object *to, const char *key, uint64_t number)
{
	add(to, key, sure(json_object_new_uint64(number)));
}

void wptrack_json_add_bool(struct json_object *to, const char *key, bool value)
{
	add(to, key, sure(json_object_new_boolean(value)));
}

void wptrack_json_add_null(struct json_object *to, const char *key)
{
	add(to, key, NULL);
}

void wptrack_json_add_decimal(struct json_object *to, const char *key, double number, int decimals)
{
	char text[512]; /* any double has a place in there */

	snprintf(text, sizeof(text), "%.*f", decimals, number);
	add(to, key, sure(json_object_new_double_s(number, text)));
}

void wptrack_json_add_refused(struct json_object *to, const char *key, const uint32_t refused[WPTRACK_REFUSED_NR])
{
	struct json_object *object = wptrack_json_new();

	add(to, key, object);
	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++)
		if (refused[i])
			wptrack_json_add_number(object, wptrack_refusal_name(i), refused[i]);
}

struct json_object *wptrack_json_add_list(struct json_object *to, const char *key)
{
	struct json_object *list = sure(json_object_new_array());

	add(to, key, list);
	return list;
}

struct json_object *wptrack_json_append(struct json_object *list)
{
	struct json_object *object = wptrack_json_new();

	append(list, object);
	return object;
}

void wptrack_json_append_string(struct json_object *list, const char *text)
{
	append(list, wptrack_json_string(text));
}

void wptrack_json_print(struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(object,
							  JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (!text)
		out_of_memory();
	puts(text);
	json_object_put(object);
}
