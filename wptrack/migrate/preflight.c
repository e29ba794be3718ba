// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "criu_options.h"
#include "lib/cleanup.h"
#include "lib/proc.h"
#include "migrate.h"
#include "obstacles.h"
#include "wptrack/cmd.h"

#define ANSWER_BYTES 8192
#define STATUS_BYTES 8192

/* Of /proc/PID/stat: a kernel thread. */
#define PF_KTHREAD 0x00200000

/* criu's own limit for files without a name. */
#define GHOST_LIMIT_BYTES (1ull << 20)

/* What a round writes besides pages. */
#define ROUND_BYTES (256ull << 10)

/* ---------------------------------------------------------------- us */

static int check_privilege(void)
{
	const uint64_t either = 1ull << CAP_SYS_ADMIN | 1ull << (CAP_CHECKPOINT_RESTORE & 63);
	char status[STATUS_BYTES];
	const char *at;
	uint64_t has;

	if (wptrack_proc_read(getpid(), "status", status, sizeof(status)))
		return 0;
	at = strstr(status, "\nCapEff:");
	has = at ? strtoull(at + strlen("\nCapEff:"), NULL, 16) : either;
	if (!(has & either) && geteuid())
		return wptrack_migrate_cannot("only root can do that: try sudo");
	if (!(has & either) || !(has & 1ull << CAP_SYS_PTRACE))
		return wptrack_migrate_cannot("criu may not dump here: it needs CAP_SYS_ADMIN and CAP_SYS_PTRACE (of a container: "
			      "--cap-add)");
	return 0;
}

