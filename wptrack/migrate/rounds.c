// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lock.h"
#include "criu_log.h"
#include "criu_stats.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/page.h"
#include "lib/proc.h"
#include "migrate.h"
#include "pending.h"
#include "wptrack/cmd.h"

/* What is given to criu apart from what the user adds, the NULL included. */
#define ARGS_MAX 32

#define SHOW_US 200000

static __attribute__((format(printf, 2, 3))) void say(struct wptrack_migrate *m, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(m->why, sizeof(m->why), format, args);
	va_end(args);
}

#define fail(m, ...) (say(m, __VA_ARGS__), WPTRACK_MIGRATE_FAILED)

static enum wptrack_migrate_end cancelled(struct wptrack_migrate *m)
{
	say(m, "cancelled by %s", strsignal(m->run.cancelled));
	return WPTRACK_MIGRATE_CANCELLED;
}

bool wptrack_migrate_is_gone(const struct wptrack_migrate *m)
{
	return !wptrack_proc_is_still(m->opt.pid, m->start_time);
}

static const char *kind_of(const struct wptrack_migrate *m)
{
	return m->dumping ? "dump" : "pre-dump";
}

/* What criu has written of pages so far. */
static uint64_t pages_bytes(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	uint64_t bytes = 0;

	while (dir && (entry = readdir(dir))) {
		struct stat st;

		if (!strncmp(entry->d_name, "pages-", strlen("pages-")) && !fstatat(dirfd(dir), entry->d_name, &st, 0))
			bytes += (uint64_t)st.st_size;
	}
	if (dir)
		closedir(dir);
	return bytes;
}

static void tick(void *arg)
{
	const struct wptrack_migrate *m = arg;
	const struct wptrack_migrate_progress progress = {
		.number = m->rounds + 1,
		.dump = m->dumping,
		.since_us = wptrack_now_us() - m->begun_us,
		.bytes = m->opt.server_cmd ? 0 : pages_bytes(m->dir),
		.expected_bytes = m->rounds ? m->forecast.dump_bytes : m->memory_bytes,
	};

	wptrack_migrate_show_progress(&progress);
}

/* Some bytes have gone to the destination. */
static void sent(void *arg)
{
	const struct wptrack_remote *remote = arg;
	const struct wptrack_migrate *m = remote->m;
	const struct wptrack_migrate_progress progress = {
		.number = m->rounds,
		.sending = true,
		.since_us = wptrack_now_us() - m->sending_us,
		.bytes = remote->peer.file_bytes - m->sent_before,
		.expected_bytes = m->to_be_sent,
	};
	static uint64_t shown_us;

	if (wptrack_now_us() - shown_us < SHOW_US)
		return;
	shown_us = wptrack_now_us();
	wptrack_migrate_show_progress(&progress);
}

/* ---------------------------------------------------------------- one criu */

static enum wptrack_migrate_end criu_failed(struct wptrack_migrate *m, int status, const char *log)
{
	char line[WPTRACK_CRIU_LINE_LEN], path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", m->dir, log);
	if (status < 0)
		return fail(m, "%s cannot be run: %s", m->opt.criu, strerror(-status));
	if (wptrack_migrate_is_gone(m))
		return fail(m, "process %" PRId32 " has ended in round %u", m->opt.pid, m->rounds + 1);
	if (WIFSIGNALED(status))
		return fail(m, "round %u: criu %s was killed by signal %d (log: %s)", m->rounds + 1, kind_of(m),
			    WTERMSIG(status), path);
	if (!wptrack_criu_first_error(path, line))
		snprintf(line, sizeof(line), "it says nothing of why");
	/* Its log may lie on that disk, too. */
	return fail(m, "round %u: criu %s failed: %s (log: %s)%s", m->rounds + 1, kind_of(m), line, path,
		    wptrack_migrate_disk_is_full(m) && !strstr(line, strerror(ENOSPC))
			    ? ": No space left on device: make room, and begin anew"
			    : "");
}

