/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack: show and release what is tracked, read session records, verify images, watch what is written, migrate.
 */
#include <errno.h>
#include <string.h>

#include "cmd.h"
#include "usage.h"

/* The usage and the completion are made of this as well. */
static const struct wptrack_command *const commands[] = {
	&wptrack_cmd_status, &wptrack_cmd_release, &wptrack_cmd_show,
	&wptrack_cmd_verify, &wptrack_cmd_migrate, &wptrack_cmd_receive, &wptrack_cmd_dirty_rate,
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int print_version(void)
{
	printf("wptrack %s\n", WPTRACK_VERSION);
	return 0;
}

static int run(const struct wptrack_command *command, int argc, char **argv)
{
	int kind;

	/* Whatever else is there is not looked at then. */
	while ((kind = wptrack_cmd_option(argc, argv, command->options)) >= 0) {
		if (kind == 'h') {
			wptrack_usage_of(stdout, command);
			return 0;
		}
		if (kind == 'V')
			return print_version();
	}
	/* From the beginning, as the C library has it. */
	optind = 0;
	return command->run(argc, argv);
}

static int dispatch(int argc, char **argv)
{
	static const struct wptrack_option options[] = {
		{ "completion", 'c', NULL, NULL, "" },
		{ 0 },
	};

	switch (wptrack_cmd_option(argc, argv, options)) {
	case 'h':
		wptrack_usage_all(stdout, commands, NR_COMMANDS);
		return 0;
	case 'V':
		return print_version();
	case 'c':
		wptrack_usage_completion(stdout, commands, NR_COMMANDS);
		return 0;
	case -1:
		fprintf(stderr, "wptrack: no command given (see wptrack help)\n");
		return WPTRACK_EXIT_USAGE;
	case WPTRACK_OPERAND:
		if (!strcmp(optarg, "help")) {
			wptrack_usage_all(stdout, commands, NR_COMMANDS);
			return 0;
		}
		optind = 0;
		for (size_t i = 0; i < NR_COMMANDS; i++)
			if (!strcmp(optarg, commands[i]->name))
				return run(commands[i], argc - 1, argv + 1);
	}
	fprintf(stderr, "wptrack: no such command: %s (see wptrack help)\n", argv[1]);
	return WPTRACK_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int ret = argc == 1 ? wptrack_cmd_script() : -1;

	if (ret < 0)
		ret = dispatch(argc, argv);

	/* A full disk must not pass for a short list. */
	if ((fflush(stdout) || ferror(stdout)) && !ret)
		ret = wptrack_cmd_failed("standard output", -errno);
	return ret;
}
