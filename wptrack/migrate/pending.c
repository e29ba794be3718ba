// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "pending.h"
#include "wptrack/populated.h"
#include "wptrack/proc_tree.h"

/* Enough for all of a line of maps but the end of a long name. */
#define LINE_BYTES 512

#define BLOCK_BYTES 512ull /* of st_blocks */

/* Objects of shared memory that have been counted. */
struct objects {
	ino_t *all;
	size_t nr;
};

static void free_objects(struct objects *objects)
{
	free(objects->all);
}

/* Return: 1 when it is new, 0 or -ENOMEM. */
static int add_object(struct objects *objects, ino_t inode)
{
	for (size_t i = 0; i < objects->nr; i++)
		if (objects->all[i] == inode)
			return 0;
	/* Grows at 0, 1, 2, 4, 8...: when the number is a power of two. */
	if ((objects->nr & (objects->nr - 1)) == 0) {
		ino_t *all = reallocarray(objects->all, objects->nr ? objects->nr * 2 : 1, sizeof(*all));

		if (!all)
			return -ENOMEM;
		objects->all = all;
	}
	objects->all[objects->nr++] = inode;
	return 1;
}

/* Will the dump have its content, as no file has? These names are the kernel's. */
static bool is_shared_memory(const char *perms, const char *name)
{
	return perms[3] == 's' && (!strncmp(name, "/dev/zero (deleted)", 19) || !strncmp(name, "/SYSV", 5) ||
				   !strncmp(name, "/memfd:", 7) || !strncmp(name, "/anon_hugepage", 14));
}

/* An object is dumped once, with all that it has, whoever maps how much of it. */
static int add_shared(pid_t pid, struct objects *objects, uint64_t *bytes)
{
	char line[LINE_BYTES], path[128], perms[5];
	uint64_t start, end;
	int ret = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return 0; /* it has ended */
	while (ret >= 0 && fgets(line, sizeof(line), maps)) {
		struct stat object;
		int name = 0;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &start, &end, perms, &name) != 3 ||
		    !name || !is_shared_memory(perms, line + name))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, start, end);
		if (stat(path, &object))
			continue; /* unmapped meanwhile */
		ret = add_object(objects, object.st_ino);
		if (ret > 0)
			*bytes += (uint64_t)object.st_blocks * BLOCK_BYTES;
	}
	fclose(maps);
	return ret < 0 ? ret : 0;
}

/* @untrusted: the whole process is dumped in full. Return: -ESRCH when it has ended. */
static int add_private(pid_t pid, bool untrusted, struct wptrack_pending *pending)
{
	struct wptrack_populated pop;
	struct wptrack_populated_range range;
	int ret = wptrack_populated_open(&pop, pid);

	if (ret)
		return ret == -ENOENT ? -ESRCH : ret;
	while ((ret = wptrack_populated_next(&pop, &range)) > 0) {
		if (range.zero || range.file)
			continue;
		if (untrusted || !range.tracked)
			pending->untracked_bytes += range.end - range.start;
		else if (!range.clean)
			pending->written_bytes += range.end - range.start;
	}
	wptrack_populated_close(&pop);
	return ret;
}

/* Is a process dumped in full again, though it was in the last round? */
static bool is_untrusted(const struct wptrack_record *rec, pid_t pid)
{
	const struct wptrack_record_task *task = wptrack_record_find(rec, pid);

	return task && (task->basis == WPTRACK_BASIS_UNTRUSTED || task->basis == WPTRACK_BASIS_UNTRACKED);
}

int wptrack_pending_read(pid_t root, const struct wptrack_record *rec, struct wptrack_pending *ret)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	struct objects objects WPTRACK_CLEANUP(free_objects) = { 0 };
	struct wptrack_pending pending = { 0 };
	int err = wptrack_tree_read(root, &tree);

	for (size_t i = 0; !err && i < tree.nr; i++) {
		const bool untrusted = is_untrusted(rec, tree.pids[i]);

		err = add_private(tree.pids[i], untrusted, &pending);
		if (err == -ESRCH && i) {
			err = 0;
			continue;
		}
		if (!err)
			err = add_shared(tree.pids[i], &objects, &pending.shared_bytes);
		pending.processes++;
		pending.untrusted += untrusted;
	}
	if (!err)
		*ret = pending;
	return err;
}