/* Return: the status as waitpid() has it, or -errno. */
static int run_criu(struct wptrack_migrate *m, const char *log)
{
	const struct wptrack_migrate_options *opt = &m->opt;
	char pid[16], prev[24];
	char **argv = calloc(ARGS_MAX + (size_t)opt->nr_extra, sizeof(*argv));
	size_t nr = 0;
	int status;

	if (!argv)
		return -ENOMEM;
#define ARG(text) (argv[nr++] = (char *)(text))
	snprintf(pid, sizeof(pid), "%" PRId32, opt->pid);
	snprintf(prev, sizeof(prev), "../%u", m->rounds);
	ARG(opt->criu), ARG(kind_of(m));
	ARG("--tree"), ARG(pid);
	ARG("--images-dir"), ARG(m->dir);
	ARG("--log-file"), ARG(log);
	if (m->rounds)
		ARG("--prev-images-dir"), ARG(prev);
	if (!m->dumping)
		ARG("--pre-dump-mode"), ARG(opt->mode);
	else
		ARG("--track-mem");
	if (m->dumping && opt->goal.leave_running)
		ARG("--leave-running");
	if (m->dumping && opt->remote.to)
		ARG("--action-script"), ARG(wptrack_hold_script());
	if (opt->server_cmd)
		ARG("--page-server"), ARG("--port"), ARG(opt->port);
	if (opt->server_cmd && opt->address)
		ARG("--address"), ARG(opt->address);
	for (int i = 0; i < opt->nr_extra; i++)
		ARG(opt->extra[i]);
#undef ARG
	m->begun_us = wptrack_now_us();
	status = wptrack_run_criu(&m->run, argv);
	free(argv);
	return status;
}

/* A page-server takes one round and ends. Return: 0, or what wptrack_run_shell() says. */
static int start_server(struct wptrack_migrate *m)
{
	char round[16], prev[24] = "";

	snprintf(round, sizeof(round), "%u", m->rounds + 1);
	if (m->rounds)
		snprintf(prev, sizeof(prev), "../%u", m->rounds);
	if (setenv("WPTRACK_ROUND", round, 1) || setenv("WPTRACK_PREV", prev, 1))
		return -errno;
	wptrack_migrate_show_break();
	m->begun_us = wptrack_now_us();
	return wptrack_run_shell(&m->run, m->opt.server_cmd);
}

/* One round with all that belongs to it. Return: WPTRACK_MIGRATE_GOES_ON, or why there is no other. */
static enum wptrack_migrate_end make_round(struct wptrack_migrate *m, struct wptrack_criu_stats *ret_stats,
					   uint64_t *ret_ended_us)
{
	const char *log = m->dumping ? "dump.log" : "pre-dump.log";
	int err;

	if (wptrack_run_cancelled(&m->run))
		return cancelled(m);
	if (wptrack_migrate_is_gone(m))
		return fail(m, "process %" PRId32 " has ended", m->opt.pid);
	if (snprintf(m->dir, sizeof(m->dir), "%s/%u", m->opt.dir, m->rounds + 1) >= (int)sizeof(m->dir))
		return fail(m, "%s: %s", m->opt.dir, strerror(ENAMETOOLONG));
	if (mkdir(m->dir, 0700))
		return fail(m, "%s: %s", m->dir, strerror(errno));
	if (m->opt.server_cmd) {
		err = start_server(m);
		if (m->run.cancelled)
			return cancelled(m);
		if (err)
			return fail(m, "the page-server of round %u was not started: the command ended with status %d",
				    m->rounds + 1, err < 0 || !WIFEXITED(err) ? -1 : WEXITSTATUS(err));
	}
	err = run_criu(m, log);
	*ret_ended_us = wptrack_now_us();
	m->criu_killed = err > 0 && WIFSIGNALED(err);
	/* A dump that was complete all the same is no use cancelled. */
	if (err && m->run.cancelled)
		return cancelled(m);
	if (err)
		return criu_failed(m, err, log);
	err = wptrack_criu_stats_read(m->dir, ret_stats);
	if (err)
		return fail(m, "%s/stats-dump: %s", m->dir, strerror(-err));
	m->rounds++;
	return WPTRACK_MIGRATE_GOES_ON;
}

/* ---------------------------------------------------------------- pre-dumps */

/* The record of the round just made replaces the one before. */
static enum wptrack_migrate_end read_record(struct wptrack_migrate *m)
{
	const int dirfd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct wptrack_record *rec;
	int err;

