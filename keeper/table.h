/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the keeper holds: one entry per tracked process, found by its pid and the
 * pid namespace it is that in, and the
 * sessions they belong to. An entry never outlives its process or its memory
 * for longer than it takes to be asked about.
 */
#ifndef WPTRACK_TABLE_H
#define WPTRACK_TABLE_H

#include <stdint.h>

#include "lib/wire.h"

/* A chain of rounds. Lives while a task or a connection refers to it. */
struct wptrack_session {
	uint8_t id[WPTRACK_ID_LEN];
	uint64_t generation; /* given out last; 0: none yet */
	unsigned int refs;
};

struct wptrack_entry {
	struct wptrack_task info;	 /* generation: committed last, 0: none */
	struct wptrack_session *session; /* of the last commit; NULL: never committed */
	uint64_t owner;			 /* connection that works on it; 0: nobody */
	int pidfd;
	int uffd; /* -1: prepared for, see WPTRACK_OP_PREPARE */
	struct wptrack_entry *next_released;
};

struct wptrack_table {
	struct wptrack_entry **entries; /* sorted by pid, then by pid namespace */
	unsigned int nr;
	unsigned int room; /* allocated slots */
	unsigned int cap;  /* entries at most */
	uint64_t last_mm_id;
	int epfd;
	struct wptrack_entry *released; /* no entries any more, but not closed yet; in epfd, too */
};

/* How a task's pidfd is told from the loop's other descriptors in epoll data; its pid is in the low half. */
#define WPTRACK_EVENT_TASK (1ull << 32)

/**
 * wptrack_table_find - look a process up
 * @table:	table
 * @who:	pid and pid_ns of it are looked at
 *
 * An entry whose process or memory is gone is dropped on the way.
 *
 * Return: the entry, valid until the table is next changed, or NULL.
 */
struct wptrack_entry *wptrack_table_find(struct wptrack_table *table, const struct wptrack_task *who);

/* Like wptrack_table_find(), by position from 0. */
struct wptrack_entry *wptrack_table_at(struct wptrack_table *table, uint32_t index);

/**
 * wptrack_table_add - hold a process from now on
 * @table:	table, with no entry of that task
 * @info:	pid, pid_ns, start_time, mm_stamp and comm are taken from it
 * @fds:	pidfd and userfaultfd, -1 for one that is only prepared; the table's on success
 * @ret:	the new entry; may be NULL
 *
 * Return: 0, -EINVAL when a descriptor is not what it is said to be, -ESRCH
 * when the process is gone, -ENOSPC when the table is full, or -errno.
 */
int wptrack_table_add(struct wptrack_table *table, const struct wptrack_task *info, const int fds[2],
		      struct wptrack_entry **ret);

/* Let an entry go; its memory is tracked no longer, unless others hold the userfaultfd. */
void wptrack_table_drop(struct wptrack_table *table, struct wptrack_entry *entry);

/*
 * Like wptrack_table_drop(), but what it holds is closed later: to close the last
 * userfaultfd un-protects all of the process's memory, unless it has exited.
 */
void wptrack_table_release(struct wptrack_table *table, struct wptrack_entry *entry);

/* Close what has been released of @who, NULL: of all. Before that nobody else can track it. */
void wptrack_table_close_released(struct wptrack_table *table, const struct wptrack_task *who);

/* A process of that number has ended, in whatever pid namespace: drop what is gone of them, and close what was released. */
void wptrack_table_ended(struct wptrack_table *table, int32_t pid);

/* Drop every entry whose process or memory is gone, and close what has been released. */
void wptrack_table_sweep(struct wptrack_table *table);

/* Make every entry of @owner nobody's. */
void wptrack_table_disown(struct wptrack_table *table, uint64_t owner);

/* Drop all entries and free the table's memory. */
void wptrack_table_clear(struct wptrack_table *table);

/* New session with one reference, NULL when out of memory or randomness. */
struct wptrack_session *wptrack_session_new(void);

/* Another reference to @session; NULL is fine. Return: @session. */
struct wptrack_session *wptrack_session_get(struct wptrack_session *session);

/* Give a reference back; NULL is fine. */
void wptrack_session_put(struct wptrack_session *session);

#endif
