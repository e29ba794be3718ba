/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Unit tests: a test is a function named after the behaviour it establishes.
 * CHECK leaves it at the first thing that is not so, and SKIP when the machine
 * cannot show it; what a test holds it gives back by cleanup attributes.
 * Arguments name the tests to run, default: all.
 */
#ifndef WPTRACK_TEST_HARNESS_H
#define WPTRACK_TEST_HARNESS_H

#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* No test may hang: when this is over, the default action of SIGALRM ends the program. */
#define HARNESS_TIMEOUT_S 45

/* As many times as long on a slow machine: scripts/time-scale.sh. */
static inline unsigned int harness_timeout_s(void)
{
	const char *scale = getenv("TIME_SCALE");
	const int times = scale ? atoi(scale) : 1;

	return HARNESS_TIMEOUT_S * (times > 1 ? times : 1);
}

struct harness_test {
	const char *name;
	void (*run)(void);
};

#define TEST(function)              \
	{                           \
#function, function \
	}

static char harness_why[512];
static bool harness_skipped;

static inline __attribute__((format(printf, 1, 2))) void harness_say(const char *format, ...)
{
	va_list args;

	/* What went wrong first is the reason. */
	if (harness_why[0])
		return;
	va_start(args, format);
	vsnprintf(harness_why, sizeof(harness_why), format, args);
	va_end(args);
}

#define CHECK(condition)                                                          \
	do {                                                                      \
		if (!(condition)) {                                               \
			harness_say("line %d: not so: %s", __LINE__, #condition); \
			return;                                                   \
		}                                                                 \
	} while (0)

#define CHECK_EQ(expression, expected)                                                                    \
	do {                                                                                              \
		const long long got_ = (long long)(expression);                                           \
		const long long want_ = (long long)(expected);                                            \
		if (got_ != want_) {                                                                      \
			harness_say("line %d: %s is %lld, not %lld", __LINE__, #expression, got_, want_); \
			return;                                                                           \
		}                                                                                         \
	} while (0)

#define SKIP(reason)                       \
	do {                               \
		harness_skipped = true;    \
		harness_say("%s", reason); \
		return;                    \
	} while (0)

/* Number of entries in a directory, -1 when it cannot be read. */
static inline int harness_count(const char *path)
{
	DIR *dir = opendir(path);
	int nr = 0;

	if (!dir)
		return -1;
	for (const struct dirent *entry; (entry = readdir(dir));)
		nr += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return nr;
}

/* Number of descriptors this process has open. */
static inline int harness_count_fds(void)
{
	/* The one that reads the directory is in it. */
	return harness_count("/proc/self/fd") - 1;
}

static inline bool harness_is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

/* Set by what can't be shown here at all: why. */
static const char *harness_lacks;

static inline int harness_run(const struct harness_test *tests, size_t nr, int argc, char **argv)
{
	size_t ran = 0, failed = 0, skipped = 0;

	/* In order with what children print, and there when one of them kills us. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < nr; i++) {
		if (!harness_is_wanted(tests[i].name, argc, argv))
			continue;
		harness_why[0] = '\0';
		harness_skipped = false;
		alarm(harness_timeout_s());
		if (harness_lacks)
			harness_skipped = true, harness_say("%s", harness_lacks);
		else
			tests[i].run();
		alarm(0);
		ran++;
		if (!harness_why[0]) {
			printf("PASS %s\n", tests[i].name);
		} else if (harness_skipped) {
			printf("SKIP %s: %s\n", tests[i].name, harness_why);
			skipped++;
		} else {
			printf("FAIL %s: %s\n", tests[i].name, harness_why);
			failed++;
		}
	}
	/* A run that shows nothing is no success, unless it says why. */
	return failed || (ran == skipped && (!ran || !harness_lacks));
}

#endif
