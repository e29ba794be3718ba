// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/cleanup.h"
#include "migrate.h"
#include "wptrack/proc_tree.h"
#include "wptrack/stopped.h"
#include "wptrack/tracked.h"

/* For what takes no time but for a busy machine. */
#define PATIENCE_MS 2000
#define POLL_MS	    5

static void pause_shortly(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
}

/* The keeper may still take it for a dump's, if the criu has just been killed. */
static int release_patiently(pid_t pid)
{
	uint32_t released;
	int err = -EBUSY;

	for (int ms = 0; err == -EBUSY && ms < PATIENCE_MS; ms += POLL_MS) {
		err = wptrack_tracked_release(pid, &released);
		if (err == -EBUSY)
			pause_shortly();
	}
	return err == -ENOENT ? 0 : err;
}

static bool is_ours(const struct wptrack_migrate *m, const struct wptrack_tree *tree, const struct wptrack_task *task)
{
	if (wptrack_tree_has(tree, task->pid))
		return true;
	return m->rec && !memcmp(task->session, m->rec->session, sizeof(task->session));
}

void wptrack_migrate_release(const struct wptrack_migrate *m)
{
	struct wptrack_tracked tracked WPTRACK_CLEANUP(wptrack_tracked_free) = { 0 };
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	int err;

	if (!wptrack_migrate_is_gone(m))
		wptrack_tree_read(m->opt.pid, &tree);
	err = wptrack_tracked_fetch(&tracked);
	if (err)
		fprintf(stderr, "wptrack migrate: the keeper cannot be reached (%s), and may still track what it did\n",
			strerror(-err));
	for (size_t i = 0; !err && i < tracked.nr; i++) {
		const pid_t pid = tracked.tasks[i].pid;
		int failed;

		if (!is_ours(m, &tree, &tracked.tasks[i]))
			continue;
		failed = release_patiently(pid);
		if (failed)
			fprintf(stderr,
				"wptrack migrate: process %d could not be released (%s): try wptrack release %d\n", pid,
				strerror(-failed), pid);
	}
}

/* @ret_pid: one that is stopped. */
static bool any_stopped(pid_t root, pid_t *ret_pid)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };

	wptrack_tree_read(root, &tree);
	for (size_t i = 0; i < tree.nr; i++)
		if (wptrack_proc_is_stopped(tree.pids[i])) {
			*ret_pid = tree.pids[i];
			return true;
		}
	return false;
}

bool wptrack_migrate_is_stopped(const struct wptrack_migrate *m)
{
	pid_t pid;

	return any_stopped(m->opt.pid, &pid);
}

void wptrack_migrate_let_run(const struct wptrack_migrate *m)
{
	pid_t pid, told = 0;

	if (m->was_stopped || wptrack_migrate_is_gone(m))
		return;
	/* What a dying tracer leaves runs on at once, but is not seen to at once. */
	for (int ms = 0; any_stopped(m->opt.pid, &pid); ms += POLL_MS) {
		if (ms >= PATIENCE_MS && !m->criu_killed) {
			fprintf(stderr, "wptrack migrate: process %d is stopped, but not by criu\n", pid);
			return;
		}
		if (ms >= 2 * PATIENCE_MS) {
			fprintf(stderr, "wptrack migrate: process %d is stopped: is its cgroup frozen?\n", pid);
			return;
		}
		if (ms >= PATIENCE_MS && pid != told) {
			fprintf(stderr, "wptrack migrate: process %d was left stopped, and is told to go on\n", pid);
			kill(pid, SIGCONT);
			told = pid;
		}
		pause_shortly();
	}
}
