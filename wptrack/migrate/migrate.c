/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack migrate: pre-dumps until a dump stops the process for a short time, and the dump.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/proc.h"
#include "migrate.h"
#include "move_address.h"
#include "remove.h"
#include "wptrack/cmd.h"

#define DOWNTIME_MS 100
#define MAX_ROUNDS  10

/* In bytes a second, as long as no round has shown it: into the page cache, and through a gigabit. */
#define MEMORY_RATE  (1536ull << 20)
#define NETWORK_RATE (110ull << 20)

/* How long a program may be stopped for a destination that does not answer */
#define TIMEOUT_S     30
#define TIMEOUT_MAX_S 1000000

/* As shells have it: 128 and the signal's number. */
#define EXIT_SIGNAL 128

/* ---------------------------------------------------------------- before the first round */

static bool is_runnable(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* As posix_spawnp() looks for it. */
static bool is_found(const char *program)
{
	const char *path = getenv("PATH");
	char candidate[PATH_MAX];

	if (strchr(program, '/'))
		return is_runnable(program);
	while (path && *path) {
		const size_t len = strcspn(path, ":");

		if (snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)len, len ? path : ".", program) <
			    (int)sizeof(candidate) &&
		    is_runnable(candidate))
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool empty = dir != NULL;

	while (empty && (entry = readdir(dir)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	if (dir)
		closedir(dir);
	return empty;
}

static int check_directory(const char *path)
{
	char parent[PATH_MAX];
	struct stat st;

	if (!stat(path, &st))
		return is_empty(path) ? 0 : wptrack_migrate_cannot("%s is no empty directory: name a new one", path);
	if (errno != ENOENT)
		return wptrack_migrate_cannot("%s: %s", path, strerror(errno));
	if (snprintf(parent, sizeof(parent), "%s", path) >= (int)sizeof(parent))
		return wptrack_migrate_cannot("%s: %s", path, strerror(ENAMETOOLONG));
	if (stat(dirname(parent), &st))
		return wptrack_migrate_cannot("%s: the directory that it is to lie in does not exist", path);
	return 0;
}

/* What can be known to fail is refused before anything has been done. */
static int begin(struct wptrack_migrate *m)
{
	struct wptrack_task root;
	int err = wptrack_migrate_is_program(m);

	if (err)
		return err;
	err = wptrack_proc_identify(m->opt.pid, &root);
	if (err == -ESRCH || err == -ENOENT)
		return wptrack_migrate_cannot("there is no process %" PRId32, m->opt.pid);
	if (err)
		return wptrack_migrate_cannot("process %" PRId32 ": %s", m->opt.pid, strerror(-err));
	if (wptrack_remote_is_held(m->opt.pid))
		return wptrack_migrate_cannot("a migration of process %" PRId32
					      " is under way, or in doubt: wptrack migrate --resume or --discard",
					      m->opt.pid);
	if (!is_found(m->opt.criu))
		return wptrack_migrate_cannot(
			"there is no program %s: install the patched criu, or name it with --criu", m->opt.criu);
	m->start_time = root.start_time;
	m->run.root = m->opt.pid;
	m->plan.goal = m->opt.goal;
	/* Its memory is freed here when it runs there already. */
	if (m->opt.remote.to)
		m->plan.goal.leave_running = true;
	m->plan.goal.assumed_rate = m->opt.server_cmd || m->opt.remote.to ? NETWORK_RATE : MEMORY_RATE;
	m->was_stopped = wptrack_migrate_is_stopped(m);
	err = check_directory(m->opt.dir);
	if (!err && !m->opt.unchecked)
		err = wptrack_migrate_preflight(m);
	if (err)
		return err;
	m->lock = wptrack_migrate_lock(m);
	if (mkdir(m->opt.dir, 0700) && errno != EEXIST)
		return wptrack_migrate_cannot("%s: %s", m->opt.dir, strerror(errno));
	return m->opt.remote.to ? wptrack_remote_begin(&m->remote, m) : 0;
}

/* What goes to another host lies here on its way only, unless the user names a place. */
static int make_directory(struct wptrack_migrate *m)
{
	static char dir[PATH_MAX];
	const char *tmp = getenv("TMPDIR");

	if (m->opt.dir)
		return 0;
	if (snprintf(dir, sizeof(dir), "%s/wptrack-migrate.XXXXXX", tmp && *tmp ? tmp : "/var/tmp") >=
		    (int)sizeof(dir) ||
	    !mkdtemp(dir))
		return wptrack_migrate_cannot("no directory can be made in %s: %s", tmp && *tmp ? tmp : "/var/tmp",
					      strerror(errno));
	m->opt.dir = dir;
	m->own_dir = true;
	return 0;
}

static void remove_directory(struct wptrack_migrate *m)
{
	if (m->own_dir)
		wptrack_remove_directory(m->opt.dir, NULL);
	m->own_dir = false;
}

/* ---------------------------------------------------------------- and after the last */

static void tell_what_stays(const struct wptrack_migrate *m, enum wptrack_migrate_end end)
{
	if (end == WPTRACK_MIGRATE_NOT_CONVERGING)
		fprintf(stderr, "wptrack migrate: not dumped: give a greater --downtime, or --force\n");
	if (!wptrack_migrate_is_gone(m))
		fprintf(stderr, "wptrack migrate: process %" PRId32 " %s, and is not tracked\n", m->opt.pid,
			m->was_stopped ? "is stopped as it was" : "runs on");
	if (m->own_dir)
		return;
	if (m->rounds)
		fprintf(stderr, "wptrack migrate: the images of %u round%s stay in %s\n", m->rounds,
			m->rounds == 1 ? "" : "s", m->opt.dir);
	else
		fprintf(stderr, "wptrack migrate: %s holds no round of use\n", m->opt.dir);
}

static int end_status(const struct wptrack_migrate *m, enum wptrack_migrate_end end)
{
	switch (end) {
	case WPTRACK_MIGRATE_DUMPED:
	case WPTRACK_MIGRATE_MOVED:
		return 0;
	case WPTRACK_MIGRATE_IN_DOUBT:
		return WPTRACK_EXIT_IN_DOUBT;
	case WPTRACK_MIGRATE_NOT_CONVERGING:
		return WPTRACK_EXIT_NOT_CONVERGING;
	case WPTRACK_MIGRATE_CANCELLED:
		return EXIT_SIGNAL + m->run.cancelled;
	case WPTRACK_MIGRATE_GOES_ON:
	case WPTRACK_MIGRATE_FAILED:
		break;
	}
	return WPTRACK_EXIT_FAILED;
}

static bool is_over(enum wptrack_migrate_end end)
{
	return end == WPTRACK_MIGRATE_DUMPED || end == WPTRACK_MIGRATE_MOVED;
}

static void fill_in(const struct wptrack_migrate *m, struct wptrack_migrate_verdict *verdict)
{
	verdict->rounds = m->rounds;
	verdict->predicted_us = m->forecast.stop_us;
	verdict->stopped_us = m->stopped_us;
	verdict->destination = m->opt.remote.to;
	if (verdict->end == WPTRACK_MIGRATE_MOVED) {
		verdict->away_us = m->remote.away_us;
		verdict->away_there_us = m->remote.there_us;
		verdict->sent_us = m->remote.sent_us;
		verdict->restored_us = m->remote.held_us;
	}
}

/* With all that has been begun. */
static int make_rounds(struct wptrack_migrate *m)
{
	struct wptrack_migrate_verdict verdict = { .why = m->why, .dir = m->opt.dir };
	struct wptrack_migrate_command restore;

	verdict.end = wptrack_migrate_rounds(m);
	fill_in(m, &verdict);
	if (verdict.end == WPTRACK_MIGRATE_IN_DOUBT) {
		wptrack_migrate_show_verdict(&verdict, m->opt.json);
		fprintf(stderr, "wptrack migrate: what criu uses until then is in %s\n", m->opt.dir);
		m->own_dir = false;
		return end_status(m, verdict.end);
	}
	if (!is_over(verdict.end))
		wptrack_migrate_let_run(m);
	/* Each migration begins with a full round, so that nobody has a use for it. */
	wptrack_migrate_release(m);
	if (verdict.end == WPTRACK_MIGRATE_DUMPED) {
		wptrack_migrate_restore(m, &restore);
		verdict.restore = restore.argv;
		verdict.elsewhere = m->opt.server_cmd;
	}
	wptrack_migrate_show_verdict(&verdict, m->opt.json);
	if (!is_over(verdict.end))
		tell_what_stays(m, verdict.end);
	wptrack_record_free(m->rec);
	return end_status(m, verdict.end);
}

static int migrate(struct wptrack_migrate *m)
{
	int ret;

	wptrack_run_prepare();
	ret = make_directory(m);
	if (!ret)
		ret = begin(m);
	if (!ret)
		ret = make_rounds(m);
	if (m->remote.m)
		wptrack_remote_end(&m->remote);
	remove_directory(m);
	return ret;
}

/* What a user has found out of a migration in doubt. */
static int decide(struct wptrack_migrate *m)
{
	struct wptrack_task root;
	int err;

	if (!wptrack_proc_identify(m->opt.pid, &root))
		m->start_time = root.start_time;
	err = wptrack_remote_decide(m, m->opt.resume);
	if (err)
		return err;
	wptrack_migrate_let_run(m);
	wptrack_migrate_release(m);
	return 0;
}

/* ---------------------------------------------------------------- the command line */

static bool is_mode(const char *mode)
{
	return !strcmp(mode, "live") || !strcmp(mode, "splice") || !strcmp(mode, "read");
}

/* Return: 0, or after complaining. */
static int take_number(struct wptrack_migrate_options *opt, const char *name, int kind)
{
	const int32_t number = wptrack_parse_number(optarg);

	switch (kind) {
	case 'd':
		opt->goal.downtime_us = (uint64_t)number * 1000;
		return number ? 0 : wptrack_cmd_misused(name, "--downtime takes milliseconds");
	case 'n':
		opt->goal.max_rounds = (unsigned int)number;
		return number ? 0 : wptrack_cmd_misused(name, "--max-rounds takes a number");
	case 't':
		opt->remote.timeout_ms = number > TIMEOUT_MAX_S ? 0 : number * 1000;
		return opt->remote.timeout_ms ? 0 : wptrack_cmd_misused(name, "--timeout takes seconds");
	default:
		opt->port = optarg;
		return number && number < 65536 ? 0 : wptrack_cmd_misused(name, "--port takes a port's number");
	}
}

static int take_operand(struct wptrack_migrate_options *opt, const char *name, const char *operand)
{
	if (operand[0] == '-' || opt->dir)
		return wptrack_cmd_misused(name, "takes options, a PID and a directory; criu's options come after --");
	if (opt->pid) {
		opt->dir = operand;
		return 0;
	}
	opt->pid = wptrack_parse_number(operand);
	return opt->pid ? 0 : wptrack_cmd_misused(name, "that is no PID");
}

/* HOST:DIR, as rsync and scp have it. */
static bool is_destination(const char *text)
{
	const char *colon = strchr(text, ':');

	return colon && colon != text && colon[1] && *text != '-';
}

/* All that are given count; they live as long as this program. */
static int take_address(struct wptrack_migrate_options *opt, const char *name)
{
	char *hook = wptrack_move_address(optarg, opt->address_hook);

	if (!hook)
		return wptrack_cmd_misused(name, "--move-address takes an address that is no link-local, loopback or "
						 "multicast one, as 10.0.0.1/24@eth0 or 2001:db8::1/64@eth0");
	opt->address_hook = hook;
	return 0;
}

/* Addresses come last: when packets are let through, nothing else is to fail. Return: 0 or -ENOMEM. */
static int join_hooks(struct wptrack_migrate_options *opt)
{
	char *hook;

	if (opt->address_hook && opt->remote.hook) {
		if (asprintf(&hook, "(\n%s\n) || exit 1\n%s", opt->remote.hook, opt->address_hook) < 0)
			return -ENOMEM;
		opt->remote.hook = hook;
	} else if (opt->address_hook) {
		opt->remote.hook = opt->address_hook;
	}
	return 0;
}

/* Return: 0, or after complaining. */
static int take_remote(struct wptrack_migrate_options *opt, char **argv, int kind)
{
	switch (kind) {
	case 'o':
		opt->remote.to = optarg;
		return is_destination(optarg) ? 0 : wptrack_cmd_misused(argv[0], "--to takes HOST:DIR");
	case 'e':
		opt->remote.rsh = optarg;
		return 0;
	case 'w':
		opt->remote.wptrack = optarg;
		return 0;
	case 'r':
		opt->remote.criu = optarg;
		return 0;
	case 'k':
		opt->remote.hook = optarg;
		return 0;
	case 'A':
		return take_address(opt, argv[0]);
	case 'R':
		opt->resume = true;
		return 0;
	case 'D':
		opt->discard = true;
		return 0;
	}
	return take_operand(opt, argv[0], kind == WPTRACK_OPERAND ? optarg : "-");
}

/* Return: 0, or after complaining. */
static int take_argument(struct wptrack_migrate_options *opt, char **argv, int kind)
{
	switch (kind) {
	case 'd':
	case 'n':
	case 'p':
	case 't':
		return take_number(opt, argv[0], kind);
	case 'm':
		opt->mode = optarg;
		return is_mode(optarg) ? 0 : wptrack_cmd_misused(argv[0], "--pre-dump-mode is live, splice or read");
	case 'c':
		opt->criu = optarg;
		return 0;
	case 'a':
		opt->address = optarg;
		return 0;
	case 's':
		opt->server_cmd = optarg;
		return 0;
	case 'j':
		opt->json = true;
		return 0;
	case 'f':
		opt->force = true;
		return 0;
	case 'u':
		opt->unchecked = true;
		return 0;
	case 'l':
		opt->goal.leave_running = true;
		return 0;
	case ':':
		fprintf(stderr, "wptrack %s: %s needs a value (see wptrack help)\n", argv[0], argv[optind - 1]);
		return WPTRACK_EXIT_USAGE;
	default:
		return take_remote(opt, argv, kind);
	}
}

static const struct wptrack_option options[] = {
	{ "downtime", 'd', "MS", NULL, "how long the dump may stop it, in milliseconds (100)" },
	{ "max-rounds", 'n', "N", NULL, "at most so many pre-dumps (10)" },
	{ "force", 'f', NULL, NULL, "dump also when the rounds do not converge" },
	{ "no-checks", 'u', NULL, NULL, "begin also when something is in the way of the dump" },
	{ "leave-running", 'l', NULL, NULL, "the dump leaves it running" },
	{ "pre-dump-mode", 'm', "MODE", "live splice read", "live (if not given), splice or read" },
	{ "criu", 'c', "PATH", NULL, "instead of the one in $PATH" },
	{ "page-server-cmd", 's', "COMMAND", NULL, "send the pages to a server that COMMAND starts for each round" },
	{ "port", 'p', "PORT", NULL, "the server's" },
	{ "address", 'a', "ADDRESS", NULL, "the server's" },
	{ "to", 'o', "HOST:DIR", NULL, "to another host, where it runs in the end; images go there into DIR" },
	{ "rsh", 'e', "COMMAND", NULL, "instead of ssh: a remote shell" },
	{ "remote-wptrack", 'w', "PATH", NULL, "there, instead of the one in its $PATH" },
	{ "remote-criu", 'r', "PATH", NULL, "the same" },
	{ "hook", 'k', "COMMAND", NULL, "for the shell of both hosts: moves addresses and the like, by WPTRACK_EVENT" },
	{ "move-address", 'A', "ADDRESS/LENGTH@DEVICE", NULL, "an address, IPv4 or IPv6, that goes along" },
	{ "timeout", 't', "S", NULL, "how long it may be stopped for a destination that does not answer (30)" },
	{ "resume", 'R', NULL, NULL, "PID was left stopped as nobody knows whether it runs there: let it run on here" },
	{ "discard", 'D', NULL, NULL, "the same: kill it here" },
	{ "json", 'j', NULL, NULL, "an object in a line for each round, and for the verdict" },
	{ 0 },
};

static int parse_arguments(int argc, char **argv, struct wptrack_migrate_options *opt)
{
	int kind, err = 0;

	while (!err && (kind = wptrack_cmd_option(argc, argv, options)) >= 0)
		err = take_argument(opt, argv, kind);
	if (err)
		return err;
	opt->extra = argv + optind;
	opt->nr_extra = argc - optind;
	if (opt->resume || opt->discard)
		return opt->pid && !opt->dir && opt->resume != opt->discard
			       ? 0
			       : wptrack_cmd_misused(argv[0], "--resume and --discard take a PID");
	if (!opt->pid || (!opt->dir && !opt->remote.to))
		return wptrack_cmd_misused(argv[0], "needs a PID and a directory, or --to HOST:DIR");
	if (opt->remote.to && (opt->server_cmd || opt->goal.leave_running))
		return wptrack_cmd_misused(argv[0],
					   "--to goes neither with --page-server-cmd nor with --leave-running");
	if (!opt->server_cmd != !opt->port || (opt->address && !opt->port))
		return wptrack_cmd_misused(argv[0], "a page-server takes both --page-server-cmd and --port");
	return 0;
}

static int run(int argc, char **argv)
{
	static struct wptrack_migrate m;
	int err;

	m.opt = (struct wptrack_migrate_options){
		.criu = "criu",
		.mode = "live",
		.remote = { .rsh = "ssh", .wptrack = "wptrack", .criu = "criu", .timeout_ms = TIMEOUT_S * 1000 },
		.goal = { .downtime_us = DOWNTIME_MS * 1000, .max_rounds = MAX_ROUNDS },
	};
	err = parse_arguments(argc, argv, &m.opt);
	if (!err && join_hooks(&m.opt))
		err = wptrack_migrate_cannot("%s", strerror(ENOMEM));
	if (err)
		return err;
	return m.opt.resume || m.opt.discard ? decide(&m) : migrate(&m);
}

const struct wptrack_command wptrack_cmd_migrate = {
	.name = "migrate",
	.args = "PID [DIR] [...]",
	.help = "pre-dump until a dump stops it shortly, and dump (see wptrack(1))",
	.options = options,
	.more = "  -- CRIU-OPTION...    for each criu, as -L DIR or --tcp-established\n",
	.run = run,
};
