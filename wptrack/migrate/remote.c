// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#include "doubt.h"
#include "hook.h"
#include "lib/cleanup.h"
#include "lib/wire.h"
#include "migrate.h"
#include "remote.h"

#define ANSWER_BYTES 8192
#define DECIDED_MS   5000
#define POLL_MS	     5

/* The host, for a message. */
#define HOST(m) (int)strcspn((m)->opt.remote.to, ":"), (m)->opt.remote.to

const char *wptrack_remote_error(int err)
{
	switch (err) {
	case -ECONNRESET:
	case -EPIPE:
		return "the connection to the destination has ended";
	case -ETIMEDOUT:
		return "the destination does not answer in time";
	case -EPROTO:
		return "the destination answers what is not understood: is it the same wptrack?";
	case -ECANCELED:
		return "cancelled";
	default:
		return strerror(-err);
	}
}

/* Of the guard of a process, at the source. */
static void guard_path(pid_t pid, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s.migrate-%d", wptrack_wire_run_dir(), pid);
}

/* ---------------------------------------------------------------- the connection */

/* Of words in a shell's way, and without its running anything. Return: 0 or -EINVAL. */
static int split(const char *text, wordexp_t *ret)
{
	if (wordexp(text, ret, WRDE_NOCMD))
		return -EINVAL;
	if (ret->we_wordc)
		return 0;
	wordfree(ret);
	return -EINVAL;
}

static char *remote_command(const struct wptrack_migrate *m, const char *options)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	wptrack_print_word(f, m->opt.remote.wptrack);
	fprintf(f, " receive %s ", options);
	wptrack_print_word(f, strchr(m->opt.remote.to, ':') + 1);
	return fclose(f) ? NULL : text;
}

int wptrack_remote_connect(const struct wptrack_migrate *m, const char *options, struct wptrack_peer *ret)
{
	char *command WPTRACK_CLEANUP(wptrack_free_pointer) = remote_command(m, options);
	char *host WPTRACK_CLEANUP(wptrack_free_pointer) = strndup(m->opt.remote.to, strcspn(m->opt.remote.to, ":"));
	char **argv WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	wordexp_t words;
	int err;

	if (!command || !host)
		return -ENOMEM;
	err = split(m->opt.remote.rsh, &words);
	if (err)
		return err;
	argv = calloc(words.we_wordc + 3, sizeof(*argv));
	if (argv) {
		memcpy(argv, words.we_wordv, words.we_wordc * sizeof(*argv));
		argv[words.we_wordc] = host;
		argv[words.we_wordc + 1] = command;
		err = wptrack_peer_start(ret, argv);
	} else {
		err = -ENOMEM;
	}
	wordfree(&words);
	return err;
}

/* ---------------------------------------------------------------- before the first round */

static bool is_cancelled(void *arg)
{
	const struct wptrack_remote *remote = arg;

	return wptrack_run_cancelled(&remote->m->run);
}

/* Obstacles are told as they come. Return: how many there were, or -errno. */
static int await_ready(struct wptrack_remote *remote)
{
	for (;;) {
		Wptrack__MigrateMessage *message WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
		const int err = wptrack_peer_receive(&remote->peer, -1, &message);

		if (err)
			return err;
		if (message->kind == WPTRACK__MIGRATE_KIND__OBSTACLE)
			wptrack_migrate_cannot("at %.*s: %s", HOST(remote->m), message->text ?: "?");
		else if (message->kind == WPTRACK__MIGRATE_KIND__FAILED)
			return wptrack_migrate_cannot("at %.*s: %s", HOST(remote->m), message->text ?: "?");
		else if (message->kind == WPTRACK__MIGRATE_KIND__READY)
			return (int)message->number;
		else
			return -EPROTO;
	}
}

