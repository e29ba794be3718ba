/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/sys_uffd.h"
#include "table.h"

struct wptrack_session *wptrack_session_new(void)
{
	struct wptrack_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	if (getrandom(session->id, sizeof(session->id), 0) != sizeof(session->id)) {
		free(session);
		return NULL;
	}
	session->refs = 1;
	return session;
}

struct wptrack_session *wptrack_session_get(struct wptrack_session *session)
{
	if (session)
		session->refs++;
	return session;
}

void wptrack_session_put(struct wptrack_session *session)
{
	if (session && --session->refs == 0)
		free(session);
}

static bool process_is_gone(int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

	/* A pidfd that cannot be asked is as good as none. */
	return poll(&pfd, 1, 0) != 0;
}

static bool entry_is_gone(const struct wptrack_entry *entry)
{
	return process_is_gone(entry->pidfd) || (entry->uffd >= 0 && wptrack_uffd_memory_is_gone(entry->uffd));
}

/* By number first, so that those of all pid namespaces lie side by side. */
static bool is_before(const struct wptrack_task *a, const struct wptrack_task *b)
{
	return a->pid != b->pid ? a->pid < b->pid : a->pid_ns < b->pid_ns;
}

static bool is_same(const struct wptrack_task *a, const struct wptrack_task *b)
{
	return a->pid == b->pid && a->pid_ns == b->pid_ns;
}

