// SPDX-License-Identifier: GPL-2.0-only
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/page.h"
#include "show.h"
#include "wptrack/cmd.h"
#include "wptrack/json.h"

/* Carriage return, and erase to the end of the line. */
#define REWRITE "\r\033[K"

static bool line_begun;

static uint64_t stopped_us(const struct wptrack_criu_stats *stats)
{
	return stats->freezing_us + stats->frozen_us;
}

static uint64_t written_pages(const struct wptrack_criu_stats *stats)
{
	return stats->pages_written + stats->shpages_written;
}

void wptrack_migrate_show_progress(const struct wptrack_migrate_progress *progress)
{
	const double seconds = (double)progress->since_us / WPTRACK_US_PER_S;
	const bool is_loading = progress->sending && progress->bytes >= progress->expected_bytes;
	const char *what = is_loading ? ", loading there" : progress->sending ? ", sending" : "";
	char bytes[WPTRACK_SIZE_LEN], expected[WPTRACK_SIZE_LEN], rate[WPTRACK_SIZE_LEN];

	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, REWRITE "%s %u%s: %.1f s", progress->dump ? "dump" : "round", progress->number, what, seconds);
	if (progress->bytes && seconds > 0)
		fprintf(stderr, ", %s", wptrack_print_size(progress->bytes, bytes));
	if (progress->bytes && progress->expected_bytes > progress->bytes)
		fprintf(stderr, " of about %s", wptrack_print_size(progress->expected_bytes, expected));
	if (progress->bytes && seconds > 0 && !is_loading)
		fprintf(stderr, ", %s/s", wptrack_print_size((uint64_t)((double)progress->bytes / seconds), rate));
	line_begun = true;
}

void wptrack_migrate_show_break(void)
{
	if (line_begun)
		fputs(REWRITE, stderr);
	line_begun = false;
}

static void show_row(const struct wptrack_migrate_round *round)
{
	const struct wptrack_plan_forecast *forecast = round->forecast;
	char written[WPTRACK_SIZE_LEN], copy[WPTRACK_SIZE_LEN], dirty[WPTRACK_SIZE_LEN], left[WPTRACK_SIZE_LEN];

	wptrack_migrate_show_break();
	if (round->number == 1)
		fprintf(stderr, "%5s %10s %12s %9s %10s %10s %10s %10s %13s\n", "ROUND", "TIME", "STOPPED", "PAGES",
			"WRITTEN", "COPY/S", "DIRTY/S", "LEFT", "PREDICTED");
	fprintf(stderr, "%5u %8.2f s %9.1f ms %9" PRIu64 " %10s", round->number,
		(double)round->took_us / WPTRACK_US_PER_S, (double)stopped_us(&round->stats) / WPTRACK_US_PER_MS,
		written_pages(&round->stats),
		wptrack_print_size(written_pages(&round->stats) * wptrack_page_bytes(), written));
	if (forecast)
		fprintf(stderr, " %10s %10s %10s %10.1f ms\n", wptrack_print_size(forecast->copy_rate, copy),
			wptrack_print_size(forecast->dirty_rate, dirty), wptrack_print_size(forecast->dump_bytes, left),
			(double)forecast->stop_us / WPTRACK_US_PER_MS);
	else
		fputs(" dump\n", stderr);
}

