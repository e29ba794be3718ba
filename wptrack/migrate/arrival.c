// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "arrival.h"
#include "criu_run.h"
#include "hold.h"
#include "lib/cleanup.h"
#include "lib/page.h"
#include "lib/proc.h"
#include "peer.h"
#include "wptrack/cmd.h"

#define HELP_BYTES   (128u << 10)
#define ANSWER_BYTES 8192
#define KIB	     1024ull

/* More of the same kind say nothing new. */
#define SAME_MAX 3

struct arrival {
	const char *dir;
	const Wptrack__MigrateHello *hello;
	wptrack_arrival_tell *tell;
	void *arg;
	unsigned int nr;
};

static __attribute__((format(printf, 2, 3))) void obstacle(struct arrival *arrival, const char *format, ...)
{
	char text[PATH_MAX + 512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	arrival->tell(arrival->arg, text);
	arrival->nr++;
}

/* ---------------------------------------------------------------- the machine */

static void check_machine(struct arrival *arrival)
{
	const Wptrack__MigrateHello *hello = arrival->hello;
	struct utsname here;

	if (!uname(&here) && strcmp(here.machine, hello->machine))
		obstacle(arrival, "this is a machine of another kind: %s, not %s", here.machine, hello->machine);
	if (hello->page_bytes != wptrack_page_bytes())
		obstacle(arrival, "the kernel has pages of %" PRIu64 " bytes here, not of %" PRIu32,
			 wptrack_page_bytes(), hello->page_bytes);
	if (geteuid())
		obstacle(arrival, "only root can restore: log in as root there, or give --rsh 'sudo ...'");
}

static uint64_t available_memory(void)
{
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = fopen("/proc/meminfo", "re");
	char line[256];
	uint64_t kib;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
			return kib * KIB;
	return UINT64_MAX;
}

static void check_room(struct arrival *arrival)
{
	const uint64_t needed = arrival->hello->memory_bytes, memory = available_memory();
	char has[WPTRACK_SIZE_LEN], wants[WPTRACK_SIZE_LEN], parent[PATH_MAX];
	struct statvfs fs;

	if (memory < needed)
		obstacle(arrival, "the program has %s of memory, and %s are available here",
			 wptrack_print_size(needed, wants), wptrack_print_size(memory, has));
	snprintf(parent, sizeof(parent), "%s", arrival->dir);
	if (!statvfs(arrival->dir, &fs) || !statvfs(dirname(parent), &fs)) {
		const uint64_t room = (uint64_t)fs.f_bfree * fs.f_frsize;

		if (room < needed)
			obstacle(arrival, "No space left on device: %s has room for %s, and the first round has %s",
				 arrival->dir, wptrack_print_size(room, has), wptrack_print_size(needed, wants));
	}
}

/* ---------------------------------------------------------------- what the program needs */

static void check_directory(struct arrival *arrival)
{
	char parent[PATH_MAX];
	const struct dirent *entry;
	DIR *dir = opendir(arrival->dir);
	unsigned int entries = 0;

	if (dir) {
		/* That a program did not run there is no use any more. */
		while ((entry = readdir(dir)))
			entries += strcmp(entry->d_name, WPTRACK_HOLD_ABORTED) != 0;
		closedir(dir);
		/* Itself and its parent */
		if (entries > 2)
			obstacle(arrival, "%s is no empty directory here: name a new one", arrival->dir);
		return;
	}
	if (errno != ENOENT) {
		obstacle(arrival, "%s: %s", arrival->dir, strerror(errno));
		return;
	}
	snprintf(parent, sizeof(parent), "%s", arrival->dir);
	if (access(dirname(parent), W_OK | X_OK))
		obstacle(arrival, "%s cannot be made here: %s", arrival->dir, strerror(errno));
}

static void check_pids(struct arrival *arrival)
{
	const Wptrack__MigrateHello *hello = arrival->hello;
	unsigned int nr = 0;

	for (size_t i = 0; i < hello->n_pids; i++) {
		char comm[WPTRACK_PLAIN_LEN] = "", name[WPTRACK_COMM_LEN + 1] = "";

		if (wptrack_proc_read((pid_t)hello->pids[i], "comm", name, sizeof(name)) || nr++ >= SAME_MAX)
			continue;
		name[strcspn(name, "\n")] = '\0';
		obstacle(arrival,
			 "the number %" PRIu32
			 " is taken by another process here (%s): end that one, or begin with the "
			 "program in a pid namespace of its own (unshare --pid --fork)",
			 hello->pids[i], wptrack_print_plain(name, comm));
	}
}

static void check_files(struct arrival *arrival)
{
	const Wptrack__MigrateHello *hello = arrival->hello;
	unsigned int nr = 0;

	for (size_t i = 0; i < hello->n_files && nr < SAME_MAX; i++) {
		const Wptrack__MigrateFile *file = hello->files[i];
		struct stat st;

		if (stat(file->path, &st)) {
			obstacle(arrival, "%s is not here: %s", file->path, strerror(errno));
			nr++;
		} else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size != file->bytes) {
			obstacle(arrival, "%s is another file here, of %" PRIu64 " bytes and not of %" PRIu64,
				 file->path, (uint64_t)st.st_size, file->bytes);
			nr++;
		}
	}
}

static void check_criu(struct arrival *arrival)
{
	char *const help[] = { arrival->hello->criu, (char *)"--help", NULL };
	char *answer WPTRACK_CLEANUP(wptrack_free_pointer) = malloc(HELP_BYTES);

	if (!answer || !wptrack_run_succeeded(wptrack_run_question(help, answer, HELP_BYTES)))
		obstacle(arrival,
			 "there is no program %s here: install the patched criu, or name it with --remote-criu",
			 arrival->hello->criu);
	else if (!strstr(answer, "--pre-restore"))
		obstacle(arrival, "%s is not the patched criu of this wptrack here: name that with --remote-criu",
			 arrival->hello->criu);
}

unsigned int wptrack_arrival_check(const char *dir, const Wptrack__MigrateHello *hello, wptrack_arrival_tell *tell,
				   void *arg)
{
	struct arrival arrival = { .dir = dir, .hello = hello, .tell = tell, .arg = arg };

	check_machine(&arrival);
	check_directory(&arrival);
	check_room(&arrival);
	check_pids(&arrival);
	check_files(&arrival);
	check_criu(&arrival);
	return arrival.nr;
}

unsigned int wptrack_arrival_check_cpu(const char *dir, const Wptrack__MigrateHello *hello, wptrack_arrival_tell *tell,
				       void *arg)
{
	struct arrival arrival = { .dir = dir, .hello = hello, .tell = tell, .arg = arg };
	char *const check[] = { hello->criu, (char *)"cpuinfo", (char *)"check", (char *)"--images-dir", (char *)dir,
				NULL };
	char answer[ANSWER_BYTES], *line;

	if (wptrack_run_succeeded(wptrack_run_question(check, answer, sizeof(answer))))
		return 0;
	line = strstr(answer, "Error (");
	line = line ? line : answer;
	line[strcspn(line, "\n")] = '\0';
	obstacle(&arrival, "the processor lacks what the program may use: %s", line);
	return arrival.nr;
}
