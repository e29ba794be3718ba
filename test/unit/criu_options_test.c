/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "wptrack/migrate/criu_options.h"

/* What an option is found to be among arguments; "(none)" when it is not given. */
static const char *found(const char *name, char letter, char *const given[], int nr)
{
	static char value[64];
	struct wptrack_criu_options options = { 0 };
	const char *at;

	if (wptrack_criu_options_read(given, nr, &options))
		return "(failed)";
	at = wptrack_criu_option(&options, name, letter);
	snprintf(value, sizeof(value), "%s", at ? at : "(none)");
	wptrack_criu_options_free(&options);
	return value;
}

#define NR(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define FOUND(name, letter, value, ...)                                          \
	do {                                                                     \
		char *given_[] = { (char *)"--no-default-config", __VA_ARGS__ }; \
		CHECK(!strcmp(found(name, letter, given_, NR(given_)), value));  \
	} while (0)

static void long_options_are_found(void)
{
	FOUND("shell-job", 'j', "(none)", (char *)"--file-locks");
	FOUND("shell-job", 'j', "", (char *)"--shell-job");
	FOUND("shell-job", 'j', "", (char *)"--shell-j", (char *)"--file-locks");
	FOUND("shell-job", 'j', "(none)", (char *)"--shell-jobs");
	FOUND("ghost-limit", 0, "4M", (char *)"--ghost-limit", (char *)"4M");
	FOUND("ghost-limit", 0, "4M", (char *)"--ghost-limit=4M");
	/* What is no option of criu's, or the value of another one. */
	FOUND("shell-job", 'j', "", (char *)"--root", (char *)"/a", (char *)"--no-such-option", (char *)"b",
	      (char *)"-j");
	FOUND("root", 'r', "/b", (char *)"--root", (char *)"/a", (char *)"-r", (char *)"/b");
	/* "--" alone abbreviates nothing, and ends criu's options. */
	FOUND("shell-job", 'j', "(none)", (char *)"--", (char *)"-j");
	FOUND("shell-job", 'j', "(none)", (char *)"--");
}

static void the_last_one_counts(void)
{
	FOUND("file-locks", 'l', "(none)", (char *)"--file-locks", (char *)"--no-file-locks");
	FOUND("file-locks", 'l', "", (char *)"--no-file-locks", (char *)"--file-locks");
	FOUND("ghost-limit", 0, "2M", (char *)"--ghost-limit", (char *)"1M", (char *)"--ghost-limit=2M");
}

static void letters_are_found(void)
{
	FOUND("shell-job", 'j', "", (char *)"-j");
	FOUND("shell-job", 'j', "", (char *)"-jv4");
	FOUND("file-locks", 'l', "", (char *)"-jl");
	FOUND("libdir", 'L', "/a", (char *)"-L", (char *)"/a");
	FOUND("libdir", 'L', "/a", (char *)"-L/a");
	/* This is a directory with a j and an l in it. */
	FOUND("shell-job", 'j', "(none)", (char *)"-L/jail");
	FOUND("file-locks", 'l', "(none)", (char *)"-L/jail");
}

static void configuration_files_have_options(void)
{
	char path[] = "/tmp/wptrack-test.XXXXXX";
	const int fd = mkstemp(path);

	CHECK(fd >= 0);
	dprintf(fd, "# shell-job\n\n  tcp-established\nghost-limit \"3M\" # a comment\nfile-locks # another\n");
	close(fd);
	FOUND("shell-job", 'j', "(none)", (char *)"--config", path);
	FOUND("tcp-established", 0, "", (char *)"--config", path);
	FOUND("ghost-limit", 0, "3M", (char *)"--config", path);
	FOUND("file-locks", 'l', "", (char *)"--config", path);
	/* The command line is later. */
	FOUND("file-locks", 'l', "(none)", (char *)"--config", path, (char *)"--no-file-locks");
	setenv("CRIU_CONFIG_FILE", path, 1);
	FOUND("tcp-established", 0, "", (char *)"-v4");
	unsetenv("CRIU_CONFIG_FILE");
	unlink(path);
}

static void sizes_have_suffixes(void)
{
	CHECK_EQ(wptrack_criu_size("17", 1), 17);
	CHECK_EQ(wptrack_criu_size("2K", 1), 2048);
	CHECK_EQ(wptrack_criu_size("3M", 1), 3u << 20);
	CHECK_EQ(wptrack_criu_size("4G", 1), 4ull << 30);
	CHECK_EQ(wptrack_criu_size(NULL, 5), 5);
	CHECK_EQ(wptrack_criu_size("", 5), 5);
	CHECK_EQ(wptrack_criu_size("x", 5), 5);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(long_options_are_found),		TEST(the_last_one_counts), TEST(letters_are_found),
		TEST(configuration_files_have_options), TEST(sizes_have_suffixes),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
