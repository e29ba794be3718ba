/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack show: the session record of an images directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "json.h"
#include "lib/cleanup.h"
#include "lib/session.h"

static void print_row(const struct wptrack_record_task *task)
{
	const struct wptrack_task *info = &task->info;
	char comm[WPTRACK_PLAIN_LEN], registered[WPTRACK_SIZE_LEN], refused[WPTRACK_REFUSED_LEN];

	printf("%10" PRId32 " %-15s %7" PRIu32 " %10s %10" PRIu64 " %10" PRIu64 "  %-22s  %s\n", info->pid,
	       wptrack_print_plain(info->comm, comm), info->vmas_registered,
	       wptrack_print_size(info->registered_bytes, registered), info->pages_written, info->pages_clean,
	       wptrack_print_refused(info->vmas_refused, refused), wptrack_basis_name(task->basis));
}

static void print_text(const struct wptrack_record *rec)
{
	char id[2 * WPTRACK_ID_LEN + 1];

	wptrack_id_format(rec->session, id);
	printf("session:  %s\n", id);
	printf("round:    %" PRIu64 " (%s)\n", rec->generation, rec->final ? "final dump" : "pre-dump");
	if (rec->parent_generation)
		printf("parent:   %" PRIu64 "\n", rec->parent_generation);
	else
		printf("parent:   none of this session\n");
	printf("boot:     %s\n\n", rec->boot_id);
	printf("%10s %-15s %7s %10s %10s %10s  %-22s  %s\n", "PID", "COMM", "VMAS", "REGISTERED", "PG-WRITTEN",
	       "PG-CLEAN", "REFUSED", "DUMPED");
	for (size_t i = 0; i < rec->nr_tasks; i++)
		print_row(&rec->tasks[i]);
}

static void print_json(const struct wptrack_record *rec)
{
	struct json_object *root = wptrack_json_new(), *tasks;
	char id[2 * WPTRACK_ID_LEN + 1];

	wptrack_id_format(rec->session, id);
	wptrack_json_add_string(root, "session", id);
	wptrack_json_add_number(root, "generation", rec->generation);
	wptrack_json_add_number(root, "parent_generation", rec->parent_generation);
	wptrack_json_add_string(root, "boot_id", rec->boot_id);
	wptrack_json_add_bool(root, "final", rec->final);
	tasks = wptrack_json_add_list(root, "tasks");
	for (size_t i = 0; i < rec->nr_tasks; i++) {
		const struct wptrack_task *info = &rec->tasks[i].info;
		struct json_object *task = wptrack_json_append(tasks);

		wptrack_json_add_number(task, "pid", (uint64_t)info->pid);
		wptrack_json_add_string(task, "comm", info->comm);
		wptrack_json_add_string(task, "basis", wptrack_basis_name(rec->tasks[i].basis));
		wptrack_json_add_number(task, "start_time", info->start_time);
		wptrack_json_add_number(task, "mm_id", info->mm_id);
		wptrack_json_add_number(task, "vmas_registered", info->vmas_registered);
		wptrack_json_add_number(task, "registered_bytes", info->registered_bytes);
		wptrack_json_add_refused(task, "vmas_refused", info->vmas_refused);
		wptrack_json_add_number(task, "pages_written", info->pages_written);
		wptrack_json_add_number(task, "pages_clean", info->pages_clean);
	}
	wptrack_json_print(root);
}

static int read_from(const char *path, struct wptrack_record **ret)
{
	const int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err;

	if (dirfd < 0)
		return wptrack_cmd_failed(path, -errno);
	err = wptrack_record_read(dirfd, ".", ret);
	close(dirfd);
	if (err == -ENOENT)
		fprintf(stderr, "wptrack: %s has no " WPTRACK_RECORD_NAME ": not dumped with wptrack\n", path);
	else if (err == -EBADMSG)
		fprintf(stderr, "wptrack: %s/" WPTRACK_RECORD_NAME " is damaged or of another version\n", path);
	else if (err)
		wptrack_cmd_failed(path, err);
	return err ? WPTRACK_EXIT_FAILED : 0;
}

static const struct wptrack_option options[] = {
	{ "json", 'j', NULL, NULL, "as one JSON object" },
	{ 0 },
};

static int show(int argc, char **argv)
{
	struct wptrack_record *rec WPTRACK_CLEANUP(wptrack_record_end) = NULL;
	const char *path = NULL;
	bool json = false;
	int opt, err;

	while ((opt = wptrack_cmd_option(argc, argv, options)) >= 0) {
		if (opt == 'j')
			json = true;
		else if (opt != WPTRACK_OPERAND || path)
			return wptrack_cmd_misused(argv[0], "takes one directory and --json");
		else
			path = optarg;
	}
	if (!path && optind < argc)
		path = argv[optind];
	if (!path)
		return wptrack_cmd_misused(argv[0], "needs an images directory");

	err = read_from(path, &rec);
	if (err)
		return err;
	if (json)
		print_json(rec);
	else
		print_text(rec);
	return 0;
}

const struct wptrack_command wptrack_cmd_show = {
	.name = "show",
	.args = "DIR [--json]",
	.help = "print the session record of an images directory",
	.options = options,
	.run = show,
};
