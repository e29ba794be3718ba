// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proc_tree.h"

static int append(struct wptrack_tree *tree, pid_t pid)
{
	/* One that is given to another parent while it is looked for may be seen twice. */
	if (wptrack_tree_has(tree, pid))
		return 0;
	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if ((tree->nr & (tree->nr - 1)) == 0) {
		pid_t *pids = reallocarray(tree->pids, tree->nr ? tree->nr * 2 : 1, sizeof(*pids));

		if (!pids)
			return -ENOMEM;
		tree->pids = pids;
	}
	tree->pids[tree->nr++] = pid;
	return 0;
}

static int add_children(struct wptrack_tree *tree, pid_t pid, const char *tid)
{
	char path[64 + NAME_MAX];
	int child, err = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/children", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return 0; /* the thread has ended */
	while (!err && fscanf(f, "%d", &child) == 1)
		err = append(tree, child);
	fclose(f);
	return err;
}

/* Return: -ESRCH when the process has ended. */
static int add_children_of_all(struct wptrack_tree *tree, pid_t pid)
{
	const struct dirent *entry;
	char path[64];
	int err = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!err && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			err = add_children(tree, pid, entry->d_name);
	closedir(dir);
	return err;
}

int wptrack_tree_read(pid_t root, struct wptrack_tree *ret)
{
	int err = append(ret, root);

	for (size_t i = 0; !err && i < ret->nr; i++) {
		err = add_children_of_all(ret, ret->pids[i]);
		if (err == -ESRCH && i)
			err = 0;
	}
	return err;
}

bool wptrack_tree_has(const struct wptrack_tree *tree, pid_t pid)
{
	for (size_t i = 0; i < tree->nr; i++)
		if (tree->pids[i] == pid)
			return true;
	return false;
}

void wptrack_tree_free(struct wptrack_tree *tree)
{
	free(tree->pids);
	*tree = (struct wptrack_tree){ 0 };
}

pid_t wptrack_proc_tracer(pid_t pid)
{
	char path[64], line[256];
	int tracer = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "TracerPid: %d", &tracer) == 1)
			break;
	fclose(f);
	return tracer;
}
