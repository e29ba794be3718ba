/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Session record: image <-> struct. What a file says is believed only when all
 * of it is well-formed, since a wrong record would turn into lost pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "session.h"
#include "wptrack.pb-c.h"

#define CRIU_COMMON_MAGIC    0x54564319u
#define WPTRACK_RECORD_MAGIC 0x57505452u /* "WPTR" */
#define PAYLOAD_MAX_BYTES    (64u << 20)
#define TEMP_NAME_LEN	     64
#define TEMP_NAME_TRIES	     8

#define SAME(image, internal) \
	_Static_assert((unsigned int)(image) == (unsigned int)(internal), "image numbers are final")

SAME(WPTRACK__BASIS__INCREMENTAL, WPTRACK_BASIS_INCREMENTAL);
SAME(WPTRACK__BASIS__NO_PARENT, WPTRACK_BASIS_NO_PARENT);
SAME(WPTRACK__BASIS__NEW_TASK, WPTRACK_BASIS_NEW_TASK);
SAME(WPTRACK__BASIS__CHAIN_BROKEN, WPTRACK_BASIS_CHAIN_BROKEN);
SAME(WPTRACK__BASIS__UNTRUSTED, WPTRACK_BASIS_UNTRUSTED);
SAME(WPTRACK__BASIS__UNTRACKED, WPTRACK_BASIS_UNTRACKED);
SAME(WPTRACK__BASIS__UNTRACKED + 1, WPTRACK_BASIS_NR);
SAME(WPTRACK__REFUSAL__FILE, WPTRACK_REFUSED_FILE);
SAME(WPTRACK__REFUSAL__SHARED, WPTRACK_REFUSED_SHARED);
SAME(WPTRACK__REFUSAL__HUGETLB, WPTRACK_REFUSED_HUGETLB);
SAME(WPTRACK__REFUSAL__SPECIAL, WPTRACK_REFUSED_SPECIAL);
SAME(WPTRACK__REFUSAL__BUSY, WPTRACK_REFUSED_BUSY);
SAME(WPTRACK__REFUSAL__KERNEL, WPTRACK_REFUSED_KERNEL);
SAME(WPTRACK__REFUSAL__LIMIT, WPTRACK_REFUSED_LIMIT);
SAME(WPTRACK__REFUSAL__LIMIT + 1, WPTRACK_REFUSED_NR);

struct record_header {
	uint32_t common_magic;
	uint32_t magic;
	uint32_t payload_bytes;
};

static void free_message(Wptrack__RecordEntry **msg)
{
	if (*msg)
		wptrack__record_entry__free_unpacked(*msg, NULL);
}

/* Lower-case hex digits and four dashes, as the kernel prints it. */
static bool boot_id_is_valid(const char *id)
{
	if (strnlen(id, WPTRACK_BOOT_ID_LEN) != WPTRACK_BOOT_ID_LEN - 1)
		return false;
	for (size_t i = 0; i < WPTRACK_BOOT_ID_LEN - 1; i++) {
		const bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? id[i] != '-' : !strchr("0123456789abcdef", id[i]))
			return false;
	}
	return true;
}

