// SPDX-License-Identifier: GPL-2.0-only
/*
 * wptrack receive: what wptrack migrate --to starts on the other host. The connection is standard input and output.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arrival.h"
#include "criu_run.h"
#include "landing.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "peer.h"
#include "remove.h"
#include "wptrack/cmd.h"

#define cannot(...) wptrack_cmd_cannot("receive", WPTRACK_EXIT_FAILED, __VA_ARGS__)

struct receive {
	const char *dir;
	const char *hook; /* of --ask and --abort */
	bool ask, abort;
	bool made; /* a directory of ours is in dir */
	struct wptrack_peer peer;
	struct wptrack_landing landing;
	Wptrack__MigrateMessage *hello;
};

/* ---------------------------------------------------------------- answers */

static void send_obstacle(void *arg, const char *text)
{
	struct receive *r = arg;
	WPTRACK_PEER_MESSAGE(message, OBSTACLE);

	message.text = (char *)text;
	wptrack_peer_send(&r->peer, &message);
}

static int send_ready(struct receive *r, unsigned int obstacles)
{
	WPTRACK_PEER_MESSAGE(message, READY);

	message.has_number = true;
	message.number = obstacles;
	return wptrack_peer_send(&r->peer, &message);
}

static int send_failed(struct receive *r, const char *why)
{
	WPTRACK_PEER_MESSAGE(message, FAILED);

	message.text = (char *)why;
	return wptrack_peer_send(&r->peer, &message);
}

static int send_loaded(struct receive *r, unsigned int number, uint64_t us, const char *why)
{
	WPTRACK_PEER_MESSAGE(message, LOADED);

	message.has_number = message.has_us = true;
	message.number = number;
	message.us = us;
	message.text = (char *)why;
	return wptrack_peer_send(&r->peer, &message);
}

static int send_held(struct receive *r, uint64_t us)
{
	WPTRACK_PEER_MESSAGE(message, HELD);

	message.has_us = true;
	message.us = us;
	return wptrack_peer_send(&r->peer, &message);
}

static int send_running(struct receive *r, uint64_t us, uint64_t away_us)
{
	WPTRACK_PEER_MESSAGE(message, RUNNING);

	message.has_us = message.has_away_us = true;
	message.us = us;
	message.away_us = away_us;
	return wptrack_peer_send(&r->peer, &message);
}

/* ---------------------------------------------------------------- from hello to the dump */

/* The next message, which is of that kind. Return: 0, or -errno. */
static int expect(struct receive *r, Wptrack__MigrateKind kind, Wptrack__MigrateMessage **ret)
{
	const int err = wptrack_peer_receive(&r->peer, -1, ret);

	return err ? err : (*ret)->kind == kind ? 0 : -EPROTO;
}

static int check_cpu(struct receive *r, unsigned int *obstacles)
{
	Wptrack__MigrateMessage *round WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	char dir[PATH_MAX];
	int err = expect(r, WPTRACK__MIGRATE_KIND__ROUND, &round);

	if (err)
		return err;
	snprintf(dir, sizeof(dir), "%s/cpuinfo", r->dir);
	if (mkdir(dir, 0700))
		return -errno;
	err = wptrack_peer_receive_directory(&r->peer, dir);
	if (!err)
		*obstacles += wptrack_arrival_check_cpu(dir, r->hello->hello, send_obstacle, r);
	wptrack_remove_directory(dir, NULL);
	return err;
}

/* Return: 0: the rounds may come; 1: they will not; or -errno. */
static int be_introduced(struct receive *r)
{
	char aborted[PATH_MAX];
	unsigned int obstacles;
	int err = expect(r, WPTRACK__MIGRATE_KIND__HELLO, &r->hello);

	if (err)
		return err;
	if (!r->hello->hello)
		return -EPROTO;
	if (r->hello->hello->protocol != WPTRACK_PEER_PROTOCOL) {
		send_obstacle(r, "wptrack " WPTRACK_VERSION
				 " here speaks another protocol: install the same version on both");
		return send_ready(r, 1) ?: 1;
	}
	obstacles = wptrack_arrival_check(r->dir, r->hello->hello, send_obstacle, r);
	if (obstacles)
		return send_ready(r, obstacles) ?: 1;
	if (mkdir(r->dir, 0700) && errno != EEXIST)
		return -errno;
	r->made = true;
	snprintf(aborted, sizeof(aborted), "%s/" WPTRACK_HOLD_ABORTED, r->dir);
	unlink(aborted);
	err = check_cpu(r, &obstacles);
	if (err)
		return err;
	if (obstacles)
		return send_ready(r, obstacles) ?: 1;
	if (wptrack_landing_begin(&r->landing, r->dir, r->hello->hello)) {
		send_obstacle(r, r->landing.why);
		return send_ready(r, 1) ?: 1;
	}
	return send_ready(r, 0);
}

/* Return: 0, 1 when criu has ended, or -errno. */
static int take_round(struct receive *r, unsigned int number)
{
	char dir[PATH_MAX];
	uint64_t since_us;
	int err;

	snprintf(dir, sizeof(dir), "%s/%u", r->dir, number);
	if (mkdir(dir, 0700))
		return -errno;
	err = wptrack_peer_receive_directory(&r->peer, dir);
	if (err)
		return err;
	since_us = wptrack_now_us();
	err = wptrack_landing_load(&r->landing, number);
	if (err < 0)
		return 1;
	return send_loaded(r, number, wptrack_now_us() - since_us, err ? r->landing.why : NULL);
}

