// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dump of wptrack migrate --to: while criu holds the program stopped, a thread sends the images, and decides with
 * the destination which of the two is to run.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doubt.h"
#include "hook.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/proc.h"
#include "migrate.h"
#include "remote.h"
#include "wptrack/proc_tree.h"

#define ASK_ENDED_MS 20
#define ANSWER_MS    12000 /* until it is asked what has become of the program */
#define ASK_MS	     10000
#define ASK_PAUSE_MS 500

static __attribute__((format(printf, 3, 4))) enum wptrack_migrate_end end_with(struct wptrack_remote *remote,
									       enum wptrack_migrate_end end,
									       const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(remote->why, sizeof(remote->why), format, args);
	va_end(args);
	return end;
}

static bool is_cancelled(const struct wptrack_remote *remote)
{
	return remote->m->run.cancelled;
}

/* The main thread takes the signals. */
static bool stop_sending(void *arg)
{
	const struct wptrack_remote *remote = arg;

	return is_cancelled(remote) ||
	       wptrack_now_us() - remote->stop_us > (uint64_t)remote->m->opt.remote.timeout_ms * 1000;
}

/* ---------------------------------------------------------------- back */

/* Nothing is known to run at the destination: the program goes on here. */
static enum wptrack_migrate_end go_on_here(struct wptrack_remote *remote, const char *why)
{
	Wptrack__MigrateDoubt *doubt WPTRACK_CLEANUP(wptrack_doubt_free) = NULL;
	enum wptrack_migrate_end end = WPTRACK_MIGRATE_FAILED;
	int err;

	if (is_cancelled(remote))
		end = end_with(remote, WPTRACK_MIGRATE_CANCELLED, "cancelled by %s",
			       strsignal(remote->m->run.cancelled));
	else
		end_with(remote, end, "%s", why);
	wptrack_hook_run(remote->m->opt.remote.hook, WPTRACK_HOOK_RESUMED);
	err = wptrack_hold_tell(&remote->hold, WPTRACK_HOLD_RESUME);
	/* A guard that is gone has let it run, but for the signal that it may have sent. */
	if (err && !wptrack_doubt_read(remote->guard, &doubt))
		wptrack_doubt_resume(doubt);
	return end;
}

/* The destination sees that nobody is there any more, and forgets about it. */
static enum wptrack_migrate_end give_up(struct wptrack_remote *remote, int err)
{
	const bool is_late = err == -ECANCELED && !is_cancelled(remote);

	wptrack_peer_hang_up(&remote->peer);
	return go_on_here(remote, is_late ? "the destination has not restored it in time (--timeout)"
					  : wptrack_remote_error(err));
}

/* ---------------------------------------------------------------- over there */

static enum wptrack_migrate_end moved(struct wptrack_remote *remote, uint64_t there_us)
{
	int err;

	remote->away_us = wptrack_now_us() - remote->stop_us;
	remote->there_us = there_us;
	err = wptrack_hold_tell(&remote->hold, WPTRACK_HOLD_DISCARD);
	if (err && err != -ECONNRESET && err != -EPIPE)
		fprintf(stderr, "wptrack migrate: criu does not hear (%s)\n", strerror(-err));
	wptrack_hook_run(remote->m->opt.remote.hook, WPTRACK_HOOK_GONE);
	return WPTRACK_MIGRATE_MOVED;
}

/* Return: 0 and @ret, or -errno: nothing is known. */
static int ask_once(struct wptrack_remote *remote, Wptrack__MigrateMessage **ret)
{
	char *options WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	struct wptrack_peer peer;
	size_t size;
	FILE *f = open_memstream(&options, &size);
	int err;

	if (!f)
		return -ENOMEM;
	fputs("--ask", f);
	if (remote->m->opt.remote.hook) {
		fputs(" --hook ", f);
		wptrack_print_word(f, remote->m->opt.remote.hook);
	}
	if (fclose(f))
		return -ENOMEM;
	err = wptrack_remote_connect(remote->m, options, &peer);
	if (err)
		return err;
	err = wptrack_peer_receive(&peer, ASK_MS, ret);
	wptrack_peer_close(&peer);
	return err;
}

/* The word was sent that it is to run. Nobody but the destination knows whether it does. */
static enum wptrack_migrate_end ask(struct wptrack_remote *remote)
{
	wptrack_peer_hang_up(&remote->peer);
	fprintf(stderr,
		"wptrack migrate: the destination was told to let it run, and has not answered: asking again\n");
	do {
		Wptrack__MigrateMessage *answer WPTRACK_CLEANUP(wptrack_peer_free) = NULL;

		if (!ask_once(remote, &answer)) {
			if (answer->kind == WPTRACK__MIGRATE_KIND__RUNNING)
				return moved(remote, 0);
			if (answer->kind == WPTRACK__MIGRATE_KIND__FAILED)
				return go_on_here(remote, answer->text ?: "?");
		}
		poll(NULL, 0, ASK_PAUSE_MS);
	} while (!is_cancelled(remote));
	return end_with(remote, WPTRACK_MIGRATE_IN_DOUBT,
			"nobody knows whether process %" PRId32
			" runs at %s: it stays stopped here. If it runs there: wptrack "
			"migrate --discard %" PRId32
			" here. If it does not: wptrack receive --abort %s there, and wptrack migrate "
			"--resume %" PRId32 " here",
			remote->m->opt.pid, remote->m->opt.remote.to, remote->m->opt.pid,
			strchr(remote->m->opt.remote.to, ':') + 1, remote->m->opt.pid);
}

