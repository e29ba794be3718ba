/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Session record: the file wptrack.img in an images directory, which says what
 * round of what session the directory holds. Framed as CRIU frames its images:
 * common magic, own magic, then length and protobuf message (images/wptrack.proto).
 */
#ifndef WPTRACK_SESSION_H
#define WPTRACK_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#define WPTRACK_RECORD_NAME "wptrack.img"
#define WPTRACK_BOOT_ID_LEN 37 /* 36 characters and NUL */

/* How a task was dumped in a round. */
enum wptrack_basis {
	WPTRACK_BASIS_INCREMENTAL = 0, /* proven: pages clean since the parent's round are left to it */
	WPTRACK_BASIS_NO_PARENT,       /* no parent directory was given */
	WPTRACK_BASIS_NEW_TASK,	       /* not tracked before (new process, exec, keeper gone) */
	WPTRACK_BASIS_CHAIN_BROKEN,    /* the parent is not the round committed last */
	WPTRACK_BASIS_UNTRUSTED,       /* pinned memory or asynchronous I/O: writes may go unseen */
	WPTRACK_BASIS_UNTRACKED,       /* no userfaultfd could be had for it */
	WPTRACK_BASIS_NR,
};

struct wptrack_record_task {
	struct wptrack_task info;
	enum wptrack_basis basis;
	bool io_uring; /* it had one open when it was collected */
};

struct wptrack_record {
	uint8_t session[WPTRACK_ID_LEN];
	uint64_t generation;
	uint64_t parent_generation; /* 0: none, or not this session's */
	char boot_id[WPTRACK_BOOT_ID_LEN];
	bool final; /* written by dump, not by pre-dump */
	struct wptrack_record_task *tasks;
	size_t nr_tasks;
};

/**
 * wptrack_record_read - read the session record of an images directory
 * @dirfd:	images directory
 * @subdir:	"." or CRIU's "parent" link below it
 * @ret:	record, free with wptrack_record_free()
 *
 * Return: 0, -ENOENT when there is none, -EBADMSG when it is not a whole,
 * well-formed record (nothing in it is believed then), or -errno.
 */
int wptrack_record_read(int dirfd, const char *subdir, struct wptrack_record **ret);

/**
 * wptrack_record_write - write the session record of an images directory
 * @dirfd:	images directory
 * @rec:	record, stays the caller's
 *
 * The file appears whole (mode 0600) or not at all, and never through a link.
 *
 * Return: 0 or -errno.
 */
int wptrack_record_write(int dirfd, const struct wptrack_record *rec);

/* Remove the record; one that is not there is no error. Return: 0 or -errno. */
int wptrack_record_remove(int dirfd);

/* Free a record; NULL is fine. */
void wptrack_record_free(struct wptrack_record *rec);

/* The same, for WPTRACK_CLEANUP(). */
void wptrack_record_end(struct wptrack_record **rec);

/* Find a task by pid. Return: the task or NULL. */
const struct wptrack_record_task *wptrack_record_find(const struct wptrack_record *rec, int32_t pid);

/* Static text for an enum wptrack_basis, "?" outside of it. */
const char *wptrack_basis_name(unsigned int basis);

/* Format a session id as 32 hex digits and NUL into @buf. */
void wptrack_id_format(const uint8_t id[WPTRACK_ID_LEN], char buf[2 * WPTRACK_ID_LEN + 1]);

#endif
