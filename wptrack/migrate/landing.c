// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_log.h"
#include "hook.h"
#include "landing.h"
#include "lib/cleanup.h"
#include "lib/clock.h"
#include "lib/proc.h"
#include "remove.h"
#include "wptrack/proc_tree.h"

/* What criu restore reads names from. */
#define NAMES_FD     3
#define NAMES_OPTION "--pre-restore=3"

#define LOG	    "restore.log"
#define PATIENCE_MS 5000
#define POLL_MS	    5
#define ASK_MS	    20

static __attribute__((format(printf, 2, 3))) int fail(struct wptrack_landing *landing, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(landing->why, sizeof(landing->why), format, args);
	va_end(args);
	return -1;
}

static int criu_failed(struct wptrack_landing *landing)
{
	char path[PATH_MAX + 32], line[WPTRACK_CRIU_LINE_LEN];

	snprintf(path, sizeof(path), "%s/" LOG, landing->dump);
	if (!wptrack_criu_first_error(path, line))
		snprintf(line, sizeof(line), "it says nothing of why");
	return fail(landing, "criu restore failed: %s", line);
}

/* ---------------------------------------------------------------- criu */

static __attribute__((noreturn)) void become(char *const argv[], int names, int answers)
{
	const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	dup2(null, STDIN_FILENO);
	dup2(answers, STDOUT_FILENO);
	if (names == NAMES_FD)
		fcntl(names, F_SETFD, 0);
	else
		dup2(names, NAMES_FD);
	execvp(argv[0], argv);
	_exit(127);
}

static int start_criu(struct wptrack_landing *landing, char *const argv[])
{
	int names[2] = { -1, -1 }, answers[2] = { -1, -1 };
	pid_t child = -1;
	int err = 0;

	if (pipe2(names, O_CLOEXEC) || pipe2(answers, O_CLOEXEC) || (child = fork()) < 0)
		err = -errno;
	if (!child)
		become(argv, names[0], answers[1]);
	wptrack_close_fd(&names[0]);
	wptrack_close_fd(&answers[1]);
	landing->names = names[1];
	landing->answers = answers[0];
	if (err)
		return err;
	landing->criu = child;
	landing->criu_fd = (int)syscall(SYS_pidfd_open, child, 0);
	return landing->criu_fd < 0 ? -errno : 0;
}

int wptrack_landing_begin(struct wptrack_landing *landing, const char *dir, const Wptrack__MigrateHello *hello)
{
	const char *script = wptrack_hold_script();
	char guard[PATH_MAX + 16];
	char **argv WPTRACK_CLEANUP(wptrack_free_pointer) = calloc(hello->n_options + 16, sizeof(*argv));
	size_t nr = 0;
	int err;

	if (!argv || !script || !realpath(dir, landing->dir))
		return fail(landing, "%s: %s", dir, strerror(errno));
	if (snprintf(landing->dump, sizeof(landing->dump), "%s/dump", landing->dir) >= (int)sizeof(landing->dump))
		return fail(landing, "%s: %s", dir, strerror(ENAMETOOLONG));
	if (mkdir(landing->dump, 0700))
		return fail(landing, "%s: %s", landing->dump, strerror(errno));
	if (hello->hook)
		landing->hook = strdup(hello->hook);
	snprintf(guard, sizeof(guard), "%s/" WPTRACK_HOLD_GUARD, landing->dir);
	err = wptrack_hold_open(&landing->hold, landing->dir, guard, hello->hook);
	if (err)
		return fail(landing, "%s: %s", landing->dir, strerror(-err));
	argv[nr++] = hello->criu;
	argv[nr++] = (char *)"restore";
	argv[nr++] = (char *)"--images-dir", argv[nr++] = landing->dump;
	argv[nr++] = (char *)"--log-file", argv[nr++] = (char *)LOG;
	argv[nr++] = (char *)"--restore-detached";
	argv[nr++] = (char *)NAMES_OPTION;
	argv[nr++] = (char *)"--action-script", argv[nr++] = (char *)script;
	for (size_t i = 0; i < hello->n_options; i++)
		argv[nr++] = hello->options[i];
	err = start_criu(landing, argv);
	return err ? fail(landing, "%s cannot be run: %s", hello->criu, strerror(-err)) : 0;
}