int wptrack_migrate_is_program(const struct wptrack_migrate *m)
{
	char stat[STATUS_BYTES], state;
	unsigned int flags;
	const char *at;
	int err = check_privilege();

	if (err)
		return err;
	err = wptrack_proc_read(m->opt.pid, "stat", stat, sizeof(stat));
	if (err == -ESRCH)
		return wptrack_migrate_cannot("there is no process %" PRId32, m->opt.pid);
	if (err)
		return wptrack_migrate_cannot("process %" PRId32 ": %s", m->opt.pid, strerror(-err));
	at = strrchr(stat, ')');
	if (!at || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return 0;
	if (flags & PF_KTHREAD)
		return wptrack_migrate_cannot("process %" PRId32 " is a thread of the kernel: there is nothing to migrate", m->opt.pid);
	if (state == 'Z' || state == 'X')
		return wptrack_migrate_cannot("process %" PRId32
			      " has ended, its parent has not looked yet: there is nothing to migrate",
			      m->opt.pid);
	return 0;
}

/* ---------------------------------------------------------------- criu */

/* The options of criu are looked at before it does what it is told. */
static int check_criu(const struct wptrack_migrate *m, const struct wptrack_criu_options *options)
{
	const char *plugins = wptrack_criu_option(options, "libdir", 'L');
	char *const version[] = { (char *)m->opt.criu, (char *)"--pre-dump-mode", (char *)m->opt.mode,
				  (char *)"--version", NULL };
	char *const feature[] = { (char *)m->opt.criu,
				  (char *)"check",
				  (char *)"--feature",
				  (char *)"mem_dirty_track",
				  plugins ? (char *)"-L" : NULL,
				  (char *)plugins,
				  NULL };
	char answer[ANSWER_BYTES];

	if (!wptrack_run_succeeded(wptrack_run_question(version, answer, sizeof(answer)))) {
		if (strstr(answer, "pre-dump-mode"))
			return wptrack_migrate_cannot(
				"%s has no pre-dump mode \"%s\", it is not the patched one: name that with --criu, or "
				"give --pre-dump-mode splice",
				m->opt.criu, m->opt.mode);
		answer[strcspn(answer, "\n")] = '\0';
		return wptrack_migrate_cannot("%s --version fails%s%s: name another criu with --criu", m->opt.criu, *answer ? ": " : "",
			      answer);
	}
	if (!wptrack_run_succeeded(wptrack_run_question(feature, answer, sizeof(answer))))
		return wptrack_migrate_cannot("%s cannot track memory here: does it find the plugin (-- -L DIR)? "
			      "\"%s check --feature mem_dirty_track\" says what is missing",
			      m->opt.criu, m->opt.criu);
	return 0;
}

enum wptrack_plan_lock wptrack_migrate_lock(const struct wptrack_migrate *m)
{
	struct wptrack_criu_options options WPTRACK_CLEANUP(wptrack_criu_options_free) = { 0 };
	char *const feature[] = { (char *)m->opt.criu, (char *)"check", (char *)"--feature",
				  (char *)"network_lock_nftables", NULL };
	char answer[ANSWER_BYTES];
	const char *method;

	if (wptrack_criu_options_read(m->opt.extra, m->opt.nr_extra, &options) ||
	    !wptrack_criu_option(&options, "tcp-established", 0) || wptrack_criu_option(&options, "tcp-close", 0))
		return WPTRACK_PLAN_LOCK_NONE;
	method = wptrack_criu_option(&options, "network-lock", 0);
	if (method && (!strcmp(method, "skip") || !strcmp(method, "none")))
		return WPTRACK_PLAN_LOCK_NONE;
	if (method && !strcmp(method, "iptables"))
		return WPTRACK_PLAN_LOCK_ONE_BY_ONE;
	/* By itself it takes the better of the two. */
	return wptrack_run_succeeded(wptrack_run_question(feature, answer, sizeof(answer)))
		       ? WPTRACK_PLAN_LOCK_AT_ONCE
		       : WPTRACK_PLAN_LOCK_ONE_BY_ONE;
}

/* ---------------------------------------------------------------- the tree */

unsigned int wptrack_migrate_connections(const struct wptrack_migrate *m)
{
	struct wptrack_obstacles obstacles;

	return wptrack_obstacles_read(m->opt.pid, 0, &obstacles) ? 0 : obstacles.of[WPTRACK_OBSTACLE_CONNECTION].nr;
}

/* What is in the way, and by which options of criu that is mended. */
static const struct remedy {
	const char *option, *or_option;
	char letter;
	const char *has;    /* of a process */
	const char *remedy; /* without an option; else what is to be known of it */
} remedies[WPTRACK_OBSTACLE_NR] = {
	[WPTRACK_OBSTACLE_ITSELF] = { .has = "is an ancestor of this wptrack",
				      .remedy = "run wptrack from a shell that is not below it" },
	[WPTRACK_OBSTACLE_TRACED] = { .has = "is being traced", .remedy = "end that strace or debugger before" },
	[WPTRACK_OBSTACLE_OTHER_USER] = { .has = "is another user's, and its limits cannot be read",
					  .remedy = "run wptrack with CAP_SYS_RESOURCE (of a container: --cap-add)" },
	[WPTRACK_OBSTACLE_PID_NS] = { .has = "is in a pid namespace of its own, but not the first process there",
				      .remedy = "migrate that first one" },
	[WPTRACK_OBSTACLE_TERMINAL] = { .option = "shell-job",
					.letter = 'j',
					.has = "is on a terminal or in a session that others have" },
	[WPTRACK_OBSTACLE_LOCK] = { .option = "file-locks", .letter = 'l', .has = "holds a lock on a file" },
	[WPTRACK_OBSTACLE_CONNECTION] = { .option = "tcp-established",
					  .or_option = "tcp-close",
					  .has = "has a TCP connection" },
	[WPTRACK_OBSTACLE_UNIX_DGRAM] = { .option = "ext-unix-sk",
					  .or_option = "external",
					  .letter = 'x',
					  .has = "sends to a unix socket outside of the tree" },
	[WPTRACK_OBSTACLE_UNIX_STREAM] = { .or_option = "external",
					   .has = "has a unix connection that leads out of the tree",
					   .remedy = "have it closed, or give --external with that name after --" },
	[WPTRACK_OBSTACLE_SYSV] = { .has = "has System V shared memory in the IPC namespace of the machine",
				    .remedy = "start it in one of its own (unshare --ipc)" },
	[WPTRACK_OBSTACLE_IO_URING] = { .has = "has an io_uring, which criu cannot dump",
					.remedy = "have the program do without (most have a setting for it)" },
	[WPTRACK_OBSTACLE_ANON_INODE] = { .has = "has a descriptor that criu cannot dump",
					  .remedy = "have the program close it" },
	[WPTRACK_OBSTACLE_GHOST] = { .option = "ghost-limit", .has = "has a large file that has been deleted" },
	[WPTRACK_OBSTACLE_OTHER_NAME] = { .option = "link-remap",
					  .has = "has a file that is no longer there by the name it was opened by" },
	[WPTRACK_OBSTACLE_OTHER_MOUNT] = { .or_option = "external",
					   .has = "has a file open on a mount that it does not see",
					   .remedy =
						   "start it with other files (its output, mostly), or give --external "
						   "'file[MOUNT:INODE]' after --" },
	[WPTRACK_OBSTACLE_UPROBES] = { .option = "allow-uprobes", .has = "has uprobes" },
};

static int tell(const struct remedy *remedy, const struct wptrack_obstacle_found *found)
{
	char comm[WPTRACK_PLAIN_LEN] = "", name[WPTRACK_COMM_LEN + 1] = "", what[128] = "";

	wptrack_proc_read(found->pid, "comm", name, sizeof(name));
	name[strcspn(name, "\n")] = '\0';
	wptrack_print_plain(name, comm);
	if (*found->what)
		snprintf(what, sizeof(what), " (%s)", found->what);
	if (!remedy->option)
		return wptrack_migrate_cannot("process %d (%s) %s%s: %s", found->pid, comm, remedy->has, what, remedy->remedy);
	return wptrack_migrate_cannot("process %d (%s) %s%s: give --%s%s after --", found->pid, comm, remedy->has, what, remedy->option,
		      !strcmp(remedy->option, "ghost-limit") ? " SIZE" : "");
}

static int check_tree(const struct wptrack_criu_options *options, const struct wptrack_obstacles *obstacles)
{
	int ret = 0;

	for (size_t i = 0; i < WPTRACK_OBSTACLE_NR; i++) {
		const struct remedy *remedy = &remedies[i];

		if (!obstacles->of[i].nr)
			continue;
		/* The limit has been taken into account. */
		if (i != WPTRACK_OBSTACLE_GHOST && remedy->option &&
		    wptrack_criu_option(options, remedy->option, remedy->letter))
			continue;
		if (remedy->or_option && wptrack_criu_option(options, remedy->or_option, 0))
			continue;
		ret = tell(remedy, &obstacles->of[i]);
	}
	return ret;
}

/* ---------------------------------------------------------------- the disk */

/* Of the filesystem that the images go to, or are going to. Return: false when that is not known. */
static bool room_of(const struct wptrack_migrate *m, uint64_t *ret_bytes, uint64_t *ret_files)
{
	char parent[PATH_MAX];
	struct statvfs fs;

	snprintf(parent, sizeof(parent), "%s", m->opt.dir);
	if (statvfs(m->opt.dir, &fs) && statvfs(dirname(parent), &fs))
		return false;
	*ret_bytes = (uint64_t)(geteuid() ? fs.f_bavail : fs.f_bfree) * fs.f_frsize;
	/* Some count none. */
	*ret_files = fs.f_files ? fs.f_ffree : UINT64_MAX;
	return true;
}

bool wptrack_migrate_disk_is_full(const struct wptrack_migrate *m)
{
	uint64_t bytes, files;

	return room_of(m, &bytes, &files) && (bytes < ROUND_BYTES || !files);
}

static int check_disk(const struct wptrack_migrate *m, const struct wptrack_criu_options *options,
		      uint64_t memory_bytes)
{
	const bool elsewhere = m->opt.server_cmd || wptrack_criu_option(options, "stream", 0) ||
			       wptrack_criu_option(options, "lazy-pages", 0);
	const uint64_t needed = elsewhere ? ROUND_BYTES : memory_bytes + ROUND_BYTES;
	char has[WPTRACK_SIZE_LEN], wants[WPTRACK_SIZE_LEN];
	uint64_t bytes, files;

	if (!room_of(m, &bytes, &files))
		return 0;
	if (bytes >= needed && files)
		return 0;
	return wptrack_migrate_cannot(
		"No space left on device: %s has room for %s%s, and the first round writes %s: make room, or name a "
		"directory elsewhere",
		m->opt.dir, wptrack_print_size(bytes, has), files ? "" : " but for no file",
		wptrack_print_size(needed, wants));
}

/* ---------------------------------------------------------------- to another host */

/* Options of criu's that leave the program where it is, or take its pages elsewhere. */
static int check_remote(const struct wptrack_migrate *m, const struct wptrack_criu_options *options)
{
	static const struct {
		const char *name;
		char letter;
	} wrong[] = { { "leave-running", 'R' }, { "leave-stopped", 's' }, { "page-server", 0 },
		      { "lazy-pages", 0 },	{ "stream", 0 },	  { "auto-dedup", 0 } };

	for (size_t i = 0; m->opt.remote.to && i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (wptrack_criu_option(options, wrong[i].name, wrong[i].letter))
			return wptrack_migrate_cannot("criu's --%s does not go with --to", wrong[i].name);
	return 0;
}

/* ---------------------------------------------------------------- all of it */

static int check_all(struct wptrack_migrate *m, const struct wptrack_criu_options *options)
{
	const uint64_t limit = wptrack_criu_size(wptrack_criu_option(options, "ghost-limit", 0), GHOST_LIMIT_BYTES);
	struct wptrack_obstacles obstacles;
	int err = wptrack_obstacles_read(m->opt.pid, limit, &obstacles);

	if (err == -ESRCH)
		return wptrack_migrate_cannot("process %" PRId32 " has ended", m->opt.pid);
	if (err)
		return wptrack_migrate_cannot("process %" PRId32 ": %s", m->opt.pid, strerror(-err));
	m->memory_bytes = obstacles.memory_bytes;
	err = check_criu(m, options);
	if (check_tree(options, &obstacles))
		err = WPTRACK_EXIT_FAILED;
	if (check_disk(m, options, obstacles.memory_bytes))
		err = WPTRACK_EXIT_FAILED;
	if (check_remote(m, options))
		err = WPTRACK_EXIT_FAILED;
	return err;
}

int wptrack_migrate_preflight(struct wptrack_migrate *m)
{
	struct wptrack_criu_options options WPTRACK_CLEANUP(wptrack_criu_options_free) = { 0 };
	const int err = wptrack_criu_options_read(m->opt.extra, m->opt.nr_extra, &options);

	return err ? wptrack_migrate_cannot("%s", strerror(-err)) : check_all(m, &options);
}
