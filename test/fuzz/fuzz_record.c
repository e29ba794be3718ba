// SPDX-License-Identifier: GPL-2.0-only
/*
 * Session records: whatever lies in wptrack.img, it is either refused or keeps
 * what session.h promises, and is the same after it has been written again.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "session.h"

static int dir_of(const char *name)
{
	static char top[64];
	char path[128];
	int fd;

	if (!top[0]) {
		snprintf(top, sizeof(top), "%s/wptrack-fuzz.XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		MUST(mkdtemp(top));
	}
	snprintf(path, sizeof(path), "%s/%s", top, name);
	MUST(!mkdir(path, 0700));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(fd >= 0);
	return fd;
}

static int given = -1, again = -1;

static void remove_dirs(void)
{
	char link[64], path[2][128];
	ssize_t len;

	for (int i = 0; i < 2; i++) {
		wptrack_record_remove(i ? again : given);
		snprintf(link, sizeof(link), "/proc/self/fd/%d", i ? again : given);
		len = readlink(link, path[i], sizeof(path[i]) - 1);
		if (len < 0)
			return;
		path[i][len] = '\0';
		rmdir(path[i]);
	}
	*strrchr(path[0], '/') = '\0';
	rmdir(path[0]);
}

static void check_task(const struct wptrack_record_task *task, const struct wptrack_record *rec)
{
	MUST(task->info.pid > 0);
	MUST((unsigned int)task->basis < WPTRACK_BASIS_NR);
	MUST(memchr(task->info.comm, '\0', sizeof(task->info.comm)));
	MUST(wptrack_record_find(rec, task->info.pid) == task);
}

static void check_record(const struct wptrack_record *rec)
{
	MUST(rec->generation > 0);
	MUST(rec->parent_generation < rec->generation);
	MUST(strlen(rec->boot_id) == WPTRACK_BOOT_ID_LEN - 1);
	for (size_t i = 0; i < rec->nr_tasks; i++)
		check_task(&rec->tasks[i], rec);
}

static void check_same(const struct wptrack_record *a, const struct wptrack_record *b)
{
	MUST(!memcmp(a->session, b->session, sizeof(a->session)));
	MUST(a->generation == b->generation && a->parent_generation == b->parent_generation);
	MUST(!strcmp(a->boot_id, b->boot_id) && a->final == b->final && a->nr_tasks == b->nr_tasks);
	for (size_t i = 0; i < a->nr_tasks; i++) {
		const struct wptrack_record_task *x = &a->tasks[i], *y = wptrack_record_find(b, x->info.pid);

		MUST(y && x->basis == y->basis && x->info.start_time == y->info.start_time);
		MUST(x->info.mm_stamp == y->info.mm_stamp && x->info.mm_id == y->info.mm_id);
		MUST(!strcmp(x->info.comm, y->info.comm));
		MUST(!memcmp(x->info.vmas_refused, y->info.vmas_refused, sizeof(x->info.vmas_refused)));
		MUST(x->info.pages_written == y->info.pages_written && x->info.pages_clean == y->info.pages_clean);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wptrack_record *rec = NULL, *twice = NULL;
	int fd;

	if (given < 0) {
		given = dir_of("given");
		again = dir_of("again");
		atexit(remove_dirs);
	}
	fd = openat(given, WPTRACK_RECORD_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	if (wptrack_record_read(given, ".", &rec))
		return 0;
	check_record(rec);
	MUST(!wptrack_record_write(again, rec));
	MUST(!wptrack_record_read(again, ".", &twice));
	check_same(rec, twice);
	wptrack_record_free(rec);
	wptrack_record_free(twice);
	return 0;
}