static void print_json(const struct wptrack_migrate_round *round)
{
	const struct wptrack_criu_stats *stats = &round->stats;
	const struct wptrack_plan_forecast *forecast = round->forecast;
	struct json_object *root = wptrack_json_new();

	wptrack_json_add_number(root, "round", round->number);
	wptrack_json_add_string(root, "kind", round->dump ? "dump" : "pre-dump");
	wptrack_json_add_string(root, "directory", round->dir);
	wptrack_json_add_number(root, "took_us", round->took_us);
	wptrack_json_add_number(root, "stopped_us", stopped_us(stats));
	wptrack_json_add_number(root, "memwrite_us", stats->memwrite_us);
	wptrack_json_add_number(root, "pages_written", stats->pages_written);
	wptrack_json_add_number(root, "pages_skipped_parent", stats->pages_skipped_parent);
	wptrack_json_add_number(root, "shpages_written", stats->shpages_written);
	if (forecast) {
		wptrack_json_add_number(root, "copy_bytes_per_second", forecast->copy_rate);
		wptrack_json_add_number(root, "dirty_bytes_per_second", forecast->dirty_rate);
		wptrack_json_add_number(root, "left_bytes", forecast->dump_bytes);
		wptrack_json_add_number(root, "predicted_stop_us", forecast->stop_us);
	}
	wptrack_json_print(root);
	fflush(stdout);
}

void wptrack_migrate_show_round(const struct wptrack_migrate_round *round, bool json)
{
	show_row(round);
	if (json)
		print_json(round);
}

static const char *end_name(enum wptrack_migrate_end end)
{
	switch (end) {
	case WPTRACK_MIGRATE_GOES_ON:
		break;
	case WPTRACK_MIGRATE_DUMPED:
		return "dumped";
	case WPTRACK_MIGRATE_MOVED:
		return "moved";
	case WPTRACK_MIGRATE_IN_DOUBT:
		return "in-doubt";
	case WPTRACK_MIGRATE_NOT_CONVERGING:
		return "not-converging";
	case WPTRACK_MIGRATE_CANCELLED:
		return "cancelled";
	case WPTRACK_MIGRATE_FAILED:
		return "failed";
	}
	return "?";
}

static void print_restore(const struct wptrack_migrate_verdict *verdict)
{
	if (verdict->elsewhere)
		puts("to restore it there, bring what is in the last directory to its pages, and run, with its name there:");
	else
		puts("to restore it:");
	fputs("   ", stdout);
	for (const char *const *word = verdict->restore; *word; word++) {
		putchar(' ');
		wptrack_print_word(stdout, *word);
	}
	putchar('\n');
}

static void print_json_verdict(const struct wptrack_migrate_verdict *verdict)
{
	struct json_object *root = wptrack_json_new(), *words;

	wptrack_json_add_string(root, "verdict", end_name(verdict->end));
	wptrack_json_add_string(root, "why", verdict->why);
	wptrack_json_add_string(root, "directory", verdict->dir);
	wptrack_json_add_number(root, "rounds", verdict->rounds);
	wptrack_json_add_number(root, "predicted_stop_us", verdict->predicted_us);
	wptrack_json_add_number(root, "stopped_us", verdict->stopped_us);
	if (verdict->destination) {
		wptrack_json_add_string(root, "destination", verdict->destination);
		wptrack_json_add_number(root, "away_us", verdict->away_us);
		wptrack_json_add_number(root, "away_at_destination_us", verdict->away_there_us);
		wptrack_json_add_number(root, "sent_us", verdict->sent_us);
		wptrack_json_add_number(root, "restored_us", verdict->restored_us);
	}
	if (verdict->restore) {
		words = wptrack_json_add_list(root, "restore");
		for (const char *const *word = verdict->restore; *word; word++)
			wptrack_json_append_string(words, *word);
	} else {
		wptrack_json_add_null(root, "restore");
	}
	wptrack_json_print(root);
	fflush(stdout);
}

void wptrack_migrate_show_verdict(const struct wptrack_migrate_verdict *verdict, bool json)
{
	wptrack_migrate_show_break();
	if (json)
		print_json_verdict(verdict);
	if (verdict->end != WPTRACK_MIGRATE_DUMPED && verdict->end != WPTRACK_MIGRATE_MOVED) {
		fprintf(stderr, "wptrack migrate: %s\n", verdict->why);
	} else if (!json) {
		if (verdict->restore)
			print_restore(verdict);
		printf("%s\n", verdict->why);
	}
}
