/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack dirty-rate: how much tracked processes write.
 *
 * What has been written since the last round is read again and again, and never
 * reset: that is the next round's business. A page counts when it is written for
 * the first time since the round.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "json.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/page.h"
#include "lib/proc.h"
#include "lib/sys_pagemap.h"
#include "proc_tree.h"
#include "tracked.h"

#define MIB	     (1024.0 * 1024.0)
#define NS_PER_S     1000000000.0
#define INTERVAL_MAX 86400.0

struct options {
	int32_t pid;
	double interval_s;
	int32_t count; /* 0: no end */
	bool json;
};

/* One process at one time. */
struct sample {
	struct wptrack_task task;
	uint64_t written_bytes;
	double at_s;
	double rate; /* bytes for each second since the sample before */
	bool rate_known;
};

struct samples {
	struct sample *all;
	size_t nr;
	size_t nr_untracked; /* processes of the tree */
};

static void free_samples(struct samples *samples)
{
	free(samples->all);
}

/* Return: -ESRCH when the process has ended, or is another one by now. */
static int read_sample(const struct wptrack_task *task, struct sample *ret)
{
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = wptrack_pagemap_open(task->pid);
	struct wptrack_task now;
	int err;

	if (fd < 0)
		return fd == -ENOENT ? -ESRCH : fd;
	err = wptrack_proc_identify(task->pid, &now);
	if (err)
		return err;
	if (now.start_time != task->start_time)
		return -ESRCH;
	*ret = (struct sample){ .task = *task, .at_s = (double)wptrack_now_us() / WPTRACK_US_PER_S };
	return wptrack_pagemap_written(fd, &ret->written_bytes);
}

/* The tracked processes of the tree. Return: -ESRCH when the root has ended, -ENOENT when it is not tracked. */
static int read_samples(pid_t root, struct samples *ret)
{
	struct wptrack_tracked tracked WPTRACK_CLEANUP(wptrack_tracked_free) = { 0 };
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	int err;

	err = wptrack_tree_read(root, &tree);
	if (!err)
		err = wptrack_tracked_fetch(&tracked);
	if (err)
		return err;
	ret->all = calloc(tree.nr, sizeof(*ret->all));
	if (!ret->all)
		return -ENOMEM;
	for (size_t i = 0; i < tree.nr; i++) {
		const struct wptrack_task *task = wptrack_tracked_find(&tracked, tree.pids[i]);

		/* Without a round, nothing has been reset, and all would read as written. */
		err = task && task->generation ? read_sample(task, &ret->all[ret->nr]) : -ENOENT;
		if (!err)
			ret->nr++;
		else if (!i || (err != -ENOENT && err != -ESRCH))
			return err;
		else if (err == -ENOENT)
			ret->nr_untracked++;
	}
	return 0;
}

static void find_rates(const struct samples *before, struct samples *now)
{
	for (size_t i = 0; i < now->nr; i++) {
		struct sample *sample = &now->all[i];

		for (size_t j = 0; j < before->nr; j++) {
			const struct sample *last = &before->all[j];

			if (last->task.pid != sample->task.pid || last->task.mm_id != sample->task.mm_id)
				continue;
			/* A round in between has reset what was written: nothing can be told of this interval. */
			sample->rate_known = last->task.generation == sample->task.generation;
			if (sample->written_bytes > last->written_bytes)
				sample->rate = (double)(sample->written_bytes - last->written_bytes) /
					       (sample->at_s - last->at_s);
		}
	}
}

static void print_header(void)
{
	printf("%10s %-15s %5s %10s %10s %9s\n", "PID", "COMM", "ROUND", "WRITTEN", "PAGES/S", "MIB/S");
}

static double pages_of(double bytes)
{
	return bytes / (double)wptrack_page_bytes();
}

static void print_rate(double rate, bool known)
{
	if (known)
		printf(" %10.0f %9.1f\n", pages_of(rate), rate / MIB);
	else
		printf(" %10s %9s\n", "-", "-");
}

static void print_text(const struct samples *samples)
{
	char comm[WPTRACK_PLAIN_LEN], written[WPTRACK_SIZE_LEN];
	uint64_t bytes = 0;
	bool known = true;
	double rate = 0;

	for (size_t i = 0; i < samples->nr; i++) {
		const struct sample *sample = &samples->all[i];

		printf("%10" PRId32 " %-15s %5" PRIu64 " %10s", sample->task.pid,
		       wptrack_print_plain(sample->task.comm, comm), sample->task.generation,
		       wptrack_print_size(sample->written_bytes, written));
		print_rate(sample->rate, sample->rate_known);
		bytes += sample->written_bytes;
		rate += sample->rate;
		known = known && sample->rate_known;
	}
	if (samples->nr > 1) {
		printf("%10s %-15s %5s %10s", "all", "", "", wptrack_print_size(bytes, written));
		print_rate(rate, known);
	}
}

