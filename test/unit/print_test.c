/* SPDX-License-Identifier: GPL-2.0-only */
#include "harness.h"
#include "wptrack/cmd.h"
#include "wptrack/json.h"

/* Compare what is written as a JSON string with @expected. */
static bool json_is(const char *text, const char *expected)
{
	struct json_object *string = wptrack_json_string(text);
	const bool same = !strcmp(json_object_to_json_string_ext(string, JSON_C_TO_STRING_NOSLASHESCAPE), expected);

	json_object_put(string);
	return same;
}

static void json_strings_are_escaped(void)
{
	CHECK(json_is("", "\"\""));
	CHECK(json_is("plain", "\"plain\""));
	CHECK(json_is("a\"b\\c/", "\"a\\\"b\\\\c/\""));
	CHECK(json_is("\n\t\x01\x1f\x7f", "\"\\n\\t\\u0001\\u001f\x7f\""));
}

static void utf8_is_kept_in_json(void)
{
	CHECK(json_is("\xc3\xa9", "\"\xc3\xa9\""));
	CHECK(json_is("\xe2\x82\xac", "\"\xe2\x82\xac\""));
	CHECK(json_is("\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""));
	CHECK(json_is("\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\""));
}

/* Stray, cut short at the end, overlong, a surrogate, beyond the last code point. */
static void what_is_not_utf8_is_replaced_in_json(void)
{
	CHECK(json_is("a\xff"
		      "b",
		      "\"a\xef\xbf\xbd"
		      "b\""));
	CHECK(json_is("\x80", "\"\xef\xbf\xbd\""));
	CHECK(json_is("\xc3", "\"\xef\xbf\xbd\""));
	CHECK(json_is("\xf0\x9f\x98", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
	CHECK(json_is("\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""));
	CHECK(json_is("\xe0\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
	CHECK(json_is("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
	CHECK(json_is("\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
	CHECK(json_is("\xc3\"", "\"\xef\xbf\xbd\\\"\""));
}

static void sizes_are_readable(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ (1 << 20) - 1, "1023.9 KiB" },
		{ 1 << 20, "1.0 MiB" },
		{ 20ull << 40, "20.0 TiB" },
		{ UINT64_MAX, "15.9 EiB" },
	};
	char buf[WPTRACK_SIZE_LEN];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		CHECK(!strcmp(wptrack_print_size(sizes[i].bytes, buf), sizes[i].text));
}

static void names_cannot_command_the_terminal(void)
{
	char buf[WPTRACK_PLAIN_LEN];

	CHECK(!strcmp(wptrack_print_plain("\x1b[2J name\n\x9b~", buf), "?[2J name??~"));
	CHECK(!strcmp(wptrack_print_plain("longer than a comm can be", buf), "longer than a c"));
}

static void refusals_are_listed_with_their_numbers(void)
{
	uint32_t refused[WPTRACK_REFUSED_NR] = { 0 };
	char buf[WPTRACK_REFUSED_LEN];

	CHECK(!strcmp(wptrack_print_refused(refused, buf), "-"));
	refused[WPTRACK_REFUSED_FILE] = 12;
	refused[WPTRACK_REFUSED_SPECIAL] = 4;
	CHECK(!strcmp(wptrack_print_refused(refused, buf), "file:12 special:4"));
	memset(refused, 0xff, sizeof(refused));
	CHECK(strlen(wptrack_print_refused(refused, buf)) < WPTRACK_REFUSED_LEN - 1);
	CHECK(strstr(buf, "limit:4294967295"));
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(json_strings_are_escaped),
		TEST(utf8_is_kept_in_json),
		TEST(what_is_not_utf8_is_replaced_in_json),
		TEST(sizes_are_readable),
		TEST(names_cannot_command_the_terminal),
		TEST(refusals_are_listed_with_their_numbers),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