/* A line of criu's answers, without its end. Return: 0, or -1 when there is none. */
static int read_answer(struct wptrack_landing *landing, char *line, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		const ssize_t got = read(landing->answers, line + len, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		if (line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
	return 0;
}

int wptrack_landing_load(struct wptrack_landing *landing, unsigned int number)
{
	char name[PATH_MAX + 16], answer[PATH_MAX + 256];
	const int len = snprintf(name, sizeof(name), "%s/%u\n", landing->dir, number);

	if (write(landing->names, name, (size_t)len) != len || read_answer(landing, answer, sizeof(answer)))
		return criu_failed(landing);
	if (!strncmp(answer, name, (size_t)len - 1) && !strcmp(answer + len - 1, ": in memory"))
		return 0;
	fail(landing, "%s", answer);
	return 1;
}

/* ---------------------------------------------------------------- the end of criu */

static void reap_criu(struct wptrack_landing *landing)
{
	while (landing->criu > 0 && waitpid(landing->criu, &landing->status, 0) < 0 && errno == EINTR)
		;
	landing->criu = 0;
	wptrack_close_fd(&landing->criu_fd);
	landing->criu_fd = -1;
}

/* Return: has it ended? */
static bool await_criu(struct wptrack_landing *landing, int for_ms)
{
	struct pollfd ended = { .fd = landing->criu_fd, .events = POLLIN };

	if (landing->criu <= 0)
		return true;
	if (landing->criu_fd >= 0 && poll(&ended, 1, for_ms) <= 0)
		return false;
	reap_criu(landing);
	return true;
}

/* One of the processes that were held, unless its number is another's by now. Return: is it there? */
static bool is_there(pid_t pid, uint64_t start_time)
{
	char stat[512];
	const char *state;

	if (!wptrack_proc_is_still(pid, start_time))
		return false;
	/* One that has ended, and whose parent has not looked, is none. */
	if (wptrack_proc_read(pid, "stat", stat, sizeof(stat)))
		return false;
	state = strrchr(stat, ')');
	return !state || (state[2] != 'Z' && state[2] != 'X');
}

static void kill_tree(pid_t root, int sig)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };

	wptrack_tree_read(root, &tree);
	for (size_t i = 0; i < tree.nr; i++)
		kill(tree.pids[i], sig);
}

/* The first is criu. Return: how many others are there; below 0: nobody has been held. */
static int look_at_held(const char *dir, int sig, bool *ret_criu)
{
	char path[PATH_MAX + 16];
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = NULL;
	uint64_t start_time;
	bool is_first = true;
	int nr = 0;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/" WPTRACK_HOLD_HELD, dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	*ret_criu = false;
	for (; fscanf(f, "%d %" SCNu64, &pid, &start_time) == 2; is_first = false) {
		if (!is_there(pid, start_time))
			continue;
		if (is_first)
			*ret_criu = true;
		else
			nr++;
		/* Also what it may have forked. */
		if (sig)
			kill_tree(pid, sig);
	}
	return nr;
}

/* All that was held, and the criu that has made it, is gone after this. */
static void kill_held(const char *dir)
{
	bool criu = true;

	for (int ms = 0; ms < PATIENCE_MS && look_at_held(dir, SIGKILL, &criu) >= 0; ms += POLL_MS) {
		if (!look_at_held(dir, 0, &criu) && !criu)
			return;
		poll(NULL, 0, POLL_MS);
	}
}

/* ---------------------------------------------------------------- the dump */

/* Up to an event of that name. Return: 0, -ECONNRESET: @source can be read, -1: criu has ended. */
static int await_event(struct wptrack_landing *landing, const char *name, int source)
{
	for (;;) {
		struct pollfd ready[] = { { .fd = landing->hold.listener, .events = POLLIN },
					  { .fd = landing->criu_fd, .events = POLLIN },
					  { .fd = source, .events = POLLIN } };
		struct wptrack_hold_event event;

		if (poll(ready, 3, -1) < 0)
			continue;
		if (ready[0].revents && !wptrack_hold_event(&landing->hold, &event) && !strcmp(event.name, name))
			return 0;
		if (!ready[0].revents && ready[1].revents)
			return -1;
		if (ready[2].revents)
			return -ECONNRESET;
	}
}

int wptrack_landing_restore(struct wptrack_landing *landing, int source)
{
	int err;

	if (wptrack_hook_run(landing->hook, WPTRACK_HOOK_RESTORE))
		return fail(landing, "the hook has failed before the restore");
	wptrack_close_fd(&landing->names);
	landing->names = -1;
	err = await_event(landing, "post-restore", source);
	return err == -1 ? criu_failed(landing) : err;
}

