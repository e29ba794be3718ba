// SPDX-License-Identifier: GPL-2.0-only
/*
 * Session records: whatever lies in wptrack.img, it is either refused or keeps
 * what session.h promises, and is the same after it has been written again.
 * Whatever is given to the writer, it is either refused or can be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/session.h"

#define HEADER_BYTES 12u
#define MAX_TASKS    8u

enum {
	RAW,	/* the input is the file */
	FRAMED, /* the input is the payload */
	LINKED, /* the input is the payload, of a file that the name is a link to */
	BUILT,	/* a record is made of the input and given to the writer */
	KINDS,
};

static int given = -1, again = -1;
static char top[64];

static void remove_dirs(void)
{
	char path[80];

	wptrack_record_remove(given);
	unlinkat(given, "linked", 0);
	wptrack_record_remove(again);
	snprintf(path, sizeof(path), "%s/given", top);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/again", top);
	rmdir(path);
	rmdir(top);
}

/* A file system of our own that nobody else sees, and that is gone when we are; -1: not allowed. */
static int private_tmpfs(void)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int mnt = -1;

	if (fs >= 0 && !fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (fs >= 0)
		close(fs);
	return mnt;
}

static int dir_in(int parent, const char *name)
{
	int fd;

	MUST(!mkdirat(parent, name, 0700));
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	return fd;
}

static void setup(void)
{
	int parent = private_tmpfs();

	if (parent < 0) {
		const char *tmp = getenv("TMPDIR");

		snprintf(top, sizeof(top), "%.40s/wptrack-fuzz.XXXXXX", tmp ? tmp : "/tmp");
		MUST(mkdtemp(top));
		parent = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		MUST(parent >= 0);
		atexit(remove_dirs);
	}
	given = dir_in(parent, "given");
	again = dir_in(parent, "again");
	close(parent);
}

