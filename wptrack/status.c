/* SPDX-License-Identifier: GPL-2.0-only */
/* wptrack status: the tracked processes. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "json.h"
#include "lib/cleanup.h"
#include "lib/proc.h"
#include "lib/session.h"
#include "lib/sys_pagemap.h"
#include "tracked.h"

/* A tracked process as it is shown. */
struct shown {
	struct wptrack_task task;
	uint64_t written_bytes; /* since the last round */
	bool written_known;
};

/* Its number is somebody else's here, or nobody's. */
static bool is_elsewhere(const struct wptrack_task *task)
{
	return task->pid_ns != wptrack_wire_pid_ns();
}

/* Left unknown when it may not be read, or is another process's by now. */
static struct shown measure(const struct wptrack_task *task)
{
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = is_elsewhere(task) ? -1 : wptrack_pagemap_open(task->pid);
	struct shown shown = { .task = *task };

	if (fd >= 0 && wptrack_proc_is_still(task->pid, task->start_time))
		shown.written_known = !wptrack_pagemap_written(fd, &shown.written_bytes);
	return shown;
}

static void print_row(const struct shown *shown)
{
	const struct wptrack_task *task = &shown->task;
	char id[2 * WPTRACK_ID_LEN + 1] = "-", generation[24] = "-";
	char registered[WPTRACK_SIZE_LEN], written[WPTRACK_SIZE_LEN] = "-";
	char comm[WPTRACK_PLAIN_LEN], refused[WPTRACK_REFUSED_LEN];

	/* None yet: its first round is under way, or was given up. */
	if (task->generation) {
		wptrack_id_format(task->session, id);
		snprintf(generation, sizeof(generation), "%" PRIu64, task->generation);
	}
	if (shown->written_known)
		wptrack_print_size(shown->written_bytes, written);
	printf("%10" PRId32 " %-15s %-8.8s %5s %7" PRIu32 " %10s %10s  %s\n", task->pid,
	       wptrack_print_plain(task->comm, comm), id, generation, task->vmas_registered,
	       wptrack_print_size(task->registered_bytes, registered), written,
	       wptrack_print_refused(task->vmas_refused, refused));
	if (is_elsewhere(task))
		printf("%10s in pid namespace %" PRIu64 ", where only its own wptrack can release it alone\n", "",
		       task->pid_ns);
}

static void print_table(const struct wptrack_tracked *list)
{
	if (!list->nr) {
		puts("none tracked");
		return;
	}
	printf("%10s %-15s %-8s %5s %7s %10s %10s  %s\n", "PID", "COMM", "SESSION", "ROUND", "VMAS", "REGISTERED",
	       "WRITTEN", "REFUSED");
	for (size_t i = 0; i < list->nr; i++) {
		const struct shown shown = measure(&list->tasks[i]);

		print_row(&shown);
	}
}

static void print_json(const struct wptrack_tracked *list)
{
	struct json_object *root = wptrack_json_new();
	struct json_object *tasks = wptrack_json_add_list(root, "tasks");

	for (size_t i = 0; i < list->nr; i++) {
		const struct wptrack_task *info = &list->tasks[i];
		const struct shown shown = measure(info);
		struct json_object *task = wptrack_json_append(tasks);
		char id[2 * WPTRACK_ID_LEN + 1];

		wptrack_id_format(info->session, id);
		wptrack_json_add_number(task, "pid", (uint64_t)info->pid);
		wptrack_json_add_number(task, "pid_ns", info->pid_ns);
		wptrack_json_add_string(task, "comm", info->comm);
		wptrack_json_add_string(task, "session", id);
		wptrack_json_add_number(task, "generation", info->generation);
		wptrack_json_add_number(task, "vmas_registered", info->vmas_registered);
		wptrack_json_add_number(task, "registered_bytes", info->registered_bytes);
		wptrack_json_add_refused(task, "vmas_refused", info->vmas_refused);
		wptrack_json_add_number(task, "pages_written", info->pages_written);
		wptrack_json_add_number(task, "pages_clean", info->pages_clean);
		if (shown.written_known)
			wptrack_json_add_number(task, "written_bytes", shown.written_bytes);
		else
			wptrack_json_add_null(task, "written_bytes");
	}
	wptrack_json_print(root);
}

static const struct wptrack_option options[] = {
	{ "json", 'j', NULL, NULL, "as one JSON object" },
	{ 0 },
};

static int status(int argc, char **argv)
{
	struct wptrack_tracked list WPTRACK_CLEANUP(wptrack_tracked_free) = { 0 };
	bool json = false;
	int opt, err;

	while ((opt = wptrack_cmd_option(argc, argv, options)) >= 0) {
		if (opt != 'j')
			return wptrack_cmd_misused(argv[0], "takes no argument but --json");
		json = true;
	}
	err = wptrack_tracked_fetch(&list);
	if (err)
		return wptrack_cmd_failed(wptrack_wire_run_dir(), err);
	if (json)
		print_json(&list);
	else
		print_table(&list);
	return 0;
}

const struct wptrack_command wptrack_cmd_status = {
	.name = "status",
	.args = "[--json]",
	.help = "list tracked processes and what they have written since the last round",
	.options = options,
	.run = status,
};