/* What is to become of the one that is held. Return: 0: it is to run, or -errno. */
static int await_word(struct receive *r)
{
	Wptrack__MigrateMessage *word WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	const int err = wptrack_peer_receive(&r->peer, -1, &word);

	if (err)
		return err;
	return word->kind == WPTRACK__MIGRATE_KIND__GO ? 0 : -EPROTO;
}

/* Return: 0: it runs; 1: it has failed, which has been said; or -errno. */
static int take_dump(struct receive *r, uint64_t stopped_us)
{
	const uint64_t begun_us = wptrack_now_us();
	uint64_t since_us;
	int err = wptrack_peer_receive_directory(&r->peer, r->landing.dump);

	if (err)
		return err;
	since_us = wptrack_now_us();
	err = wptrack_landing_restore(&r->landing, r->peer.in);
	if (!err)
		err = send_held(r, wptrack_now_us() - since_us);
	if (!err)
		err = await_word(r);
	if (!err)
		err = wptrack_landing_go(&r->landing);
	if (!err) {
		const uint64_t now_us = wptrack_now_us();

		/* It runs, whoever hears of it. */
		send_running(r, now_us - since_us, stopped_us + now_us - begun_us);
		return 0;
	}
	return err == -1 ? 1 : err;
}

static int take_all(struct receive *r)
{
	for (;;) {
		Wptrack__MigrateMessage *message WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
		int err = wptrack_peer_receive(&r->peer, -1, &message);

		if (err)
			return err;
		if (message->kind == WPTRACK__MIGRATE_KIND__DUMP)
			return take_dump(r, message->us);
		if (message->kind != WPTRACK__MIGRATE_KIND__ROUND)
			return -EPROTO;
		err = take_round(r, message->number);
		if (err)
			return err;
	}
}

static int receive(struct receive *r)
{
	int err = be_introduced(r);

	if (!err)
		err = take_all(r);
	if (!err) {
		wptrack_landing_end(&r->landing);
		return 0;
	}
	if (*r->landing.dir && !wptrack_landing_stop(&r->landing)) {
		wptrack_landing_end(&r->landing);
		send_running(r, 0, 0);
		return 0;
	}
	send_failed(r, err == 1 ? r->landing.why : strerror(-err));
	if (*r->landing.dir)
		wptrack_landing_clean(&r->landing);
	/* It is empty, or not ours to remove. */
	else if (r->made)
		rmdir(r->dir);
	return WPTRACK_EXIT_FAILED;
}

/* ---------------------------------------------------------------- asked later */

static int ask(struct receive *r)
{
	switch (wptrack_landing_ask(r->dir, r->ask, r->hook)) {
	case 1:
		return send_running(r, 0, 0) ? WPTRACK_EXIT_FAILED : 0;
	case 0:
		return send_failed(r, "it was not restored to its end") ? WPTRACK_EXIT_FAILED : 0;
	default:
		return cannot("nothing is known of a program in %s", r->dir);
	}
}

/* ---------------------------------------------------------------- the command line */

static const struct wptrack_option options[] = {
	{ "ask", 'a', NULL, NULL, "what has become of the program that was held in DIR? Let it run, if nobody has" },
	{ "abort", 'b', NULL, NULL, "end the program that is held in DIR, unless it runs" },
	{ "hook", 'k', "COMMAND", NULL, "with both: as of wptrack migrate" },
	{ 0 },
};

static int take_operand(struct receive *r, const char *operand)
{
	if (r->dir)
		return wptrack_cmd_misused("receive", "takes one directory");
	r->dir = operand;
	return 0;
}

static int parse_arguments(int argc, char **argv, struct receive *r)
{
	int kind, err = 0;

	while (!err && (kind = wptrack_cmd_option(argc, argv, options)) >= 0) {
		if (kind == 'a')
			r->ask = true;
		else if (kind == 'b')
			r->abort = true;
		else if (kind == 'k')
			r->hook = optarg;
		else if (kind == WPTRACK_OPERAND)
			err = take_operand(r, optarg);
		else
			err = wptrack_cmd_misused(argv[0], "takes a directory");
	}
	if (err)
		return err;
	if (!r->dir)
		return wptrack_cmd_misused(argv[0], "needs a directory");
	if (r->ask && r->abort)
		return wptrack_cmd_misused(argv[0], "--ask and --abort do not go together");
	if (isatty(STDIN_FILENO) && !r->abort)
		return wptrack_cmd_misused(argv[0], "is started by wptrack migrate --to, on the other host");
	return 0;
}

/* For a user who has looked around here. */
static int give_up(struct receive *r)
{
	switch (wptrack_landing_ask(r->dir, false, r->hook)) {
	case 1:
		return cannot("the program of %s runs, or has run", r->dir);
	case 0:
		puts("nothing of it is left");
		return 0;
	default:
		return cannot("nothing is known of a program in %s", r->dir);
	}
}

static int run(int argc, char **argv)
{
	static struct receive r = {
		.landing = { .criu_fd = -1, .names = -1, .answers = -1, .hold = { .listener = -1, .guard = -1 } },
	};
	const int err = parse_arguments(argc, argv, &r);
	int out, ret;

	if (err)
		return err;
	if (r.abort)
		return give_up(&r);
	wptrack_run_prepare();
	signal(SIGHUP, SIG_IGN);
	/* What is started, and what is said by mistake, goes to stderr. */
	out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
	wptrack_peer_init(&r.peer, fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10), out);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	ret = r.ask ? ask(&r) : receive(&r);
	wptrack_peer_free(&r.hello);
	return ret;
}

const struct wptrack_command wptrack_cmd_receive = {
	.name = "receive",
	.args = "DIR",
	.help = "the other side of wptrack migrate --to, which starts it",
	.options = options,
	.run = run,
};
