/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack show: the session record of an images directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
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
	char id[2 * WPTRACK_ID_LEN + 1];

	wptrack_id_format(rec->session, id);
	printf("{\"session\": \"%s\", \"generation\": %" PRIu64 ", \"parent_generation\": %" PRIu64
	       ", \"boot_id\": \"%s\", \"final\": %s, \"tasks\": [",
	       id, rec->generation, rec->parent_generation, rec->boot_id, rec->final ? "true" : "false");
	for (size_t i = 0; i < rec->nr_tasks; i++) {
		const struct wptrack_task *info = &rec->tasks[i].info;

		printf("%s\n  {\"pid\": %" PRId32 ", \"comm\": ", i ? "," : "", info->pid);
		wptrack_json_string(stdout, info->comm);
		fputs(", \"basis\": ", stdout);
		wptrack_json_string(stdout, wptrack_basis_name(rec->tasks[i].basis));
		printf(", \"start_time\": %" PRIu64 ", \"mm_id\": %" PRIu64 ", \"vmas_registered\": %" PRIu32
		       ", \"registered_bytes\": %" PRIu64 ", \"vmas_refused\": ",
		       info->start_time, info->mm_id, info->vmas_registered, info->registered_bytes);
		wptrack_json_refused(stdout, info->vmas_refused);
		printf(", \"pages_written\": %" PRIu64 ", \"pages_clean\": %" PRIu64 "}", info->pages_written,
		       info->pages_clean);
	}
	puts(rec->nr_tasks ? "\n]}" : "]}");
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

int wptrack_cmd_show(int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
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