static int compare_pids(const void *a, const void *b)
{
	const int32_t x = *(const int32_t *)a;
	const int32_t y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

/* -EBADMSG when two tasks share a pid: which of them would be believed? */
static int check_pids_differ(const struct wptrack_record *rec)
{
	int ret = 0;
	int32_t *pids;

	if (rec->nr_tasks < 2)
		return 0;
	pids = calloc(rec->nr_tasks, sizeof(*pids));
	if (!pids)
		return -ENOMEM;
	for (size_t i = 0; i < rec->nr_tasks; i++)
		pids[i] = rec->tasks[i].info.pid;
	qsort(pids, rec->nr_tasks, sizeof(*pids), compare_pids);
	for (size_t i = 1; i < rec->nr_tasks && !ret; i++)
		if (pids[i] == pids[i - 1])
			ret = -EBADMSG;
	free(pids);
	return ret;
}

/* What holds for every record, be it read or about to be written. */
static int check_record(const struct wptrack_record *rec)
{
	if (!boot_id_is_valid(rec->boot_id))
		return -EBADMSG;
	if (!rec->generation || rec->parent_generation >= rec->generation)
		return -EBADMSG;
	for (size_t i = 0; i < rec->nr_tasks; i++) {
		const struct wptrack_record_task *task = &rec->tasks[i];

		if (task->info.pid <= 0 || (unsigned int)task->basis >= WPTRACK_BASIS_NR)
			return -EBADMSG;
		if (!memchr(task->info.comm, '\0', sizeof(task->info.comm)))
			return -EBADMSG;
	}
	return check_pids_differ(rec);
}

static int refusals_from_image(const Wptrack__TaskEntry *entry, struct wptrack_task *info)
{
	for (size_t i = 0; i < entry->n_refused; i++) {
		const unsigned int reason = entry->refused[i]->reason;
		const uint32_t vmas = entry->refused[i]->vmas;

		if (reason >= WPTRACK_REFUSED_NR || !vmas || info->vmas_refused[reason])
			return -EBADMSG;
		info->vmas_refused[reason] = vmas;
	}
	return 0;
}

static int task_from_image(const Wptrack__TaskEntry *entry, const uint8_t *session, struct wptrack_record_task *task)
{
	struct wptrack_task *info = &task->info;

	if (entry->comm.len >= sizeof(info->comm) ||
	    (entry->comm.len && memchr(entry->comm.data, '\0', entry->comm.len)))
		return -EBADMSG;

	/* One that does not fit comes out negative, and check_record() refuses that. */
	info->pid = (int32_t)entry->pid;
	info->start_time = entry->start_time;
	info->mm_stamp = entry->mm_stamp;
	info->mm_id = entry->mm_id;
	info->vmas_registered = entry->vmas_registered;
	info->registered_bytes = entry->registered_bytes;
	info->pages_written = entry->pages_written;
	info->pages_clean = entry->pages_clean;
	memcpy(info->session, session, sizeof(info->session));
	if (entry->comm.len)
		memcpy(info->comm, entry->comm.data, entry->comm.len);
	task->basis = (enum wptrack_basis)entry->basis;
	task->io_uring = entry->has_io_uring ? entry->io_uring : task->basis == WPTRACK_BASIS_UNTRUSTED;
	return refusals_from_image(entry, info);
}

static int record_from_image(const Wptrack__RecordEntry *msg, struct wptrack_record **ret)
{
	struct wptrack_record *rec WPTRACK_CLEANUP(wptrack_record_end) = NULL;
	int err;

	if (msg->session_id.len != WPTRACK_ID_LEN || !boot_id_is_valid(msg->boot_id))
		return -EBADMSG;
	rec = calloc(1, sizeof(*rec));
	if (!rec)
		return -ENOMEM;
	memcpy(rec->session, msg->session_id.data, WPTRACK_ID_LEN);
	memcpy(rec->boot_id, msg->boot_id, WPTRACK_BOOT_ID_LEN);
	rec->generation = msg->generation;
	rec->parent_generation = msg->parent_generation;
	rec->final = msg->final;

	if (msg->n_tasks) {
		rec->tasks = calloc(msg->n_tasks, sizeof(*rec->tasks));
		if (!rec->tasks)
			return -ENOMEM;
	}
	for (; rec->nr_tasks < msg->n_tasks; rec->nr_tasks++) {
		struct wptrack_record_task *task = &rec->tasks[rec->nr_tasks];

		err = task_from_image(msg->tasks[rec->nr_tasks], rec->session, task);
		if (err)
			return err;
		task->info.generation = rec->generation;
	}
	err = check_record(rec);
	if (err)
		return err;

	*ret = rec;
	rec = NULL;
	return 0;
}

static int read_full(int fd, void *buf, size_t len)
{
	uint8_t *pos = buf;

	while (len) {
		const ssize_t got = read(fd, pos, len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG;
		pos += got;
		len -= (size_t)got;
	}
	return 0;
}

static int open_record(int dirfd, const char *subdir, int *ret_fd)
{
	int sub WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	int fd;

	sub = openat(dirfd, subdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sub < 0)
		return -errno;
	/* O_NONBLOCK: a FIFO of that name must not hang the dump. */
	fd = openat(sub, WPTRACK_RECORD_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -EBADMSG : -errno;
	*ret_fd = fd;
	return 0;
}

/* Read header and payload; the file ends where the header says it does. */
static int read_payload(int fd, uint8_t **ret_buf, size_t *ret_len)
{
	struct record_header header;
	uint8_t *buf;
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	err = read_full(fd, &header, sizeof(header));
	if (err)
		return err;
	if (header.common_magic != CRIU_COMMON_MAGIC || header.magic != WPTRACK_RECORD_MAGIC ||
	    header.payload_bytes > PAYLOAD_MAX_BYTES ||
	    st.st_size != (off_t)sizeof(header) + (off_t)header.payload_bytes)
		return -EBADMSG;

	buf = malloc(header.payload_bytes + 1);
	if (!buf)
		return -ENOMEM;
	err = read_full(fd, buf, header.payload_bytes);
	if (err) {
		free(buf);
		return err;
	}
	*ret_buf = buf;
	*ret_len = header.payload_bytes;
	return 0;
}

int wptrack_record_read(int dirfd, const char *subdir, struct wptrack_record **ret)
{
	Wptrack__RecordEntry *msg WPTRACK_CLEANUP(free_message) = NULL;
	uint8_t *buf WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	size_t len = 0;
	int err;

	err = open_record(dirfd, subdir, &fd);
	if (err)
		return err;
	err = read_payload(fd, &buf, &len);
	if (err)
		return err;
	msg = wptrack__record_entry__unpack(NULL, len, buf);
	if (!msg)
		return -EBADMSG;
	return record_from_image(msg, ret);
}

static void task_to_image(const struct wptrack_record_task *task, Wptrack__TaskEntry *entry,
			  Wptrack__RefusedEntry *refused, Wptrack__RefusedEntry **refused_ptrs)
{
	const struct wptrack_task *info = &task->info;

	wptrack__task_entry__init(entry);
	entry->pid = (uint32_t)info->pid;
	entry->start_time = info->start_time;
	entry->mm_stamp = info->mm_stamp;
	entry->mm_id = info->mm_id;
	entry->comm.data = (uint8_t *)info->comm;
	entry->comm.len = strlen(info->comm);
	entry->basis = (Wptrack__Basis)task->basis;
	entry->has_io_uring = true;
	entry->io_uring = task->io_uring;
	entry->vmas_registered = info->vmas_registered;
	entry->registered_bytes = info->registered_bytes;
	entry->pages_written = info->pages_written;
	entry->pages_clean = info->pages_clean;

	entry->refused = refused_ptrs;
	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++) {
		Wptrack__RefusedEntry *one = &refused[i];

		if (!info->vmas_refused[i])
			continue;
		wptrack__refused_entry__init(one);
		one->reason = (Wptrack__Refusal)i;
		one->vmas = info->vmas_refused[i];
		entry->refused[entry->n_refused++] = one;
	}
}

/* One allocation per kind for all tasks; the record's own bytes are referred to, not copied. */
struct image_tasks {
	Wptrack__TaskEntry *entries;
	Wptrack__TaskEntry **ptrs;
	Wptrack__RefusedEntry *refused;
	Wptrack__RefusedEntry **refused_ptrs;
};

static void free_image_tasks(struct image_tasks *tasks)
{
	free(tasks->entries);
	free(tasks->ptrs);
	free(tasks->refused);
	free(tasks->refused_ptrs);
}

static int tasks_to_image(const struct wptrack_record *rec, struct image_tasks *tasks)
{
	const size_t nr = rec->nr_tasks;

	tasks->entries = calloc(nr + 1, sizeof(*tasks->entries));
	tasks->ptrs = calloc(nr + 1, sizeof(*tasks->ptrs));
	tasks->refused = calloc(nr + 1, WPTRACK_REFUSED_NR * sizeof(*tasks->refused));
	tasks->refused_ptrs = calloc(nr + 1, WPTRACK_REFUSED_NR * sizeof(*tasks->refused_ptrs));
	if (!tasks->entries || !tasks->ptrs || !tasks->refused || !tasks->refused_ptrs)
		return -ENOMEM;
	for (size_t i = 0; i < nr; i++) {
		task_to_image(&rec->tasks[i], &tasks->entries[i], &tasks->refused[i * WPTRACK_REFUSED_NR],
			      &tasks->refused_ptrs[i * WPTRACK_REFUSED_NR]);
		tasks->ptrs[i] = &tasks->entries[i];
	}
	return 0;
}

/* Header and payload in one buffer. */
static int record_to_image(const struct wptrack_record *rec, uint8_t **ret_buf, size_t *ret_len)
{
	struct image_tasks tasks WPTRACK_CLEANUP(free_image_tasks) = { 0 };
	struct record_header header = { CRIU_COMMON_MAGIC, WPTRACK_RECORD_MAGIC, 0 };
	Wptrack__RecordEntry msg = WPTRACK__RECORD_ENTRY__INIT;
	size_t payload;
	uint8_t *buf;
	int err;

	err = tasks_to_image(rec, &tasks);
	if (err)
		return err;
	msg.session_id.data = (uint8_t *)rec->session;
	msg.session_id.len = WPTRACK_ID_LEN;
	msg.boot_id = (char *)rec->boot_id;
	msg.generation = rec->generation;
	msg.parent_generation = rec->parent_generation;
	msg.final = rec->final;
	msg.tasks = tasks.ptrs;
	msg.n_tasks = rec->nr_tasks;

	payload = wptrack__record_entry__get_packed_size(&msg);
	if (payload > PAYLOAD_MAX_BYTES)
		return -EFBIG;
	buf = malloc(sizeof(header) + payload);
	if (!buf)
		return -ENOMEM;
	header.payload_bytes = (uint32_t)payload;
	memcpy(buf, &header, sizeof(header));
	wptrack__record_entry__pack(&msg, buf + sizeof(header));
	*ret_buf = buf;
	*ret_len = sizeof(header) + payload;
	return 0;
}

static int write_full(int fd, const uint8_t *buf, size_t len)
{
	while (len) {
		const ssize_t put = write(fd, buf, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		buf += put;
		len -= (size_t)put;
	}
	return 0;
}

/* A random name: one left behind by a killed writer is in nobody's way. */
static int open_temp(int dirfd, char name[TEMP_NAME_LEN], int *ret_fd)
{
	for (int i = 0; i < TEMP_NAME_TRIES; i++) {
		uint64_t salt;
		int fd;

		if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
			return -EIO;
		snprintf(name, TEMP_NAME_LEN, "." WPTRACK_RECORD_NAME ".%016" PRIx64, salt);
		fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int wptrack_record_write(int dirfd, const struct wptrack_record *rec)
{
	uint8_t *buf WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	char temp[TEMP_NAME_LEN];
	size_t len = 0;
	int fd = -1;
	int err;

	/* What could not be read back is not written. */
	err = check_record(rec);
	if (err)
		return err == -EBADMSG ? -EINVAL : err;
	err = record_to_image(rec, &buf, &len);
	if (err)
		return err;
	err = open_temp(dirfd, temp, &fd);
	if (err)
		return err;

	err = write_full(fd, buf, len);
	/* The umask may have taken bits away, but never adds any. */
	if (!err && fchmod(fd, 0600))
		err = -errno;
	/* Network file systems report a failed write no earlier than here. */
	if (close(fd) && !err)
		err = -errno;
	if (!err && renameat(dirfd, temp, dirfd, WPTRACK_RECORD_NAME))
		err = -errno;
	if (err)
		unlinkat(dirfd, temp, 0);
	return err;
}

int wptrack_record_remove(int dirfd)
{
	if (unlinkat(dirfd, WPTRACK_RECORD_NAME, 0) && errno != ENOENT)
		return -errno;
	return 0;
}

void wptrack_record_free(struct wptrack_record *rec)
{
	if (!rec)
		return;
	free(rec->tasks);
	free(rec);
}

void wptrack_record_end(struct wptrack_record **rec)
{
	wptrack_record_free(*rec);
}

const struct wptrack_record_task *wptrack_record_find(const struct wptrack_record *rec, int32_t pid)
{
	for (size_t i = 0; i < rec->nr_tasks; i++)
		if (rec->tasks[i].info.pid == pid)
			return &rec->tasks[i];
	return NULL;
}

const char *wptrack_basis_name(unsigned int basis)
{
	static const char *const names[WPTRACK_BASIS_NR] = {
		[WPTRACK_BASIS_INCREMENTAL] = "incremental",
		[WPTRACK_BASIS_NO_PARENT] = "full: no parent given",
		[WPTRACK_BASIS_NEW_TASK] = "full: not tracked before",
		[WPTRACK_BASIS_CHAIN_BROKEN] = "full: the parent is not the last round",
		[WPTRACK_BASIS_UNTRUSTED] = "full: pinned memory or asynchronous I/O",
		[WPTRACK_BASIS_UNTRACKED] = "full: cannot be tracked",
	};

	return basis < WPTRACK_BASIS_NR ? names[basis] : "?";
}

void wptrack_id_format(const uint8_t id[WPTRACK_ID_LEN], char buf[2 * WPTRACK_ID_LEN + 1])
{
	for (size_t i = 0; i < WPTRACK_ID_LEN; i++)
		snprintf(buf + 2 * i, 3, "%02x", id[i]);
}
