/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack status and wptrack release: what talks to the keeper.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proc.h"
#include "session.h"
#include "sys_pagemap.h"
#include "wptrack_cmd.h"

/* A tracked process as it is shown. */
struct shown {
	struct wptrack_task task;
	uint64_t written_bytes; /* since the last round */
	bool written_known;
};

struct shown_list {
	struct shown *all;
	size_t nr;
};

static void free_list(struct shown_list *list)
{
	free(list->all);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static int append(struct shown_list *list, const struct wptrack_task *task)
{
	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if ((list->nr & (list->nr - 1)) == 0) {
		struct shown *all = reallocarray(list->all, list->nr ? list->nr * 2 : 1, sizeof(*all));

		if (!all)
			return -ENOMEM;
		list->all = all;
	}
	list->all[list->nr++] = (struct shown){ .task = *task };
	return 0;
}

/* No keeper is no error: nothing is tracked then. */
static int fetch(struct shown_list *list)
{
	int sk __attribute__((cleanup(close_fd))) = -1;
	int err;

	err = wptrack_wire_connect(&sk);
	if (err)
		return err == -ENOENT ? 0 : err;
	for (uint32_t index = 0; !err; index++) {
		struct wptrack_msg msg = { .op = WPTRACK_OP_LIST, .index = index };

		err = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
		if (!err)
			err = append(list, &msg.task);
	}
	return err == -ENOENT ? 0 : err;
}

/* Left unknown when it may not be read, or is another process's by now. */
static void measure(struct shown *shown)
{
	int fd __attribute__((cleanup(close_fd))) = wptrack_pagemap_open(shown->task.pid);
	struct wptrack_task now;

	if (fd < 0 || wptrack_proc_identify(shown->task.pid, &now) || now.start_time != shown->task.start_time)
		return;
	shown->written_known = !wptrack_pagemap_written(fd, &shown->written_bytes);
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
}

static void print_table(const struct shown_list *list)
{
	if (!list->nr) {
		puts("none tracked");
		return;
	}
	printf("%10s %-15s %-8s %5s %7s %10s %10s  %s\n", "PID", "COMM", "SESSION", "ROUND", "VMAS", "REGISTERED",
	       "WRITTEN", "REFUSED");
	for (size_t i = 0; i < list->nr; i++)
		print_row(&list->all[i]);
}

static void print_json(const struct shown_list *list)
{
	fputs("{\"tasks\": [", stdout);
	for (size_t i = 0; i < list->nr; i++) {
		const struct shown *shown = &list->all[i];
		const struct wptrack_task *task = &shown->task;
		char id[2 * WPTRACK_ID_LEN + 1];

		wptrack_id_format(task->session, id);
		printf("%s\n  {\"pid\": %" PRId32 ", \"comm\": ", i ? "," : "", task->pid);
		wptrack_json_string(stdout, task->comm);
		printf(", \"session\": \"%s\", \"generation\": %" PRIu64 ", \"vmas_registered\": %" PRIu32
		       ", \"registered_bytes\": %" PRIu64 ", \"vmas_refused\": ",
		       id, task->generation, task->vmas_registered, task->registered_bytes);
		wptrack_json_refused(stdout, task->vmas_refused);
		printf(", \"pages_written\": %" PRIu64 ", \"pages_clean\": %" PRIu64 ", \"written_bytes\": ",
		       task->pages_written, task->pages_clean);
		if (shown->written_known)
			printf("%" PRIu64 "}", shown->written_bytes);
		else
			printf("null}");
	}
	puts(list->nr ? "\n]}" : "]}");
}

int wptrack_cmd_status(int argc, char **argv)
{
	struct shown_list list __attribute__((cleanup(free_list))) = { 0 };
	const bool json = argc == 2 && !strcmp(argv[1], "--json");
	int err;

	if (argc > 1 && !json)
		return wptrack_cmd_misused(argv[0], "takes no argument but --json");
	err = fetch(&list);
	if (err)
		return wptrack_cmd_failed(wptrack_wire_run_dir(), err);
	for (size_t i = 0; i < list.nr; i++)
		measure(&list.all[i]);
	if (json)
		print_json(&list);
	else
		print_table(&list);
	return 0;
}

/* Return: the pid, or 0 when @text is none. */
static int32_t parse_pid(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	return errno || end == text || *end || pid <= 0 || pid > INT32_MAX ? 0 : (int32_t)pid;
}

static int release(int32_t pid, uint32_t *ret_released)
{
	int sk __attribute__((cleanup(close_fd))) = -1;
	struct wptrack_msg msg = { .op = WPTRACK_OP_RELEASE, .task.pid = pid };
	int err;

	err = wptrack_wire_connect(&sk);
	if (!err)
		err = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
	/* All of none is none. */
	if (err == -ENOENT && !pid)
		err = 0;
	if (!err)
		*ret_released = msg.index;
	return err;
}

int wptrack_cmd_release(int argc, char **argv)
{
	uint32_t released = 0;
	int32_t pid = 0;
	int err;

	if (argc != 2)
		return wptrack_cmd_misused(argv[0], "takes a PID or --all");
	if (strcmp(argv[1], "--all")) {
		pid = parse_pid(argv[1]);
		if (!pid)
			return wptrack_cmd_misused(argv[0], "that is neither a PID nor --all");
	}

	err = release(pid, &released);
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