	if (dirfd < 0)
		return fail(m, "%s: %s", m->dir, strerror(errno));
	err = wptrack_record_read(dirfd, ".", &rec);
	close(dirfd);
	if (err == -ENOENT && m->rec)
		return fail(m, "round %u is no base for another, %s/pre-dump.log has the reason: begin anew", m->rounds,
			    m->dir);
	if (err == -ENOENT)
		return fail(m,
			    "round %u was not tracked, %s has no " WPTRACK_RECORD_NAME
			    ": does criu find the plugin (-- -L DIR)? see %s/pre-dump.log",
			    m->rounds, m->dir, m->dir);
	if (err)
		return fail(m, "%s/" WPTRACK_RECORD_NAME ": %s", m->dir, strerror(-err));
	wptrack_record_free(m->rec);
	m->rec = rec;
	return WPTRACK_MIGRATE_GOES_ON;
}

/* What is dumped whatever the rounds do. Return: @buf, which is empty when there is nothing. */
static const char *fixed_note(const struct wptrack_pending *pending, char *buf, size_t size)
{
	char shared[WPTRACK_SIZE_LEN], untracked[WPTRACK_SIZE_LEN];

	buf[0] = '\0';
	if (pending->shared_bytes && pending->untracked_bytes)
		snprintf(buf, size, "%s of shared memory and %s that is not tracked",
			 wptrack_print_size(pending->shared_bytes, shared),
			 wptrack_print_size(pending->untracked_bytes, untracked));
	else if (pending->shared_bytes)
		snprintf(buf, size, "%s of shared memory", wptrack_print_size(pending->shared_bytes, shared));
	else if (pending->untracked_bytes)
		snprintf(buf, size, "%s that is not tracked", wptrack_print_size(pending->untracked_bytes, untracked));
	return buf;
}

/* The program is to blame for what it writes alone: most may be what is copied in any case. */
static void explain_reason(const struct wptrack_migrate *m, enum wptrack_plan_verdict verdict, char *buf, size_t size)
{
	const struct wptrack_plan_forecast *forecast = &m->forecast;
	char dirty[WPTRACK_SIZE_LEN], copy[WPTRACK_SIZE_LEN];

	if (verdict == WPTRACK_PLAN_FIXED)
		snprintf(buf, size, "no round makes the stop shorter than %.0f ms",
			 (double)(forecast->base_us + forecast->fixed_us) / WPTRACK_US_PER_MS);
	else if (verdict == WPTRACK_PLAN_TOO_FAST)
		snprintf(buf, size, "the program writes %s/s, as fast as is copied (%s/s)",
			 wptrack_print_size(forecast->dirty_rate, dirty),
			 wptrack_print_size(forecast->copy_rate, copy));
	else if (verdict == WPTRACK_PLAN_ROUNDS)
		snprintf(buf, size, "no more rounds are allowed (--max-rounds)");
	else
		snprintf(buf, size, "the last rounds have not made it shorter");
	if (verdict != WPTRACK_PLAN_FIXED && verdict != WPTRACK_PLAN_TOO_FAST && forecast->dirty_rate)
		snprintf(buf + strlen(buf), size - strlen(buf), ", the program writes %s/s, the copy does %s/s",
			 wptrack_print_size(forecast->dirty_rate, dirty),
			 wptrack_print_size(forecast->copy_rate, copy));
}

/* Why a dump now would stop the process for too long. */
static void explain(struct wptrack_migrate *m, enum wptrack_plan_verdict verdict, const struct wptrack_pending *pending)
{
	const struct wptrack_plan_forecast *forecast = &m->forecast;
	const double rest = (double)(forecast->base_us - forecast->lock_us) / WPTRACK_US_PER_MS;
	char left[WPTRACK_SIZE_LEN], fixed[128], fixed_part[192] = "", lock_part[64] = "", reason[160];

	explain_reason(m, verdict, reason, sizeof(reason));
	if (*fixed_note(pending, fixed, sizeof(fixed)))
		snprintf(fixed_part, sizeof(fixed_part), "%.0f ms for %s, which each dump copies whole, ",
			 (double)forecast->fixed_us / WPTRACK_US_PER_MS, fixed);
	if (forecast->lock_us)
		snprintf(lock_part, sizeof(lock_part), "%.0f ms for locking the network, ",
			 (double)forecast->lock_us / WPTRACK_US_PER_MS);
	say(m,
	    "does not converge in %u rounds: predicted stop %.0f ms > downtime %.0f ms (%.0f ms for copying %s that will "
	    "have been written, %s%s%.0f ms for the rest); %s%s",
	    m->rounds, (double)forecast->stop_us / WPTRACK_US_PER_MS,
	    (double)m->opt.goal.downtime_us / WPTRACK_US_PER_MS,
	    (double)(forecast->stop_us - forecast->base_us - forecast->fixed_us) / WPTRACK_US_PER_MS,
	    wptrack_print_size(forecast->dump_bytes - pending->shared_bytes - pending->untracked_bytes, left),
	    fixed_part, lock_part, rest, reason,
	    pending->untrusted ? "; wptrack show tells why something is not tracked" : "");
}