static enum wptrack_migrate_end let_run_there(struct wptrack_remote *remote)
{
	Wptrack__MigrateMessage *answer WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	WPTRACK_PEER_MESSAGE(go, GO);
	int err = wptrack_hold_tell(&remote->hold, WPTRACK_HOLD_SURE);

	if (err) {
		give_up(remote, -ECANCELED);
		if (err == -EIO)
			return end_with(remote, WPTRACK_MIGRATE_FAILED,
					"it cannot be recorded that the program is stopped: is there room beside %s?",
					remote->guard);
		return end_with(remote, WPTRACK_MIGRATE_FAILED, "criu was killed while it held the program");
	}
	/* From here on the program runs there, or it is known that it does not. */
	remote->peer.stop = NULL;
	err = wptrack_peer_send(&remote->peer, &go);
	if (!err)
		err = wptrack_peer_receive(&remote->peer, ANSWER_MS, &answer);
	if (!err && answer->kind == WPTRACK__MIGRATE_KIND__RUNNING)
		return moved(remote, answer->away_us);
	if (!err && answer->kind == WPTRACK__MIGRATE_KIND__FAILED)
		return go_on_here(remote, answer->text ?: "?");
	return ask(remote);
}

/* ---------------------------------------------------------------- the program is stopped */

static void note_tasks(struct wptrack_remote *remote)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };

	wptrack_tree_read(remote->m->opt.pid, &tree);
	remote->tasks = calloc(tree.nr ? tree.nr : 1, sizeof(*remote->tasks));
	for (size_t i = 0; remote->tasks && i < tree.nr; i++)
		if (!wptrack_proc_identify(tree.pids[i], &remote->tasks[remote->nr_tasks]))
			remote->nr_tasks++;
}

static enum wptrack_migrate_end send_dump(struct wptrack_remote *remote)
{
	Wptrack__MigrateMessage *answer WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	WPTRACK_PEER_MESSAGE(dump, DUMP);
	const uint64_t begun_us = wptrack_now_us();
	int err;

	if (wptrack_hook_run(remote->m->opt.remote.hook, WPTRACK_HOOK_STOPPED)) {
		give_up(remote, -ECANCELED);
		return end_with(remote, WPTRACK_MIGRATE_FAILED, "the hook has failed when the program was stopped");
	}
	dump.has_us = true;
	dump.us = wptrack_now_us() - remote->stop_us;
	err = wptrack_peer_send(&remote->peer, &dump);
	if (!err)
		err = wptrack_peer_send_directory(&remote->peer, remote->m->dir, ".log");
	remote->sent_us = wptrack_now_us() - begun_us;
	note_tasks(remote);
	if (!err)
		err = wptrack_peer_receive(&remote->peer, -1, &answer);
	if (err)
		return give_up(remote, err);
	if (answer->kind == WPTRACK__MIGRATE_KIND__FAILED)
		return go_on_here(remote, answer->text ?: "?");
	if (answer->kind != WPTRACK__MIGRATE_KIND__HELD)
		return give_up(remote, -EPROTO);
	remote->held_us = answer->us;
	return is_cancelled(remote) ? give_up(remote, -ECANCELED) : let_run_there(remote);
}

static void *talk(void *arg)
{
	struct wptrack_remote *remote = arg;

	while (remote->end == WPTRACK_MIGRATE_GOES_ON) {
		struct pollfd ready = { .fd = remote->hold.listener, .events = POLLIN };
		struct wptrack_hold_event event;

		if (poll(&ready, 1, ASK_ENDED_MS) <= 0) {
			if (remote->criu_ended)
				break;
			continue;
		}
		if (wptrack_hold_event(&remote->hold, &event))
			continue;
		if (!strcmp(event.name, "pre-dump"))
			remote->stop_us = wptrack_now_us();
		if (strcmp(event.name, "post-dump"))
			continue;
		remote->m->run.spare = true;
		remote->end = send_dump(remote);
	}
	/* criu is not waited for if it holds the program up to a word from the user. */
	if (remote->end == WPTRACK_MIGRATE_IN_DOUBT)
		remote->m->run.leave = true;
	return NULL;
}

int wptrack_remote_dump_begin(struct wptrack_remote *remote)
{
	int err = wptrack_hold_open(&remote->hold, remote->m->opt.dir, remote->guard, remote->m->opt.remote.hook);

	if (err)
		return err;
	remote->peer.stop = stop_sending;
	remote->peer.arg = remote;
	remote->stop_us = wptrack_now_us();
	err = -pthread_create(&remote->thread, NULL, talk, remote);
	if (err)
		wptrack_hold_close(&remote->hold);
	return err;
}

/* Whoever let it run elsewhere answers for its end here, whatever has become of criu. */
static void see_to_its_end(const struct wptrack_remote *remote)
{
	for (size_t i = 0; i < remote->nr_tasks; i++)
		if (wptrack_proc_is_still(remote->tasks[i].pid, remote->tasks[i].start_time))
			kill(remote->tasks[i].pid, SIGKILL);
}

void wptrack_remote_dump_end(struct wptrack_remote *remote)
{
	struct timespec until;

	remote->criu_ended = true;
	/* It may ask on for long, and does not take signals itself. */
	do {
		wptrack_run_cancelled(&remote->m->run);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
	} while (pthread_timedjoin_np(remote->thread, NULL, &until));
	if (remote->end == WPTRACK_MIGRATE_MOVED)
		see_to_its_end(remote);
	/* Whoever has been killed in between. */
	if (remote->end != WPTRACK_MIGRATE_IN_DOUBT) {
		wptrack_doubt_forget(remote->guard);
		wptrack_hold_forget(remote->guard);
	}
	/* Without us, the guard is on its own. */
	wptrack_hold_close(&remote->hold);
}
