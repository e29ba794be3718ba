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
#include "wptrack/cmd.h"

#define DOWNTIME_MS 100
#define MAX_ROUNDS  10

/* In bytes a second, as long as no round has shown it: into the page cache, and through a gigabit. */
#define MEMORY_RATE  (1536ull << 20)
#define NETWORK_RATE (110ull << 20)

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
	if (!is_found(m->opt.criu))
		return wptrack_migrate_cannot(
			"there is no program %s: install the patched criu, or name it with --criu", m->opt.criu);
	m->start_time = root.start_time;
	m->run.root = m->opt.pid;
	m->plan.goal = m->opt.goal;
	m->plan.goal.assumed_rate = m->opt.server_cmd ? NETWORK_RATE : MEMORY_RATE;
	m->was_stopped = wptrack_migrate_is_stopped(m);
	err = check_directory(m->opt.dir);
	if (!err && !m->opt.unchecked)
		err = wptrack_migrate_preflight(m);
	if (err)
		return err;
	m->lock = wptrack_migrate_lock(m);
	if (mkdir(m->opt.dir, 0700) && errno != EEXIST)
		return wptrack_migrate_cannot("%s: %s", m->opt.dir, strerror(errno));
	return 0;
}

/* ---------------------------------------------------------------- and after the last */

static void tell_what_stays(const struct wptrack_migrate *m, enum wptrack_migrate_end end)
{
	if (end == WPTRACK_MIGRATE_NOT_CONVERGING)
		fprintf(stderr, "wptrack migrate: not dumped: give a greater --downtime, or --force\n");
	if (!wptrack_migrate_is_gone(m))
		fprintf(stderr, "wptrack migrate: process %" PRId32 " %s, and is not tracked\n", m->opt.pid,
			m->was_stopped ? "is stopped as it was" : "runs on");
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
		return 0;
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

static int migrate(struct wptrack_migrate *m)
{
	struct wptrack_migrate_verdict verdict = { .why = m->why, .dir = m->opt.dir };
	struct wptrack_migrate_command restore;
	int err;

	wptrack_run_prepare();
	err = begin(m);
	if (err)
		return err;
	verdict.end = wptrack_migrate_rounds(m);
	verdict.rounds = m->rounds;
	verdict.predicted_us = m->forecast.stop_us;
	verdict.stopped_us = m->stopped_us;
	if (verdict.end != WPTRACK_MIGRATE_DUMPED)
		wptrack_migrate_let_run(m);
	/* Each migration begins with a full round, so that nobody has a use for it. */
	wptrack_migrate_release(m);
	if (verdict.end == WPTRACK_MIGRATE_DUMPED) {
		wptrack_migrate_restore(m, &restore);
		verdict.restore = restore.argv;
		verdict.elsewhere = m->opt.server_cmd;
	}
	wptrack_migrate_show_verdict(&verdict, m->opt.json);
	if (verdict.end != WPTRACK_MIGRATE_DUMPED)
		tell_what_stays(m, verdict.end);
	wptrack_record_free(m->rec);
	return end_status(m, verdict.end);
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

/* Return: 0, or after complaining. */
static int take_argument(struct wptrack_migrate_options *opt, char **argv, int kind)
{
	switch (kind) {
	case 'd':
	case 'n':
	case 'p':
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
		return take_operand(opt, argv[0], kind == WPTRACK_OPERAND ? optarg : "-");
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
	if (!opt->dir)
		return wptrack_cmd_misused(argv[0], "needs a PID and a directory");
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
		.goal = { .downtime_us = DOWNTIME_MS * 1000, .max_rounds = MAX_ROUNDS },
	};
	err = parse_arguments(argc, argv, &m.opt);
	return err ? err : migrate(&m);
}

const struct wptrack_command wptrack_cmd_migrate = {
	.name = "migrate",
	.args = "PID DIR [...]",
	.help = "pre-dump until a dump stops it shortly, and dump (see wptrack(1))",
	.options = options,
	.more = "  -- CRIU-OPTION...    for each criu, as -L DIR or --tcp-established\n",
	.run = run,
};
