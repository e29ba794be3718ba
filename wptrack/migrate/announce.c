// SPDX-License-Identifier: GPL-2.0-only
/* What the destination is told of a program before it is sent. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/page.h"
#include "migrate.h"
#include "obstacles.h"
#include "remote.h"
#include "wptrack/proc_tree.h"

#define LINK_BYTES 128

static bool is_ours(pid_t pid, const char *ns)
{
	char path[64], theirs[LINK_BYTES] = "", ours[LINK_BYTES] = "";

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, ns);
	if (readlink(path, theirs, sizeof(theirs) - 1) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/%s", ns);
	return readlink(path, ours, sizeof(ours) - 1) > 0 && !strcmp(theirs, ours);
}

static bool has_file(const Wptrack__MigrateHello *hello, const char *path)
{
	for (size_t i = 0; i < hello->n_files; i++)
		if (!strcmp(hello->files[i]->path, path))
			return true;
	return false;
}

/* The path is kept. Return: 0 or -ENOMEM. */
static int add_file(Wptrack__MigrateHello *hello, char *path, uint64_t bytes)
{
	Wptrack__MigrateFile **files = reallocarray(hello->files, hello->n_files + 1, sizeof(*files));
	Wptrack__MigrateFile *file = malloc(sizeof(*file));

	if (files)
		hello->files = files;
	if (!files || !file) {
		free(file);
		return -ENOMEM;
	}
	wptrack__migrate_file__init(file);
	file->path = path;
	file->bytes = bytes;
	hello->files[hello->n_files++] = file;
	return 0;
}

/* Executables and libraries: what is mapped to be executed. */
static int add_files_of(Wptrack__MigrateHello *hello, pid_t pid)
{
	char *line WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = NULL;
	char path[64], flags[8];
	size_t size = 0;
	int at, err = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && !err && getline(&line, &size, f) > 0) {
		char *name, *copy;
		struct stat st;

		at = 0;
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%*x-%*x %7s %*x %*x:%*x %*u %n", flags, &at) != 1 || !at || !strchr(flags, 'x'))
			continue;
		name = line + at;
		if (*name != '/' || has_file(hello, name) || stat(name, &st) || !S_ISREG(st.st_mode))
			continue;
		copy = strdup(name);
		err = copy ? add_file(hello, copy, (uint64_t)st.st_size) : -ENOMEM;
		if (err)
			free(copy);
	}
	return err;
}

static int add_tree(Wptrack__MigrateHello *hello, const struct wptrack_tree *tree)
{
	const bool same_pids = is_ours(tree->pids[0], "ns/pid");
	const bool same_files = is_ours(tree->pids[0], "ns/mnt") && is_ours(tree->pids[0], "root");
	int err = 0;

	hello->pids = calloc(tree->nr, sizeof(*hello->pids));
	if (!hello->pids)
		return -ENOMEM;
	for (size_t i = 0; !err && i < tree->nr; i++) {
		if (same_pids)
			hello->pids[hello->n_pids++] = (uint32_t)tree->pids[i];
		if (same_files)
			err = add_files_of(hello, tree->pids[i]);
	}
	return err;
}

/* Those of criu restore, from what is behind "restore -D DIR" of the command that is shown else. */
static int add_options(Wptrack__MigrateHello *hello, const struct wptrack_migrate *m)
{
	struct wptrack_migrate_command command;
	size_t nr = 0;

	wptrack_migrate_restore(m, &command);
	while (command.argv[nr])
		nr++;
	hello->options = calloc(nr, sizeof(*hello->options));
	if (!hello->options)
		return -ENOMEM;
	for (size_t i = WPTRACK_MIGRATE_RESTORE_OPTIONS; i < nr; i++)
		if (strcmp(command.argv[i], "-d"))
			hello->options[hello->n_options++] = (char *)command.argv[i];
	return 0;
}

int wptrack_remote_hello(const struct wptrack_migrate *m, Wptrack__MigrateHello *ret)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	static struct utsname machine;
	struct wptrack_obstacles obstacles;
	int err = wptrack_obstacles_read(m->opt.pid, UINT64_MAX, &obstacles);

	if (!err)
		err = wptrack_tree_read(m->opt.pid, &tree);
	if (!err)
		err = add_tree(ret, &tree);
	if (!err)
		err = add_options(ret, m);
	if (err)
		return err;
	uname(&machine);
	ret->protocol = WPTRACK_PEER_PROTOCOL;
	ret->version = (char *)WPTRACK_VERSION;
	ret->machine = machine.machine;
	ret->page_bytes = (uint32_t)wptrack_page_bytes();
	ret->memory_bytes = obstacles.memory_bytes;
	ret->criu = (char *)m->opt.remote.criu;
	ret->hook = (char *)m->opt.remote.hook;
	return 0;
}

void wptrack_remote_hello_free(Wptrack__MigrateHello *hello)
{
	for (size_t i = 0; i < hello->n_files; i++) {
		free(hello->files[i]->path);
		free(hello->files[i]);
	}
	free(hello->files);
	free(hello->pids);
	free(hello->options);
	*hello = (Wptrack__MigrateHello)WPTRACK__MIGRATE_HELLO__INIT;
}