/* Make a file of up to three pieces. */
static void put_file(const char *name, const void *header, const void *data, size_t len)
{
	int fd = openat(given, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	MUST(fd >= 0);
	MUST(!header || write(fd, header, HEADER_BYTES) == HEADER_BYTES);
	MUST(write(fd, data, len) == (ssize_t)len);
	close(fd);
}

static void put_framed(const char *name, const struct input *in)
{
	const uint32_t header[3] = { 0x54564319u, 0x57505452u, (uint32_t)in->left };

	put_file(name, header, in->data, in->left);
}

static void check_task(const struct wptrack_record_task *task, const struct wptrack_record *rec)
{
	MUST(task->info.pid > 0);
	MUST((unsigned int)task->basis < WPTRACK_BASIS_NR);
	MUST(memchr(task->info.comm, '\0', sizeof(task->info.comm)));
	/* That there is but one of a pid. */
	MUST(wptrack_record_find(rec, task->info.pid) == task);
	MUST(task->info.generation == rec->generation);
	MUST(!memcmp(task->info.session, rec->session, sizeof(rec->session)));
}

static void check_boot_id(const char *id)
{
	MUST(strnlen(id, WPTRACK_BOOT_ID_LEN) == WPTRACK_BOOT_ID_LEN - 1);
	for (size_t i = 0; i < WPTRACK_BOOT_ID_LEN - 1; i++)
		MUST(strchr(i == 8 || i == 13 || i == 18 || i == 23 ? "-" : "0123456789abcdef", id[i]));
}

static void check_record(const struct wptrack_record *rec)
{
	MUST(rec->generation > 0);
	MUST(rec->parent_generation < rec->generation);
	MUST(!rec->nr_tasks || rec->tasks);
	check_boot_id(rec->boot_id);
	for (size_t i = 0; i < rec->nr_tasks; i++)
		check_task(&rec->tasks[i], rec);
}

static void check_same_task(const struct wptrack_record_task *a, const struct wptrack_record_task *b)
{
	const struct wptrack_task *x = &a->info, *y = &b->info;

	MUST(a->basis == b->basis && x->pid == y->pid && !strcmp(x->comm, y->comm));
	MUST(x->start_time == y->start_time && x->mm_stamp == y->mm_stamp && x->mm_id == y->mm_id);
	MUST(x->vmas_registered == y->vmas_registered && x->registered_bytes == y->registered_bytes);
	MUST(x->pages_written == y->pages_written && x->pages_clean == y->pages_clean);
	MUST(!memcmp(x->vmas_refused, y->vmas_refused, sizeof(x->vmas_refused)));
}

static void check_same(const struct wptrack_record *a, const struct wptrack_record *b)
{
	MUST(!memcmp(a->session, b->session, sizeof(a->session)));
	MUST(a->generation == b->generation && a->parent_generation == b->parent_generation);
	MUST(!strcmp(a->boot_id, b->boot_id) && a->final == b->final && a->nr_tasks == b->nr_tasks);
	for (size_t i = 0; i < a->nr_tasks; i++)
		check_same_task(&a->tasks[i], &b->tasks[i]);
}

static unsigned int count_files(int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	unsigned int n = 0;

	MUST(dir);
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.' || (entry->d_name[1] && entry->d_name[1] != '.');
	closedir(dir);
	return n;
}

/* Nothing comes back from what is refused, and the only reason is that it is no record. */
static void must_refuse(int dirfd)
{
	struct wptrack_record *const untouched = (struct wptrack_record *)8;
	struct wptrack_record *rec = untouched;

	MUST(wptrack_record_read(dirfd, ".", &rec) == -EBADMSG);
	MUST(rec == untouched);
}

/* A file that has been accepted is no longer when its end has moved. */
static void check_whole(int dirfd)
{
	int fd = openat(dirfd, WPTRACK_RECORD_NAME, O_RDWR | O_CLOEXEC);
	struct stat st;

	MUST(fd >= 0 && !fstat(fd, &st));
	MUST(!ftruncate(fd, st.st_size + 1));
	must_refuse(dirfd);
	MUST(!ftruncate(fd, st.st_size - 1));
	must_refuse(dirfd);
	close(fd);
}

/* Write @rec and read it. */
static void check_written(const struct wptrack_record *rec)
{
	struct wptrack_record *twice = NULL;
	struct stat st;
	int err;

	MUST(!wptrack_record_write(again, rec));
	MUST(!fstatat(again, WPTRACK_RECORD_NAME, &st, AT_SYMLINK_NOFOLLOW));
	MUST(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600);
	MUST(count_files(again) == 1);
	err = wptrack_record_read(again, ".", &twice);
	MUST(!err);
	check_record(twice);
	check_same(rec, twice);
	wptrack_record_free(twice);
}

static void read_one(void)
{
	struct wptrack_record *rec = NULL;
	const int err = wptrack_record_read(given, ".", &rec);

	if (err) {
		MUST(err == -EBADMSG && !rec);
		return;
	}
	check_record(rec);
	check_written(rec);
	wptrack_record_free(rec);
	check_whole(given);
}

static void build_task(struct input *in, struct wptrack_record_task *task)
{
	struct wptrack_task *info = &task->info;
	uint8_t refused;

	info->pid = (int32_t)next_number(in);
	info->start_time = next_number(in);
	info->mm_stamp = next_number(in);
	info->mm_id = next_number(in);
	info->vmas_registered = (uint32_t)next_number(in);
	info->registered_bytes = next_number(in);
	info->pages_written = next_number(in);
	info->pages_clean = next_number(in);
	task->basis = (enum wptrack_basis)next_byte(in);
	next_bytes(in, info->comm, next_byte(in) % (sizeof(info->comm) + 1));
	refused = next_byte(in);
	for (unsigned int i = 0; i < WPTRACK_REFUSED_NR; i++)
		if (refused >> i & 1)
			info->vmas_refused[i] = (uint32_t)next_number(in);
}

static void write_one(struct input *in)
{
	struct wptrack_record_task tasks[MAX_TASKS] = { 0 };
	struct wptrack_record rec = { .tasks = tasks };
	int err;

	rec.nr_tasks = next_byte(in) % (MAX_TASKS + 1);
	memcpy(rec.boot_id, "01234567-89ab-cdef-0123-456789abcdef", WPTRACK_BOOT_ID_LEN);
	rec.final = rec.nr_tasks & 1;
	rec.generation = next_number(in);
	rec.parent_generation = next_number(in);
	for (size_t i = 0; i < rec.nr_tasks; i++)
		build_task(in, &tasks[i]);
	next_bytes(in, rec.session, sizeof(rec.session));
	if (next_byte(in) & 1)
		next_bytes(in, rec.boot_id, sizeof(rec.boot_id));
	for (size_t i = 0; i < rec.nr_tasks; i++) {
		memcpy(tasks[i].info.session, rec.session, sizeof(rec.session));
		tasks[i].info.generation = rec.generation;
	}
	err = wptrack_record_write(again, &rec);
	if (err) {
		MUST(err == -EINVAL && !count_files(again));
		return;
	}
	check_record(&rec);
	check_written(&rec);
	check_whole(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned int fds, kind;

	if (given < 0)
		setup();
	fds = count_fds();
	kind = next_byte(&in) % KINDS;
	if (kind == RAW)
		put_file(WPTRACK_RECORD_NAME, NULL, in.data, in.left);
	else if (kind != BUILT)
		put_framed(kind == LINKED ? "linked" : WPTRACK_RECORD_NAME, &in);
	if (kind == BUILT) {
		write_one(&in);
	} else if (kind == LINKED) {
		MUST(!symlinkat("linked", given, WPTRACK_RECORD_NAME));
		must_refuse(given);
		unlinkat(given, "linked", 0);
	} else {
		read_one();
	}
	MUST(!wptrack_record_remove(given));
	MUST(!wptrack_record_remove(again));
	MUST(count_fds() == fds);
	return 0;
}