/* What the round has written goes to the destination. */
static enum wptrack_migrate_end send_round(struct wptrack_migrate *m)
{
	char *missing WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	int err;

	m->sending_us = wptrack_now_us();
	m->sent_before = m->remote.peer.file_bytes;
	m->to_be_sent = pages_bytes(m->dir);
	m->remote.peer.moved = sent;
	err = wptrack_remote_round(&m->remote, m->dir, m->rounds, &missing);
	m->remote.peer.moved = NULL;
	if (m->run.cancelled)
		return cancelled(m);
	if (err)
		return fail(m, "round %u: at %s: %s", m->rounds, m->opt.remote.to,
			    missing ? missing : wptrack_remote_error(err));
	if (missing) {
		wptrack_migrate_show_break();
		fprintf(stderr, "wptrack migrate: at the destination, round %u is not in memory: %s\n", m->rounds,
			missing);
	}
	return WPTRACK_MIGRATE_GOES_ON;
}

/* A pre-dump, and the decision what comes after it. Return: WPTRACK_MIGRATE_GOES_ON, or why there is no other. */
static enum wptrack_migrate_end pre_dump(struct wptrack_migrate *m, enum wptrack_plan_verdict *ret_verdict)
{
	struct wptrack_plan_round round = { 0 };
	struct wptrack_migrate_round shown = { .dir = m->dir, .forecast = &m->forecast };
	struct wptrack_pending pending;
	enum wptrack_migrate_end end;
	uint64_t copied_us = 0;
	int err;

	end = make_round(m, &shown.stats, &round.ended_us);
	if (end == WPTRACK_MIGRATE_GOES_ON)
		end = read_record(m);
	if (end == WPTRACK_MIGRATE_GOES_ON && m->opt.remote.to) {
		copied_us = wptrack_now_us();
		end = send_round(m);
		round.ended_us = wptrack_now_us();
		copied_us = round.ended_us - copied_us;
	}
	if (end != WPTRACK_MIGRATE_GOES_ON)
		return end;
	err = wptrack_pending_read(m->opt.pid, m->rec, &pending);
	if (err == -ESRCH)
		return fail(m, "process %" PRId32 " has ended after round %u", m->opt.pid, m->rounds);
	if (err)
		return fail(m, "process %" PRId32 ": its memory cannot be scanned: %s", m->opt.pid, strerror(-err));

	round.begun_us = m->begun_us;
	round.read_us = wptrack_now_us();
	round.stopped_us = shown.stats.freezing_us + shown.stats.frozen_us;
	/* To the destination's memory, if there is one. */
	round.copied_us = shown.stats.memwrite_us + copied_us;
	round.written_bytes = shown.stats.pages_written * wptrack_page_bytes();
	round.populated_bytes = (shown.stats.pages_written + shown.stats.pages_skipped_parent) * wptrack_page_bytes();
	round.processes = pending.processes;
	round.pending_bytes = pending.written_bytes;
	round.fixed_bytes = pending.shared_bytes + pending.untracked_bytes;
	round.lock = m->lock;
	if (m->lock != WPTRACK_PLAN_LOCK_NONE)
		round.connections = wptrack_migrate_connections(m);
	*ret_verdict = wptrack_plan_decide(&m->plan, &round, &m->forecast);