/* Which instructions the program may have found out that it has. Return: 0 or -errno. */
static int send_cpuinfo(struct wptrack_remote *remote)
{
	char dir[PATH_MAX + 16], answer[ANSWER_BYTES], path[PATH_MAX + 32];
	char *const argv[] = {
		(char *)remote->m->opt.criu, (char *)"cpuinfo", (char *)"dump", (char *)"--images-dir", dir, NULL
	};
	WPTRACK_PEER_MESSAGE(round, ROUND);
	int err;

	snprintf(dir, sizeof(dir), "%s/cpuinfo", remote->m->opt.dir);
	if (mkdir(dir, 0700))
		return -errno;
	/* Without it there is nothing to be checked, and the destination says so. */
	wptrack_run_question(argv, answer, sizeof(answer));
	round.has_number = true;
	round.number = 0;
	err = wptrack_peer_send(&remote->peer, &round);
	if (!err)
		err = wptrack_peer_send_directory(&remote->peer, dir, NULL);
	snprintf(path, sizeof(path), "%s/cpuinfo.img", dir);
	unlink(path);
	rmdir(dir);
	return err;
}

static int be_introduced(struct wptrack_remote *remote)
{
	Wptrack__MigrateHello hello = WPTRACK__MIGRATE_HELLO__INIT;
	WPTRACK_PEER_MESSAGE(message, HELLO);
	int err = wptrack_remote_hello(remote->m, &hello);

	message.hello = &hello;
	if (!err)
		err = wptrack_peer_send(&remote->peer, &message);
	wptrack_remote_hello_free(&hello);
	/* One that has refused already does not read this. */
	if (!err) {
		err = send_cpuinfo(remote);
		if (err == -EPIPE)
			err = 0;
	}
	return err ? err : await_ready(remote);
}

int wptrack_remote_begin(struct wptrack_remote *remote, struct wptrack_migrate *m)
{
	int err;

	*remote = (struct wptrack_remote){ .m = m,
					   .peer = { .in = -1, .out = -1 },
					   .hold = { .listener = -1, .guard = -1 } };
	guard_path(m->opt.pid, remote->guard);
	err = wptrack_remote_connect(m, "", &remote->peer);
	if (err == -EINVAL)
		return wptrack_migrate_cannot("--rsh is no command: %s", m->opt.remote.rsh);
	if (err)
		return wptrack_migrate_cannot("%s: %s", m->opt.remote.rsh, strerror(-err));
	remote->peer.stop = is_cancelled;
	remote->peer.arg = remote;
	err = be_introduced(remote);
	if (err < 0 && m->run.cancelled)
		return wptrack_migrate_cannot("cancelled");
	if (err == -ECONNRESET || err == -EPIPE)
		return wptrack_migrate_cannot(
			"at %.*s: \"%s receive\" does not run: can you log in, and is it installed there "
			"(--remote-wptrack PATH)?",
			HOST(m), m->opt.remote.wptrack);
	if (err < 0)
		return wptrack_migrate_cannot("at %.*s: %s", HOST(m), wptrack_remote_error(err));
	return err ? WPTRACK_EXIT_FAILED : 0;
}

void wptrack_remote_end(struct wptrack_remote *remote)
{
	wptrack_hold_close(&remote->hold);
	wptrack_peer_close(&remote->peer);
	free(remote->tasks);
	remote->tasks = NULL;
}

/* ---------------------------------------------------------------- rounds */

/* What has been sent needs no room here any more. Only what the files say of pages is asked for later. */
static void release_pages(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct stat st;
		int fd;

		if (strncmp(entry->d_name, "pages-", strlen("pages-")))
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
		/* Where that cannot be done, it takes room up to the end. */
		if (fd >= 0 && !fstat(fd, &st) && st.st_size)
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size);
		wptrack_close_fd(&fd);
	}
	if (dir)
		closedir(dir);
}

int wptrack_remote_round(struct wptrack_remote *remote, const char *dir, unsigned int number, char **ret_why)
{
	Wptrack__MigrateMessage *answer WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	WPTRACK_PEER_MESSAGE(round, ROUND);
	int err;

	*ret_why = NULL;
	round.has_number = true;
	round.number = number;
	err = wptrack_peer_send(&remote->peer, &round);
	if (!err)
		err = wptrack_peer_send_directory(&remote->peer, dir, ".log");
	if (!err)
		err = wptrack_peer_receive(&remote->peer, -1, &answer);
	if (err)
		return err;
	if (answer->text)
		*ret_why = strdup(answer->text);
	if (answer->kind == WPTRACK__MIGRATE_KIND__FAILED)
		return -ECONNABORTED;
	if (answer->kind != WPTRACK__MIGRATE_KIND__LOADED)
		return -EPROTO;
	release_pages(dir);
	return 0;
}