int wptrack_landing_go(struct wptrack_landing *landing)
{
	/* Whoever asked in our place has decided the same. */
	if (wptrack_hook_run(landing->hook, WPTRACK_HOOK_RUN))
		return fail(landing, "the hook has failed before the program was to run");
	wptrack_hold_tell(&landing->hold, WPTRACK_HOLD_GO);
	if (!await_event(landing, "post-resume", -1) || wptrack_hold_is_noted(landing->dir, WPTRACK_HOLD_RUNNING))
		return 0;
	/* It ends well only if they run, whatever has become of its script. */
	if (await_criu(landing, PATIENCE_MS) && !landing->status)
		return 0;
	return criu_failed(landing);
}

/* Nothing of it is left after this, and it is known. */
static void end_held(const char *dir)
{
	bool criu;

	if (look_at_held(dir, 0, &criu) < 0)
		return;
	kill_held(dir);
	wptrack_hold_note(dir, WPTRACK_HOLD_ABORTED);
}

/* Has the guard been told to let it run, by somebody who asked in our place? It says once only what it does. */
static bool runs_all_the_same(struct wptrack_landing *landing)
{
	if (landing->hold.guard < 0 || !wptrack_hold_tell(&landing->hold, WPTRACK_HOLD_ABORT))
		return false;
	return wptrack_landing_ask(landing->dir, false, NULL) == 1;
}

bool wptrack_landing_stop(struct wptrack_landing *landing)
{
	if (runs_all_the_same(landing))
		return false;
	/* Before its connections end: nobody is to hear of that. */
	wptrack_hook_run(landing->hook, WPTRACK_HOOK_ABORTED);
	/* The guard sees that it is alone, and criu that nothing more comes. */
	wptrack_hold_close(&landing->hold);
	if (landing->criu > 0 && landing->names >= 0)
		kill(landing->criu, SIGKILL);
	wptrack_close_fd(&landing->names);
	landing->names = -1;
	if (!await_criu(landing, PATIENCE_MS)) {
		kill(landing->criu, SIGKILL);
		await_criu(landing, PATIENCE_MS);
	}
	end_held(landing->dir);
	return true;
}

void wptrack_landing_clean(struct wptrack_landing *landing)
{
	wptrack_remove_directory(landing->dir, WPTRACK_HOLD_ABORTED);
	wptrack_landing_end(landing);
}

void wptrack_landing_end(struct wptrack_landing *landing)
{
	await_criu(landing, PATIENCE_MS);
	wptrack_hold_close(&landing->hold);
	wptrack_close_fd(&landing->names);
	wptrack_close_fd(&landing->answers);
	wptrack_close_fd(&landing->criu_fd);
	landing->names = landing->answers = landing->criu_fd = -1;
	free(landing->hook);
	landing->hook = NULL;
}

/* ---------------------------------------------------------------- asked later */

/* Once is enough. Return: has it been told? */
static bool tell_guard(const char *guard, bool go, const char *hook)
{
	if (access(guard, F_OK))
		return false;
	/* A hook that fails keeps it from running. */
	if (go && wptrack_hook_run(hook, WPTRACK_HOOK_RUN))
		go = false;
	return !wptrack_hold_tell_at(guard, go ? WPTRACK_HOLD_GO : WPTRACK_HOLD_ABORT);
}

int wptrack_landing_ask(const char *dir, bool go, const char *hook)
{
	char guard[PATH_MAX + 16];
	bool criu = true, told = false;

	snprintf(guard, sizeof(guard), "%s/" WPTRACK_HOLD_GUARD, dir);
	for (;;) {
		if (wptrack_hold_is_noted(dir, WPTRACK_HOLD_RUNNING))
			return 1;
		if (wptrack_hold_is_noted(dir, WPTRACK_HOLD_ABORTED))
			return 0;
		if (look_at_held(dir, 0, &criu) < 0)
			return -ENOENT;
		if (!criu)
			break;
		/* It is let run even if the word that it shall has been lost on its way. */
		told = told || tell_guard(guard, go, hook);
		poll(NULL, 0, ASK_MS);
	}
	if (wptrack_hold_is_noted(dir, WPTRACK_HOLD_RUNNING))
		return 1;
	wptrack_hook_run(hook, WPTRACK_HOOK_ABORTED);
	end_held(dir);
	wptrack_remove_directory(dir, WPTRACK_HOLD_ABORTED);
	return 0;
}