	shown.number = m->rounds;
	shown.took_us = round.ended_us - round.begun_us;
	wptrack_migrate_show_round(&shown, m->opt.json);
	if (*ret_verdict != WPTRACK_PLAN_MORE && *ret_verdict != WPTRACK_PLAN_DUMP)
		explain(m, *ret_verdict, &pending);
	return WPTRACK_MIGRATE_GOES_ON;
}

/* ---------------------------------------------------------------- all of them */

/* The dump, and what the destination makes of it. Return: WPTRACK_MIGRATE_GOES_ON when it runs there. */
static enum wptrack_migrate_end move(struct wptrack_migrate *m, struct wptrack_criu_stats *ret_stats,
				     uint64_t *ret_ended_us)
{
	const int err = wptrack_remote_dump_begin(&m->remote);
	enum wptrack_migrate_end end;

	if (err)
		return fail(m, "%s: %s", m->opt.dir, strerror(-err));
	end = make_round(m, ret_stats, ret_ended_us);
	wptrack_remote_dump_end(&m->remote);
	/* criu has failed before, or been told to. */
	if (m->remote.end == WPTRACK_MIGRATE_GOES_ON)
		return end == WPTRACK_MIGRATE_GOES_ON ? fail(m, "criu has not asked before it ended the program") : end;
	if (m->remote.end == WPTRACK_MIGRATE_MOVED) {
		/* Its connections lead elsewhere. Packets of theirs that come here again are to find no lock. */
		if (m->lock == WPTRACK_PLAN_LOCK_AT_ONCE)
			wptrack_criu_unlock(m->dir);
		return WPTRACK_MIGRATE_GOES_ON;
	}
	say(m, "%s", m->remote.why);
	return m->remote.end;
}

static enum wptrack_migrate_end tell_of_move(struct wptrack_migrate *m)
{
	const struct wptrack_remote *remote = &m->remote;

	say(m, "moved to %s: away for %.0f ms (%.0f ms to send the dump, %.0f ms to restore it)", m->opt.remote.to,
	    (double)remote->away_us / WPTRACK_US_PER_MS, (double)remote->sent_us / WPTRACK_US_PER_MS,
	    (double)remote->held_us / WPTRACK_US_PER_MS);
	return WPTRACK_MIGRATE_MOVED;
}

static enum wptrack_migrate_end dump(struct wptrack_migrate *m)
{
	struct wptrack_migrate_round shown = { .dump = true, .dir = m->dir };
	enum wptrack_migrate_end end;
	uint64_t ended_us;

	m->dumping = true;
	end = m->opt.remote.to ? move(m, &shown.stats, &ended_us) : make_round(m, &shown.stats, &ended_us);
	if (end != WPTRACK_MIGRATE_GOES_ON)
		return end;
	shown.number = m->rounds;
	shown.took_us = ended_us - m->begun_us;
	/* A criu that was killed after it had let go has no figures. */
	if (shown.stats.frozen_us)
		wptrack_migrate_show_round(&shown, m->opt.json);
	m->stopped_us = shown.stats.freezing_us + shown.stats.frozen_us;
	if (m->opt.remote.to)
		return tell_of_move(m);
	say(m, "dumped into %s: stopped for %.0f ms, predicted were %.0f ms", m->dir,
	    (double)m->stopped_us / WPTRACK_US_PER_MS, (double)m->forecast.stop_us / WPTRACK_US_PER_MS);
	return WPTRACK_MIGRATE_DUMPED;
}

enum wptrack_migrate_end wptrack_migrate_rounds(struct wptrack_migrate *m)
{
	enum wptrack_plan_verdict verdict = WPTRACK_PLAN_MORE;

	m->run.tick = tick;
	m->run.arg = m;
	while (verdict == WPTRACK_PLAN_MORE) {
		const enum wptrack_migrate_end end = pre_dump(m, &verdict);

		if (end != WPTRACK_MIGRATE_GOES_ON)
			return end;
	}
	if (verdict == WPTRACK_PLAN_DUMP)
		return dump(m);
	if (!m->opt.force)
		return WPTRACK_MIGRATE_NOT_CONVERGING;
	wptrack_migrate_show_break();
	fprintf(stderr, "wptrack migrate: %s; dumping, as --force is given\n", m->why);
	return dump(m);
}
