// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/proc.h"
#include "obstacles.h"

#define BLOCK_BYTES  512ull /* of stx_blocks */
#define FDINFO_BYTES 8192

#define DELETED " (deleted)"

/* ---------------------------------------------------------------- files without a name */

static bool is_local(const char *type)
{
	static const char *const types[] = {
		"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "overlay"
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

int wptrack_obstacles_read_mounts(struct wptrack_obstacle_scan *scan, pid_t root)
{
	char path[64], type[32], *line = NULL;
	size_t size = 0;
	int err = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", root);
	f = fopen(path, "re");
	while (f && !err && getline(&line, &size, f) > 0) {
		const char *behind = strstr(line, " - ");
		struct wptrack_mount mount;

		if (sscanf(line, "%d %*d %u:%u", &mount.id, &mount.major, &mount.minor) != 3)
			continue;
		mount.is_local = behind && sscanf(behind, " - %31s", type) == 1 && is_local(type);
		err = wptrack_obstacle_grow((void **)&scan->mounts, scan->nr_mounts, sizeof(mount));
		if (!err)
			scan->mounts[scan->nr_mounts++] = mount;
	}
	if (f)
		fclose(f);
	free(line);
	return err;
}

static bool ends_with(const char *name, const char *end)
{
	const size_t len = strlen(name), end_len = strlen(end);

	return len > end_len && !strcmp(name + len - end_len, end);
}

/* @link: of /proc, to a file on a local filesystem, so that nobody is waited for. */
static void look_at_unlinked(struct wptrack_obstacle_scan *scan, pid_t pid, const char *link, const char *name)
{
	struct statx st;

	if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_NLINK | STATX_BLOCKS, &st) ||
	    !S_ISREG(st.stx_mode))
		return;
	if (st.stx_nlink)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_OTHER_NAME, pid, "%s", name);
	else if (st.stx_blocks * BLOCK_BYTES > scan->ghost_limit_bytes)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_GHOST, pid, "%s, %" PRIu64 " MiB", name,
				      (uint64_t)(st.stx_blocks * BLOCK_BYTES >> 20) + 1);
}

/* ---------------------------------------------------------------- descriptors */

/* Those that criu can dump, and ours. */
static bool is_known(const char *anon)
{
	static const char *const kinds[] = { "[eventfd]", "[eventpoll]", "inotify", "[fanotify]",   "[signalfd]",
					     "[timerfd]", "[pidfd]",	 "bpf-map", "[userfaultfd]" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(anon, kinds[i]))
			return true;
	return false;
}

static int add_socket(struct wptrack_obstacle_scan *scan, pid_t pid, uint64_t inode)
{
	const int err = wptrack_obstacle_grow((void **)&scan->sockets, scan->nr_sockets, sizeof(*scan->sockets));

	if (!err)
		scan->sockets[scan->nr_sockets++] = (struct wptrack_socket){ .inode = inode, .pid = pid };
	return err;
}

static int add_terminal(struct wptrack_obstacle_scan *scan, struct wptrack_terminal terminal)
{
	const int err = wptrack_obstacle_grow((void **)&scan->terminals, scan->nr_terminals, sizeof(terminal));

	if (!err)
		scan->terminals[scan->nr_terminals++] = terminal;
	return err;
}

static int number_in(const char *info, const char *name)
{
	const char *at = strstr(info, name);

	return at ? atoi(at + strlen(name)) : -1;
}

static const struct wptrack_mount *find_mount(const struct wptrack_obstacle_scan *scan, int id)
{
	for (size_t i = 0; i < scan->nr_mounts; i++)
		if (scan->mounts[i].id == id)
			return &scan->mounts[i];
	return NULL;
}

/* Is the name one in the mounts that have been read, and not of the kernel's own, which nobody sees? */
static bool is_path(const struct wptrack_obstacle_scan *scan, pid_t pid, const char *name)
{
	char path[64], ours[64] = "", theirs[64] = "";

	if (!scan->nr_mounts || ends_with(name, DELETED) || !strncmp(name, "/dmabuf:", 8))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", scan->tree->pids[0]);
	if (readlink(path, ours, sizeof(ours) - 1) <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	return readlink(path, theirs, sizeof(theirs) - 1) > 0 && !strcmp(ours, theirs);
}

static void look_at_file(struct wptrack_obstacle_scan *scan, pid_t pid, const char *number, char *name)
{
	char info[FDINFO_BYTES], path[64 + NAME_MAX];
	const struct wptrack_mount *mount;

	snprintf(path, sizeof(path), "fdinfo/%s", number);
	if (wptrack_proc_read(pid, path, info, sizeof(info)))
		return;
	if (strstr(info, "\nlock:"))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_LOCK, pid, "%s", name);
	mount = find_mount(scan, number_in(info, "\nmnt_id:"));
	if (!mount && is_path(scan, pid, name))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_OTHER_MOUNT, pid, "%s", name);
	if (!mount || !mount->is_local || !ends_with(name, DELETED))
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, number);
	name[strlen(name) - strlen(DELETED)] = '\0';
	look_at_unlinked(scan, pid, path, name);
}

