/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack: show and release what is tracked, read session records, verify images, watch what is written, migrate.
 */
#include <errno.h>
#include <string.h>

#include "wptrack_cmd.h"

static const struct {
	const char *name;
	const char *args;
	const char *help;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "status", "[--json]", "list tracked processes and what they have written since the last round",
	  wptrack_cmd_status },
	{ "release", "PID | --all", "stop tracking; the next dump is a full one", wptrack_cmd_release },
	{ "show", "DIR [--json]", "print the session record of an images directory", wptrack_cmd_show },
	{ "verify", "PID DIR [...]", "compare a stopped process with its images (--exact, --image-id N, --json)",
	  wptrack_cmd_verify },
	{ "migrate", "PID DIR [...]", "pre-dump until a dump stops it shortly, and dump (see wptrack(1))",
	  wptrack_cmd_migrate },
	{ "dirty-rate", "PID [...]", "watch how much a tracked tree writes (--interval SECONDS, --count N, --json)",
	  wptrack_cmd_dirty_rate },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *to)
{
	fprintf(to, "usage: wptrack COMMAND\n\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-10s %-13s %s\n", commands[i].name, commands[i].args, commands[i].help);
	fprintf(to, "  %-10s %-13s %s\n", "help", "", "print this");
	fprintf(to, "\n  --version                print the version\n");
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "wptrack: no command given (see wptrack help)\n");
		return WPTRACK_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		print_usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("wptrack %s\n", WPTRACK_VERSION);
		return 0;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	fprintf(stderr, "wptrack: no such command: %s (see wptrack help)\n", argv[1]);
	return WPTRACK_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int ret = dispatch(argc, argv);

	/* A full disk must not pass for a short list. */
	if ((fflush(stdout) || ferror(stdout)) && !ret)
		ret = wptrack_cmd_failed("standard output", -errno);
	return ret;
}