/* One line for each interval. */
static void print_json(const struct samples *samples)
{
	struct json_object *root = wptrack_json_new(), *processes;

	wptrack_json_add_number(root, "untracked", samples->nr_untracked);
	processes = wptrack_json_add_list(root, "processes");
	for (size_t i = 0; i < samples->nr; i++) {
		const struct sample *sample = &samples->all[i];
		struct json_object *process = wptrack_json_append(processes);

		wptrack_json_add_number(process, "pid", (uint64_t)sample->task.pid);
		wptrack_json_add_string(process, "comm", sample->task.comm);
		wptrack_json_add_number(process, "generation", sample->task.generation);
		wptrack_json_add_number(process, "written_bytes", sample->written_bytes);
		if (sample->rate_known) {
			wptrack_json_add_decimal(process, "pages_per_second", pages_of(sample->rate), 1);
			wptrack_json_add_decimal(process, "bytes_per_second", sample->rate, 0);
		} else {
			wptrack_json_add_null(process, "pages_per_second");
			wptrack_json_add_null(process, "bytes_per_second");
		}
	}
	wptrack_json_print(root);
}

static int failed(pid_t pid, int err, bool begun)
{
	if (err == -ESRCH)
		fprintf(stderr, begun ? "wptrack: process %d has ended\n" : "wptrack: there is no process %d\n", pid);
	else if (err == -ENOENT && begun)
		fprintf(stderr, "wptrack: process %d is no longer tracked\n", pid);
	else if (err == -ENOENT)
		fprintf(stderr,
			"wptrack: process %d is not tracked: make a pre-dump of it first (criu pre-dump -t %d -D DIR)\n",
			pid, pid);
	else
		wptrack_cmd_failed("dirty-rate", err);
	return WPTRACK_EXIT_FAILED;
}

static void sleep_for(double seconds)
{
	const struct timespec span = { .tv_sec = (time_t)seconds,
				       .tv_nsec = (long)((seconds - (double)(time_t)seconds) * NS_PER_S) };

	nanosleep(&span, NULL);
}

static int watch(const struct options *opt)
{
	struct samples before WPTRACK_CLEANUP(free_samples) = { 0 };
	size_t nr_untracked = 0;
	int err;

	err = read_samples(opt->pid, &before);
	if (err)
		return failed(opt->pid, err, false);
	if (!opt->json)
		print_header();
	for (int32_t i = 0; !opt->count || i < opt->count; i++) {
		struct samples now = { 0 };

		/* Who reads along is not to wait for a full buffer. */
		if (fflush(stdout))
			break;
		sleep_for(opt->interval_s);
		err = read_samples(opt->pid, &now);
		if (err) {
			free_samples(&now);
			return failed(opt->pid, err, true);
		}
		find_rates(&before, &now);
		if (now.nr_untracked > nr_untracked && !opt->json)
			fprintf(stderr, "wptrack: %zu processes of the tree are not tracked, and left out\n",
				now.nr_untracked);
		nr_untracked = now.nr_untracked;
		if (opt->json)
			print_json(&now);
		else
			print_text(&now);
		free_samples(&before);
		before = now;
	}
	return 0;
}

/* Return: 0 when @text is no number of seconds that can be waited for. */
static double parse_seconds(const char *text)
{
	char *end;
	const double seconds = strtod(text, &end);

	return end != text && !*end && seconds >= 0.001 && seconds <= INTERVAL_MAX ? seconds : 0;
}

/* Return: 0, or after complaining. */
static int take_argument(struct options *opt, const char *name, int kind)
{
	switch (kind) {
	case 'j':
		opt->json = true;
		return 0;
	case 'i':
		opt->interval_s = parse_seconds(optarg);
		return opt->interval_s > 0 ? 0
					   : wptrack_cmd_misused(name, "--interval takes seconds, from 0.001 to 86400");
	case 'n':
		opt->count = wptrack_parse_number(optarg);
		return opt->count ? 0 : wptrack_cmd_misused(name, "--count takes a number");
	case WPTRACK_OPERAND:
		if (opt->pid)
			break;
		opt->pid = wptrack_parse_number(optarg);
		return opt->pid ? 0 : wptrack_cmd_misused(name, "that is no PID");
	}
	return wptrack_cmd_misused(name, "takes a PID, --interval SECONDS, --count N and --json");
}

static const struct wptrack_option options[] = {
	{ "interval", 'i', "SECONDS", NULL, "between two lines (1)" },
	{ "count", 'n', "N", NULL, "end after so many" },
	{ "json", 'j', NULL, NULL, "an object in a line for each interval" },
	{ 0 },
};

static int dirty_rate(int argc, char **argv)
{
	struct options opt = { .interval_s = 1 };
	int kind, err = 0;

	while (!err && (kind = wptrack_cmd_option(argc, argv, options)) >= 0)
		err = take_argument(&opt, argv[0], kind);
	if (err)
		return err;
	if (!opt.pid)
		return wptrack_cmd_misused(argv[0], "needs a PID");
	return watch(&opt);
}

const struct wptrack_command wptrack_cmd_dirty_rate = {
	.name = "dirty-rate",
	.args = "PID [...]",
	.help = "watch how much a tracked tree writes",
	.options = options,
	.run = dirty_rate,
};
