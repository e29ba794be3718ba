// SPDX-License-Identifier: GPL-2.0-only
/* wptrack release: end the tracking of processes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cmd.h"
#include "tracked.h"

static const struct wptrack_option options[] = {
	{ "all", 'a', NULL, NULL, "all processes that are tracked" },
	{ 0 },
};

static int release(int argc, char **argv)
{
	uint32_t released = 0;
	int32_t pid = 0;
	int opt, err;

	if (argc != 2)
		return wptrack_cmd_misused(argv[0], "takes a PID or --all");
	opt = wptrack_cmd_option(argc, argv, options);
	if (opt != 'a') {
		pid = opt == WPTRACK_OPERAND ? wptrack_parse_number(optarg) : 0;
		if (!pid)
			return wptrack_cmd_misused(argv[0], "that is neither a PID nor --all");
	}

	err = wptrack_tracked_release(pid, &released);
	if (err == -ENOENT) {
		fprintf(stderr, "wptrack: process %" PRId32 " is not tracked\n", pid);
		return WPTRACK_EXIT_FAILED;
	}
	if (err == -EBUSY) {
		fprintf(stderr, "wptrack: in use by a dump that is under way, try again when it is done\n");
		return WPTRACK_EXIT_FAILED;
	}
	if (err)
		return wptrack_cmd_failed(wptrack_wire_run_dir(), err);
	printf("released %" PRIu32 "\n", released);
	return 0;
}

const struct wptrack_command wptrack_cmd_release = {
	.name = "release",
	.args = "PID | --all",
	.help = "stop tracking; the next dump is a full one",
	.options = options,
	.run = release,
};
