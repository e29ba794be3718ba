/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack: show and release what is tracked, read session records, verify images, watch what is written, migrate.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cmd.h"

static const struct command {
	const char *name;
	const char *args;
	const char *help;
	const char *options; /* in lines */
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "status", "[--json]", "list tracked processes and what they have written since the last round",
	  "  --json               as one JSON object\n", wptrack_cmd_status },
	{ "release", "PID | --all", "stop tracking; the next dump is a full one",
	  "  --all                all processes that are tracked\n", wptrack_cmd_release },
	{ "show", "DIR [--json]", "print the session record of an images directory",
	  "  --json               as one JSON object\n", wptrack_cmd_show },
	{ "verify", "PID DIR [...]", "compare a stopped process with its images (--exact, --image-id N, --json)",
	  "  --exact              each difference is wrong, whatever has been written since\n"
	  "  --image-id N         the number of the process in the images, instead of its own\n"
	  "  --json               as one JSON object\n",
	  wptrack_cmd_verify },
	{ "migrate", "PID DIR [...]", "pre-dump until a dump stops it shortly, and dump (see wptrack(1))",
	  "  --downtime MS        how long the dump may stop it, in milliseconds (100)\n"
	  "  --max-rounds N       at most so many pre-dumps (10)\n"
	  "  --force              dump also when the rounds do not converge\n"
	  "  --no-checks          begin also when something is in the way of the dump\n"
	  "  --leave-running      the dump leaves it running\n"
	  "  --pre-dump-mode MODE live (if not given), splice or read\n"
	  "  --criu PATH          instead of the one in $PATH\n"
	  "  --page-server-cmd COMMAND, --port PORT, --address ADDRESS\n"
	  "                       send the pages to a server that COMMAND starts for each round\n"
	  "  --json               an object in a line for each round, and for the verdict\n"
	  "  -- CRIU-OPTION...    for each criu, as -L DIR or --tcp-established\n",
	  wptrack_cmd_migrate },
	{ "dirty-rate", "PID [...]", "watch how much a tracked tree writes (--interval SECONDS, --count N, --json)",
	  "  --interval SECONDS   between two lines (1)\n"
	  "  --count N            end after so many\n"
	  "  --json               an object in a line for each interval\n",
	  wptrack_cmd_dirty_rate },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *to)
{
	fprintf(to, "usage: wptrack COMMAND\n\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-10s %-13s %s\n", commands[i].name, commands[i].args, commands[i].help);
	fprintf(to, "  %-10s %-13s %s\n", "help", "", "print this");
	fprintf(to, "\n  -h, --help               print this, or what COMMAND takes\n");
	fprintf(to, "  -V, --version            print the version\n");
}

static void print_command(const struct command *command)
{
	printf("usage: wptrack %s %s\n\n%s\n\n%s", command->name, command->args, command->help, command->options);
}

static bool is_help(const char *arg)
{
	return !strcmp(arg, "--help") || !strcmp(arg, "-h");
}

static bool is_version(const char *arg)
{
	return !strcmp(arg, "--version") || !strcmp(arg, "-V");
}

static int run(const struct command *command, int argc, char **argv)
{
	/* Whatever else is there, and what is criu's is not ours. */
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (is_help(argv[i])) {
			print_command(command);
			return 0;
		}
		if (is_version(argv[i])) {
			printf("wptrack %s\n", WPTRACK_VERSION);
			return 0;
		}
	}
	return command->run(argc, argv);
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "wptrack: no command given (see wptrack help)\n");
		return WPTRACK_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "help") || is_help(argv[1])) {
		print_usage(stdout);
		return 0;
	}
	if (is_version(argv[1])) {
		printf("wptrack %s\n", WPTRACK_VERSION);
		return 0;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return run(&commands[i], argc - 1, argv + 1);
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