/* Position of a task, or where it belongs. */
static unsigned int position_of(const struct wptrack_table *table, const struct wptrack_task *who)
{
	unsigned int low = 0;
	unsigned int high = table->nr;

	while (low < high) {
		const unsigned int middle = low + (high - low) / 2;

		if (is_before(&table->entries[middle]->info, who))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void free_entry(struct wptrack_table *table, struct wptrack_entry *entry)
{
	/* Closing is not enough: the caller of ADD may hold the same open file. */
	epoll_ctl(table->epfd, EPOLL_CTL_DEL, entry->pidfd, NULL);
	close(entry->pidfd);
	if (entry->uffd >= 0)
		close(entry->uffd);
	wptrack_session_put(entry->session);
	free(entry);
}

static struct wptrack_entry *take_out_at(struct wptrack_table *table, unsigned int position)
{
	struct wptrack_entry *entry = table->entries[position];

	table->nr--;
	memmove(&table->entries[position], &table->entries[position + 1],
		(table->nr - position) * sizeof(*table->entries));
	return entry;
}

static void drop_at(struct wptrack_table *table, unsigned int position)
{
	free_entry(table, take_out_at(table, position));
}

void wptrack_table_drop(struct wptrack_table *table, struct wptrack_entry *entry)
{
	drop_at(table, position_of(table, &entry->info));
}

void wptrack_table_release(struct wptrack_table *table, struct wptrack_entry *entry)
{
	take_out_at(table, position_of(table, &entry->info));
	wptrack_session_put(entry->session);
	entry->session = NULL;
	entry->next_released = table->released;
	table->released = entry;
}

static void close_released(struct wptrack_table *table, const struct wptrack_task *who,
			   bool (*is_wanted)(const struct wptrack_task *a, const struct wptrack_task *b))
{
	struct wptrack_entry **link = &table->released;

	while (*link) {
		struct wptrack_entry *entry = *link;

		if (who && !is_wanted(&entry->info, who)) {
			link = &entry->next_released;
			continue;
		}
		*link = entry->next_released;
		free_entry(table, entry);
	}
}

void wptrack_table_close_released(struct wptrack_table *table, const struct wptrack_task *who)
{
	close_released(table, who, is_same);
}

struct wptrack_entry *wptrack_table_find(struct wptrack_table *table, const struct wptrack_task *who)
{
	const unsigned int position = position_of(table, who);

	if (position == table->nr || !is_same(&table->entries[position]->info, who))
		return NULL;
	if (entry_is_gone(table->entries[position])) {
		drop_at(table, position);
		return NULL;
	}
	return table->entries[position];
}

static bool has_same_number(const struct wptrack_task *a, const struct wptrack_task *b)
{
	return a->pid == b->pid;
}

void wptrack_table_ended(struct wptrack_table *table, int32_t pid)
{
	const struct wptrack_task first = { .pid = pid };
	unsigned int at = position_of(table, &first);

	while (at < table->nr && table->entries[at]->info.pid == pid)
		if (entry_is_gone(table->entries[at]))
			drop_at(table, at);
		else
			at++;
	close_released(table, &first, has_same_number);
}

struct wptrack_entry *wptrack_table_at(struct wptrack_table *table, uint32_t index)
{
	while (index < table->nr) {
		if (!entry_is_gone(table->entries[index]))
			return table->entries[index];
		drop_at(table, index);
	}
	return NULL;
}

/* One pass that closes the gaps at the end: thousands may be gone at once. */
void wptrack_table_sweep(struct wptrack_table *table)
{
	unsigned int kept = 0;

	wptrack_table_close_released(table, NULL);
	for (unsigned int i = 0; i < table->nr; i++) {
		struct wptrack_entry *entry = table->entries[i];

		if (entry_is_gone(entry))
			free_entry(table, entry);
		else
			table->entries[kept++] = entry;
	}
	table->nr = kept;
}

/*
 * Is @fd a pidfd of that task? It says the process's number here, and in the pid
 * namespaces below, of which one may be the task's. Of a process of a namespace
 * beside or above ours it says 0, and then the number cannot be checked.
 *
 * Return: 1 or 0, or -ESRCH: a pidfd of a process that was waited for names none.
 */
static int is_pidfd_of(int fd, const struct wptrack_task *who)
{
	char path[64], line[256], *at;
	int seen, len, is = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	if (!info)
		return 0;
	while (!is && fgets(line, sizeof(line), info)) {
		if (sscanf(line, "Pid: %d", &seen) == 1) {
			if (seen == -1)
				is = -ESRCH;
			else if (who->pid_ns == wptrack_wire_pid_ns())
				is = seen == who->pid;
			else
				is = seen == 0;
		} else if (who->pid_ns != wptrack_wire_pid_ns() && !strncmp(line, "NSpid:", 6)) {
			for (at = line + 6; !is && sscanf(at, "%d%n", &seen, &len) == 1; at += len)
				is = seen == who->pid;
		}
	}
	fclose(info);
	return is;
}

static bool is_userfaultfd(int fd)
{
	static const char expected[] = "anon_inode:[userfaultfd]";
	char path[64], link[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, link, sizeof(link));
	return len == (ssize_t)sizeof(expected) - 1 && !memcmp(link, expected, sizeof(expected) - 1);
}

static int check_fds(const struct wptrack_task *who, const int fds[2])
{
	int is;

	if (who->pid <= 0)
		return -EINVAL;
	is = is_pidfd_of(fds[0], who);
	if (is != 1)
		return is ? is : -EINVAL;
	if (fds[1] >= 0 && !is_userfaultfd(fds[1]))
		return -EINVAL;
	return process_is_gone(fds[0]) || (fds[1] >= 0 && wptrack_uffd_memory_is_gone(fds[1])) ? -ESRCH : 0;
}

static int make_room(struct wptrack_table *table)
{
	const unsigned int room = table->room ? table->room * 2 : 16;
	struct wptrack_entry **entries;

	if (table->nr >= table->cap)
		return -ENOSPC;
	if (table->nr < table->room)
		return 0;
	entries = reallocarray(table->entries, room, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	table->entries = entries;
	table->room = room;
	return 0;
}

int wptrack_table_add(struct wptrack_table *table, const struct wptrack_task *info, const int fds[2],
		      struct wptrack_entry **ret)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct wptrack_entry *entry;
	unsigned int position;
	int err;

	err = check_fds(info, fds);
	if (!err)
		err = make_room(table);
	if (err)
		return err;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	event.data.u64 = WPTRACK_EVENT_TASK | (uint32_t)info->pid;
	if (epoll_ctl(table->epfd, EPOLL_CTL_ADD, fds[0], &event)) {
		err = -errno;
		free(entry);
		return err;
	}

	entry->info.pid = info->pid;
	entry->info.pid_ns = info->pid_ns;
	entry->info.start_time = info->start_time;
	entry->info.mm_stamp = info->mm_stamp;
	entry->info.mm_id = ++table->last_mm_id;
	memcpy(entry->info.comm, info->comm, sizeof(entry->info.comm));
	entry->pidfd = fds[0];
	entry->uffd = fds[1];

	position = position_of(table, info);
	memmove(&table->entries[position + 1], &table->entries[position],
		(table->nr - position) * sizeof(*table->entries));
	table->entries[position] = entry;
	table->nr++;
	if (ret)
		*ret = entry;
	return 0;
}

void wptrack_table_disown(struct wptrack_table *table, uint64_t owner)
{
	for (unsigned int i = 0; i < table->nr; i++)
		if (table->entries[i]->owner == owner)
			table->entries[i]->owner = 0;
}

void wptrack_table_clear(struct wptrack_table *table)
{
	wptrack_table_close_released(table, NULL);
	while (table->nr)
		drop_at(table, table->nr - 1);
	free(table->entries);
	table->entries = NULL;
	table->room = 0;
}
