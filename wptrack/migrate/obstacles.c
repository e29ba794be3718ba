// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/proc.h"
#include "obstacles.h"

#define STATUS_BYTES 8192
#define STAT_BYTES   1024

void wptrack_obstacle_note(struct wptrack_obstacles *found, enum wptrack_obstacle kind, pid_t pid, const char *format,
			   ...)
{
	struct wptrack_obstacle_found *it = &found->of[kind];
	va_list args;

	if (it->nr++)
		return;
	it->pid = pid;
	if (!format)
		return;
	va_start(args, format);
	vsnprintf(it->what, sizeof(it->what), format, args);
	va_end(args);
	/* Names are the program's choice. */
	for (char *c = it->what; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

int wptrack_obstacle_grow(void **all, size_t nr, size_t size)
{
	void *more;

	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if (nr & (nr - 1))
		return 0;
	more = reallocarray(*all, nr ? nr * 2 : 1, size);
	if (!more)
		return -ENOMEM;
	*all = more;
	return 0;
}

/* The number behind "\n@name:" in /proc/PID/status, 0 when it is not there. */
static uint64_t status_number(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* How many numbers are in the line NSpid, one for each namespace; and the last. */
static unsigned int ns_pids(const char *status, uint64_t *ret_last)
{
	const char *at = strstr(status, "\nNSpid:");
	unsigned int nr = 0;
	char *end;

	for (at = at ? at + strlen("\nNSpid:") : ""; *at == '\t' || *at == ' '; at = end, nr++)
		*ret_last = strtoull(at + 1, &end, 10);
	return nr;
}

/* Return: false when it has ended. */
static bool look_at_status(struct wptrack_obstacle_scan *scan, pid_t pid)
{
	char status[STATUS_BYTES];
	uint64_t tracer, inner = 0;

	if (wptrack_proc_read(pid, "status", status, sizeof(status)))
		return false;
	tracer = status_number(status, "\nTracerPid:");
	if (tracer)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_TRACED, pid, "process %" PRIu64, tracer);
	if (pid == scan->tree->pids[0] && ns_pids(status, &inner) > 1 && inner != 1)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_PID_NS, pid, NULL);
	/* In kB. Copied pages of files are among them, pages of zeros are not. */
	scan->found->memory_bytes += (status_number(status, "\nRssAnon:") + status_number(status, "\nVmSwap:")) * 1024;
	return true;
}

/* criu reads all limits like this, and the kernel may not let it. */
static void look_at_limits(struct wptrack_obstacle_scan *scan, pid_t pid)
{
	struct rlimit limit;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) && errno == EPERM)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_OTHER_USER, pid, NULL);
}

/* The session is by our pid namespace's numbers, as the pid is. */
static void look_at_session(struct wptrack_obstacle_scan *scan, pid_t root)
{
	char stat[STAT_BYTES];
	const char *at;
	int session;

	if (wptrack_proc_read(root, "stat", stat, sizeof(stat)))
		return;
	at = strrchr(stat, ')');
	if (at && sscanf(at + 1, " %*c %*d %*d %d", &session) == 1 && session != root)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_TERMINAL, root, "session of process %d", session);
}

/* The other end of each terminal has to be in the tree. */
static void look_at_terminals(struct wptrack_obstacle_scan *scan)
{
	for (size_t i = 0; i < scan->nr_terminals; i++) {
		const struct wptrack_terminal *it = &scan->terminals[i];
		bool has_master = it->is_master;

		for (size_t j = 0; j < scan->nr_terminals && !has_master; j++)
			has_master = scan->terminals[j].is_master && scan->terminals[j].index == it->index;
		if (!has_master)
			wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_TERMINAL, it->pid, "/dev/pts/%d",
					      it->index);
	}
}

static int look_at_all(struct wptrack_obstacle_scan *scan)
{
	const struct wptrack_tree *tree = scan->tree;
	int err = wptrack_obstacles_read_mounts(scan, tree->pids[0]);

	for (size_t i = 0; !err && i < tree->nr; i++) {
		if (!look_at_status(scan, tree->pids[i])) {
			err = i ? 0 : -ESRCH;
			continue;
		}
		look_at_limits(scan, tree->pids[i]);
		err = wptrack_obstacles_of_files(scan, tree->pids[i]);
	}
	if (!err)
		err = wptrack_obstacles_of_sockets(scan);
	if (err)
		return err;
	if (wptrack_tree_has(tree, getpid()))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_ITSELF, tree->pids[0], NULL);
	look_at_session(scan, tree->pids[0]);
	look_at_terminals(scan);
	return 0;
}

int wptrack_obstacles_read(pid_t root, uint64_t ghost_limit_bytes, struct wptrack_obstacles *ret)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	struct wptrack_obstacles found = { 0 };
	struct wptrack_obstacle_scan scan = { .tree = &tree, .ghost_limit_bytes = ghost_limit_bytes, .found = &found };
	int err = wptrack_tree_read(root, &tree);

	if (!err)
		err = look_at_all(&scan);
	free(scan.sockets);
	free(scan.terminals);
	free(scan.mounts);
	if (!err)
		*ret = found;
	return err;
}
