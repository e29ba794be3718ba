// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doubt.h"
#include "lib/cleanup.h"
#include "lib/proc.h"
#include "wptrack/stopped.h"

#define STOP_MS 1000 /* for a signal that has been sent, or a criu that lets go */

/* Of the file: more than any number of processes needs. */
#define BYTES_MAX (16u << 20)

static int path_of(const char *guard, const char *end, char path[PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s.doubt%s", guard, end) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* ---------------------------------------------------------------- writing */

/* Return: 0, or -errno: it has ended. */
static int identify(pid_t pid, bool ran, Wptrack__MigrateDoubtTask *ret)
{
	struct wptrack_task task;
	const int err = wptrack_proc_identify(pid, &task);

	if (err)
		return err;
	wptrack__migrate_doubt_task__init(ret);
	ret->pid = (uint32_t)pid;
	ret->start_time = task.start_time;
	ret->ran = ran;
	return 0;
}

/* It is there as a whole, or not. What it tells of does not outlive the kernel, so no disk is waited for. */
static int write_file(const char *guard, const Wptrack__MigrateDoubt *doubt)
{
	const size_t size = wptrack__migrate_doubt__get_packed_size(doubt);
	uint8_t *packed WPTRACK_CLEANUP(wptrack_free_pointer) = malloc(size);
	char path[PATH_MAX], temp[PATH_MAX];
	int fd, err = path_of(guard, "", path) ?: path_of(guard, ".new", temp);

	if (err || !packed)
		return err ?: -ENOMEM;
	wptrack__migrate_doubt__pack(doubt, packed);
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	errno = EIO;
	if (write(fd, packed, size) != (ssize_t)size)
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	if (!err && rename(temp, path))
		err = -errno;
	if (err)
		unlink(temp);
	return err;
}

int wptrack_doubt_write(const char *guard, pid_t controller, const struct wptrack_tree *tree,
			const struct wptrack_tree *ran, const char *hook)
{
	Wptrack__MigrateDoubtTask *tasks WPTRACK_CLEANUP(wptrack_free_pointer) = calloc(tree->nr + 1, sizeof(*tasks));
	Wptrack__MigrateDoubtTask **list WPTRACK_CLEANUP(wptrack_free_pointer) = calloc(tree->nr + 1, sizeof(*list));
	Wptrack__MigrateDoubt doubt = WPTRACK__MIGRATE_DOUBT__INIT;
	Wptrack__MigrateDoubtTask decides;

	if (!tasks || !list)
		return -ENOMEM;
	/* One that is gone by now will be missed. */
	if (identify(controller, true, &decides))
		return -ESRCH;
	doubt.controller = &decides;
	doubt.hook = (char *)hook;
	doubt.tasks = list;
	for (size_t i = 0; i < tree->nr; i++) {
		list[doubt.n_tasks] = &tasks[doubt.n_tasks];
		if (!identify(tree->pids[i], wptrack_tree_has(ran, tree->pids[i]), list[doubt.n_tasks]))
			doubt.n_tasks++;
	}
	return write_file(guard, &doubt);
}

/* ---------------------------------------------------------------- reading */

static bool is_there(const Wptrack__MigrateDoubtTask *task)
{
	return wptrack_proc_is_still((pid_t)task->pid, task->start_time);
}

static int read_file(const char *guard, Wptrack__MigrateDoubt **ret)
{
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	uint8_t *packed WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	char path[PATH_MAX];
	struct stat st;
	int err = path_of(guard, "", path);

	if (err)
		return err;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	/* It tells whom to kill, and what to run. */
	if (st.st_uid != geteuid() || !S_ISREG(st.st_mode))
		return -EPERM;
	if (st.st_size > BYTES_MAX)
		return -EBADMSG;
	packed = malloc((size_t)st.st_size + 1);
	if (!packed)
		return -ENOMEM;
	if (read(fd, packed, (size_t)st.st_size) != (ssize_t)st.st_size)
		return -EIO;
	*ret = wptrack__migrate_doubt__unpack(NULL, (size_t)st.st_size, packed);
	return *ret ? 0 : -EBADMSG;
}

int wptrack_doubt_read(const char *guard, Wptrack__MigrateDoubt **ret)
{
	Wptrack__MigrateDoubt *doubt;
	const int err = read_file(guard, &doubt);

	if (err)
		return err;
	for (size_t i = 0; i < doubt->n_tasks; i++)
		if (is_there(doubt->tasks[i])) {
			*ret = doubt;
			return 0;
		}
	wptrack_doubt_free(&doubt);
	return -ENOENT;
}

void wptrack_doubt_free(Wptrack__MigrateDoubt **doubt)
{
	if (*doubt)
		wptrack__migrate_doubt__free_unpacked(*doubt, NULL);
	*doubt = NULL;
}

void wptrack_doubt_forget(const char *guard)
{
	char path[PATH_MAX];

	if (!path_of(guard, "", path))
		unlink(path);
}

/* ---------------------------------------------------------------- and what is to be done */

bool wptrack_doubt_has_controller(const Wptrack__MigrateDoubt *doubt)
{
	return is_there(doubt->controller);
}

bool wptrack_doubt_runs(const Wptrack__MigrateDoubt *doubt)
{
	for (size_t i = 0; i < doubt->n_tasks; i++)
		if (doubt->tasks[i]->ran && is_there(doubt->tasks[i]) &&
		    !wptrack_proc_await_stopped((pid_t)doubt->tasks[i]->pid, STOP_MS) && is_there(doubt->tasks[i]))
			return true;
	return false;
}

void wptrack_doubt_resume(const Wptrack__MigrateDoubt *doubt)
{
	for (size_t i = 0; i < doubt->n_tasks; i++)
		if (doubt->tasks[i]->ran && is_there(doubt->tasks[i]))
			kill((pid_t)doubt->tasks[i]->pid, SIGCONT);
}

void wptrack_doubt_kill(const Wptrack__MigrateDoubt *doubt)
{
	for (size_t i = 0; i < doubt->n_tasks; i++)
		if (is_there(doubt->tasks[i]))
			kill((pid_t)doubt->tasks[i]->pid, SIGKILL);
}