static int look_at_master(struct wptrack_obstacle_scan *scan, pid_t pid, const char *number)
{
	char info[FDINFO_BYTES], path[64 + NAME_MAX];

	snprintf(path, sizeof(path), "fdinfo/%s", number);
	if (wptrack_proc_read(pid, path, info, sizeof(info)))
		return 0;
	return add_terminal(scan, (struct wptrack_terminal){
					  .index = number_in(info, "\ntty-index:"), .pid = pid, .is_master = true });
}

static int look_at_descriptor(struct wptrack_obstacle_scan *scan, pid_t pid, const char *number, char *link)
{
	uint64_t inode;
	int index;

	if (sscanf(link, "socket:[%" SCNu64 "]", &inode) == 1)
		return add_socket(scan, pid, inode);
	if (sscanf(link, "/dev/pts/%d", &index) == 1)
		return add_terminal(scan, (struct wptrack_terminal){ .index = index, .pid = pid });
	if (!strncmp(link, "/dev/ptmx", 9) || !strncmp(link, "/dev/pts/ptmx", 13))
		return look_at_master(scan, pid, number);
	if (!strcmp(link, "anon_inode:[io_uring]"))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_IO_URING, pid, NULL);
	else if (!strncmp(link, "anon_inode:", 11) && !is_known(link + 11))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_ANON_INODE, pid, "%s", link + 11);
	else if (link[0] == '/')
		look_at_file(scan, pid, number, link);
	return 0;
}

static int look_at_descriptors(struct wptrack_obstacle_scan *scan, pid_t pid)
{
	char path[64], link[PATH_MAX];
	const struct dirent *entry;
	int err = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !err && (entry = readdir(dir))) {
		const ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (len < 0)
			continue;
		link[len] = '\0';
		err = look_at_descriptor(scan, pid, entry->d_name, link);
	}
	if (dir)
		closedir(dir);
	return err;
}

/* ---------------------------------------------------------------- mappings */

/* Does the tree have an IPC namespace that is not ours? Its objects are dumped with it. */
static bool has_own_ipc(pid_t root)
{
	char path[64], theirs[64] = "", ours[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", root);
	return readlink(path, theirs, sizeof(theirs) - 1) > 0 &&
	       readlink("/proc/self/ns/ipc", ours, sizeof(ours) - 1) > 0 && strcmp(theirs, ours);
}

static bool is_on_local_device(const struct wptrack_obstacle_scan *scan, unsigned int major, unsigned int minor)
{
	bool found = false;

	for (size_t i = 0; i < scan->nr_mounts; i++) {
		if (scan->mounts[i].major != major || scan->mounts[i].minor != minor)
			continue;
		if (!scan->mounts[i].is_local)
			return false;
		found = true;
	}
	return found;
}

static void look_at_mapping(struct wptrack_obstacle_scan *scan, pid_t pid, bool own_ipc, char *line)
{
	unsigned int major, minor;
	uint64_t start, end;
	char path[128];
	int at = 0;
	char *name;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %x:%x %*s %n", &start, &end, &major, &minor, &at) != 4 || !at)
		return;
	name = line + at;
	if (!strncmp(name, "/SYSV", 5) && !own_ipc)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_SYSV, pid, NULL);
	if (!strcmp(name, "[uprobes]"))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_UPROBES, pid, NULL);
	if (!strncmp(name, "anon_inode:[io_uring]", 21))
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_IO_URING, pid, NULL);
	if (name[0] != '/' || !ends_with(name, DELETED) || !is_on_local_device(scan, major, minor))
		return;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, start, end);
	name[strlen(name) - strlen(DELETED)] = '\0';
	look_at_unlinked(scan, pid, path, name);
}

static void look_at_mappings(struct wptrack_obstacle_scan *scan, pid_t pid)
{
	const bool own_ipc = has_own_ipc(scan->tree->pids[0]);
	char line[PATH_MAX + 128], path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		look_at_mapping(scan, pid, own_ipc, line);
	if (f)
		fclose(f);
}

int wptrack_obstacles_of_files(struct wptrack_obstacle_scan *scan, pid_t pid)
{
	const int err = look_at_descriptors(scan, pid);

	if (!err)
		look_at_mappings(scan, pid);
	return err;
}