/* ---------------------------------------------------------------- in doubt */

bool wptrack_remote_is_held(pid_t pid)
{
	Wptrack__MigrateDoubt *doubt WPTRACK_CLEANUP(wptrack_doubt_free) = NULL;
	char guard[PATH_MAX];

	guard_path(pid, guard);
	return wptrack_hold_tell_at(guard, "") != -ENOENT || wptrack_doubt_read(guard, &doubt) != -ENOENT;
}

static int still_under_way(const struct wptrack_migrate *m)
{
	return wptrack_migrate_cannot("the migration of process %" PRId32 " is still under way", m->opt.pid);
}

/* Nobody holds it any more: it is stopped by a signal, and on record. */
static int decide_alone(const struct wptrack_migrate *m, const char *guard, bool resume)
{
	Wptrack__MigrateDoubt *doubt WPTRACK_CLEANUP(wptrack_doubt_free) = NULL;
	const int err = wptrack_doubt_read(guard, &doubt);

	if (err == -ENOENT)
		return wptrack_migrate_cannot("no migration of process %" PRId32 " is in doubt", m->opt.pid);
	if (err)
		return wptrack_migrate_cannot("%s.doubt cannot be used (%s): remove it; if process %" PRId32
					      " is stopped, kill -CONT or kill -KILL it",
					      guard, strerror(-err), m->opt.pid);
	if (wptrack_doubt_has_controller(doubt))
		return still_under_way(m);
	/* It was not stopped, or let run since. Then it is not this that keeps it from being two. */
	if (!resume && wptrack_doubt_runs(doubt))
		return wptrack_migrate_cannot("process %" PRId32 " runs here: kill it only if it runs there, too",
					      m->opt.pid);
	if (resume) {
		wptrack_hook_run(doubt->hook, WPTRACK_HOOK_RESUMED);
		wptrack_doubt_resume(doubt);
	} else {
		wptrack_doubt_kill(doubt);
	}
	return 0;
}

/* A guard that is told may be killed before criu hears of it. */
static int decide_by_guard(const struct wptrack_migrate *m, const char *guard, bool resume)
{
	const int err = wptrack_hold_tell_at(guard, resume ? WPTRACK_HOLD_RESUME : WPTRACK_HOLD_DISCARD);

	if (err == -ENOENT || err == -ECONNRESET || err == -EPIPE)
		return decide_alone(m, guard, resume);
	if (err == -EBUSY)
		return still_under_way(m);
	return err ? wptrack_migrate_cannot("%s: %s", guard, strerror(-err)) : 0;
}

int wptrack_remote_decide(struct wptrack_migrate *m, bool resume)
{
	Wptrack__MigrateDoubt *doubt WPTRACK_CLEANUP(wptrack_doubt_free) = NULL;
	char guard[PATH_MAX];
	int err;

	guard_path(m->opt.pid, guard);
	err = decide_by_guard(m, guard, resume);
	if (err)
		return err;
	/* The guard's socket goes with it. */
	for (int ms = 0; ms < DECIDED_MS &&
			 (wptrack_hold_tell_at(guard, "") != -ENOENT || (!resume && !wptrack_migrate_is_gone(m)));
	     ms += POLL_MS)
		poll(NULL, 0, POLL_MS);
	if (!resume && !wptrack_doubt_read(guard, &doubt))
		wptrack_doubt_kill(doubt);
	if (!resume && !wptrack_migrate_is_gone(m))
		return wptrack_migrate_cannot("process %" PRId32 " is still there: kill it", m->opt.pid);
	wptrack_doubt_forget(guard);
	wptrack_hold_forget(guard);
	return 0;
}
