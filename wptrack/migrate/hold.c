// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "doubt.h"
#include "hold.h"
#include "hook.h"
#include "lib/cleanup.h"
#include "lib/proc.h"
#include "wptrack/cmd.h"
#include "wptrack/proc_tree.h"
#include "wptrack/stopped.h"

/* Of processes that criu starts. */
#define ENV_CONTROLLER "WPTRACK_HOLD"
#define ENV_GUARD      "WPTRACK_HOLD_GUARD"
#define ENV_HOOK       "WPTRACK_HOLD_HOOK"
#define ENV_ACTION     "CRTOOLS_SCRIPT_ACTION"
#define ENV_ROOT       "CRTOOLS_INIT_PID"

#define CONTROLLER "controller"
#define DONE	   "done"
#define BUSY	   "busy"
#define UNRECORDED "unrecorded"

#define WORD_MAX    64
#define BACKLOG	    8
#define PATIENCE_MS 10000

/* ---------------------------------------------------------------- sockets */

/*
 * Names of sockets are short, those of directories are not: the directory is
 * gone by way of a descriptor. Return: the descriptor, or -errno.
 */
static int address_of(const char *path, struct sockaddr_un *ret)
{
	char dir[PATH_MAX], name[PATH_MAX];
	int fd;

	snprintf(dir, sizeof(dir), "%s", path);
	snprintf(name, sizeof(name), "%s", path);
	fd = open(dirname(dir), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", fd, basename(name)) >=
	    (int)sizeof(ret->sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	return fd;
}

/* Return: a socket, or -errno. */
static int open_socket(const char *path, bool listens)
{
	struct sockaddr_un address;
	int dir WPTRACK_CLEANUP(wptrack_close_fd) = address_of(path, &address);
	int sock, err;

	if (dir < 0)
		return dir;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (listens)
		err = bind(sock, (struct sockaddr *)&address, sizeof(address)) || listen(sock, BACKLOG) ? -errno : 0;
	else
		err = connect(sock, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	if (err)
		close(sock);
	return err ? err : sock;
}

static int send_word(int sock, const char *word)
{
	return send(sock, word, strlen(word), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Return: 0, -ECONNRESET at the end, or -errno. */
static int receive_word(int sock, char word[WORD_MAX])
{
	ssize_t len;

	do {
		len = recv(sock, word, WORD_MAX - 1, 0);
	} while (len < 0 && errno == EINTR);
	if (len <= 0)
		return len ? -errno : -ECONNRESET;
	word[len] = '\0';
	return 0;
}

static int receive_soon(int sock, char word[WORD_MAX])
{
	struct pollfd ready = { .fd = sock, .events = POLLIN };

	return poll(&ready, 1, PATIENCE_MS) > 0 ? receive_word(sock, word) : -ETIMEDOUT;
}

static bool is_from_us(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) && (peer.uid == geteuid() || !peer.uid);
}

/* ---------------------------------------------------------------- notes */

void wptrack_hold_note(const char *dir, const char *name)
{
	char path[PATH_MAX + 16];
	int fd WPTRACK_CLEANUP(wptrack_close_fd) = -1;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

bool wptrack_hold_is_noted(const char *dir, const char *name)
{
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, F_OK);
}

/* ---------------------------------------------------------------- the controller */

const char *wptrack_hold_script(void)
{
	static char path[PATH_MAX];
	const ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	return len > 0 ? path : NULL;
}

int wptrack_hold_open(struct wptrack_hold *hold, const char *dir, const char *guard, const char *hook)
{
	char real[PATH_MAX];

	*hold = (struct wptrack_hold){ .listener = -1, .guard = -1 };
	if (!realpath(dir, real))
		return -errno;
	if (snprintf(hold->path, sizeof(hold->path), "%s/" CONTROLLER, real) >= (int)sizeof(hold->path))
		return -ENAMETOOLONG;
	if (setenv(ENV_CONTROLLER, hold->path, 1) || setenv(ENV_GUARD, guard, 1) ||
	    (hook ? setenv(ENV_HOOK, hook, 1) : unsetenv(ENV_HOOK)))
		return -errno;
	hold->listener = open_socket(hold->path, true);
	return hold->listener < 0 ? hold->listener : 0;
}

void wptrack_hold_close(struct wptrack_hold *hold)
{
	wptrack_close_fd(&hold->guard);
	if (hold->listener >= 0)
		unlink(hold->path);
	wptrack_close_fd(&hold->listener);
	hold->listener = hold->guard = -1;
}

int wptrack_hold_event(struct wptrack_hold *hold, struct wptrack_hold_event *ret)
{
	char word[WORD_MAX];
	int sock = accept4(hold->listener, NULL, NULL, SOCK_CLOEXEC), err;

	if (sock < 0)
		return -errno;
	err = is_from_us(sock) ? receive_soon(sock, word) : -EPERM;
	if (!err && strlen(word) >= sizeof(ret->name))
		err = -EPROTO;
	if (!err)
		strcpy(ret->name, word);
	if (!err && (!strcmp(ret->name, "post-dump") || !strcmp(ret->name, "post-restore"))) {
		wptrack_close_fd(&hold->guard);
		hold->guard = sock;
	} else {
		close(sock);
	}
	return err;
}

static int tell(int sock, const char *word)
{
	char answer[WORD_MAX];
	int err = send_word(sock, word);

	if (!err)
		err = receive_soon(sock, answer);
	if (err)
		return err;
	if (!strcmp(answer, UNRECORDED))
		return -EIO;
	return strcmp(answer, DONE) ? -EBUSY : 0;
}

int wptrack_hold_tell(struct wptrack_hold *hold, const char *word)
{
	return hold->guard < 0 ? -ECONNRESET : tell(hold->guard, word);
}

int wptrack_hold_tell_at(const char *path, const char *word)
{
	int sock WPTRACK_CLEANUP(wptrack_close_fd) = open_socket(path, false);

	if (sock < 0)
		return sock == -ECONNREFUSED ? -ENOENT : sock;
	return tell(sock, word);
}

void wptrack_hold_forget(const char *path)
{
	const int sock = open_socket(path, false);

	if (sock == -ECONNREFUSED)
		unlink(path);
	else if (sock >= 0)
		close(sock);
}

/* ---------------------------------------------------------------- the script */

static pid_t root_pid(void)
{
	const char *root = getenv(ENV_ROOT);

	return root ? (pid_t)strtol(root, NULL, 10) : 0;
}

/* To processes that are stopped by criu: it comes into effect when criu has gone. */
static void signal_tree(const struct wptrack_tree *tree, int sig)
{
	for (size_t i = 0; i < tree->nr; i++)
		kill(tree->pids[i], sig);
}

struct guard {
	const char *path; /* of its socket */
	pid_t criu;
	bool at_source;
	bool sure;
	int controller, listener;
	struct wptrack_tree tree; /* all that are held */
	struct wptrack_tree ran;  /* of these, those that were not stopped before */
};

static bool is_held_by_criu(const struct guard *guard)
{
	return getppid() == guard->criu && wptrack_proc_tracer(root_pid()) == guard->criu;
}

/* Whoever listens at the other end. Return: 0 when nobody is known to. */
static pid_t peer_of(int sock)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) ? 0 : peer.pid;
}

/* Return: -EAGAIN: the processes stay stopped whatever happens; or why they do not. */
static int be_sure(struct guard *guard)
{
	const pid_t controller = guard->controller < 0 ? 0 : peer_of(guard->controller);
	int err;

	/* Before the first signal: from then on, somebody has to know of it, also when we do not any more. */
	err = wptrack_doubt_write(guard->path, controller, &guard->tree, &guard->ran, getenv(ENV_HOOK));
	if (err)
		return -EIO;
	signal_tree(&guard->ran, SIGSTOP);
	guard->sure = true;
	/* They may have run when the signal came, if criu had gone before. */
	return is_held_by_criu(guard) ? -EAGAIN : -ESRCH;
}

/* Return: the exit status that a word means, or below 0: it goes on holding. */
static int take_word(struct guard *guard, const char *word)
{
	if (!guard->at_source) {
		if (!strcmp(word, WPTRACK_HOLD_GO))
			return 0;
		return strcmp(word, WPTRACK_HOLD_ABORT) ? -EPROTO : 1;
	}
	if (!strcmp(word, WPTRACK_HOLD_SURE))
		return be_sure(guard);
	if (!strcmp(word, WPTRACK_HOLD_DISCARD)) {
		/* criu does that, if it is there. */
		if (!is_held_by_criu(guard))
			signal_tree(&guard->tree, SIGKILL);
		return 0;
	}
	if (strcmp(word, WPTRACK_HOLD_RESUME))
		return -EPROTO;
	if (guard->sure)
		signal_tree(&guard->ran, SIGCONT);
	return 1;
}

/* What is said to a word of which take_word() says @status. */
static const char *answer_to(int status)
{
	if (status >= 0 || status == -EAGAIN)
		return DONE;
	return status == -EIO ? UNRECORDED : "?";
}

static int hear(struct guard *guard, int sock)
{
	char word[WORD_MAX];
	int status;

	if (receive_word(sock, word))
		return -ECONNRESET;
	status = take_word(guard, word);
	send_word(sock, answer_to(status));
	return status;
}

/* Nobody else does. */
static void tell_hook(const char *event)
{
	wptrack_hook_run(getenv(ENV_HOOK), event);
}

static int hear_controller(struct guard *guard)
{
	const int status = hear(guard, guard->controller);

	if (status != -ECONNRESET)
		return status;
	wptrack_close_fd(&guard->controller);
	guard->controller = -1;
	if (guard->sure)
		return -EAGAIN;
	tell_hook(guard->at_source ? WPTRACK_HOOK_RESUMED : WPTRACK_HOOK_ABORTED);
	return 1;
}

/* A source's has one controller at a time; a destination's may have lost its own without anybody noticing. */
static int hear_other(struct guard *guard)
{
	int sock WPTRACK_CLEANUP(wptrack_close_fd) = accept4(guard->listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd ready = { .fd = sock, .events = POLLIN };

	if (sock < 0 || !is_from_us(sock) || poll(&ready, 1, PATIENCE_MS) <= 0)
		return -EAGAIN;
	if (guard->at_source && guard->controller >= 0) {
		send_word(sock, BUSY);
		return -EAGAIN;
	}
	return hear(guard, sock);
}

/* Another controller is the user, who has no hook. */
static int take_other_word(struct guard *guard)
{
	const int status = hear_other(guard);

	if (guard->at_source && status == 1)
		tell_hook(WPTRACK_HOOK_RESUMED);
	return status;
}

static int hold(struct guard *guard)
{
	int status = -EAGAIN;

	while (status < 0) {
		struct pollfd ready[] = { { .fd = guard->controller, .events = POLLIN },
					  { .fd = guard->listener, .events = POLLIN } };

		if (poll(ready, 2, -1) < 0)
			continue;
		if (ready[0].revents)
			status = hear_controller(guard);
		else if (ready[1].revents)
			status = take_other_word(guard);
	}
	return status;
}

/* A file in the directory that a socket is in. */
static FILE *open_beside(const char *socket_path, const char *name, const char *mode)
{
	char path[PATH_MAX + 16], dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", socket_path);
	snprintf(path, sizeof(path), "%s/%s", dirname(dir), name);
	return fopen(path, mode);
}

/* Who was stopped before the dump, a number in a line. */
static FILE *open_stopped(const char *mode)
{
	return open_beside(getenv(ENV_CONTROLLER), "stopped", mode);
}

static void note_stopped(void)
{
	struct wptrack_tree tree WPTRACK_CLEANUP(wptrack_tree_free) = { 0 };
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = open_stopped("we");

	wptrack_tree_read(root_pid(), &tree);
	for (size_t i = 0; f && i < tree.nr; i++)
		if (wptrack_proc_is_stopped(tree.pids[i]))
			fprintf(f, "%d\n", tree.pids[i]);
}

/* criu lets them stay so by itself. */
static void leave_out_the_stopped(struct wptrack_tree *tree)
{
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = open_stopped("re");
	pid_t pid;

	while (f && fscanf(f, "%d", &pid) == 1)
		for (size_t i = 0; i < tree->nr; i++)
			if (tree->pids[i] == pid)
				tree->pids[i--] = tree->pids[--tree->nr];
}

/* A line for criu and for each process that it has made: number and time of start. Written before it counts. */
static int write_held(const char *guard_path, const struct wptrack_tree *tree)
{
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = open_beside(guard_path, WPTRACK_HOLD_HELD, "we");
	struct wptrack_task task;

	if (!f)
		return -errno;
	if (!wptrack_proc_identify(getppid(), &task))
		fprintf(f, "%d %" PRIu64 "\n", task.pid, task.start_time);
	for (size_t i = 0; i < tree->nr; i++)
		if (!wptrack_proc_identify(tree->pids[i], &task))
			fprintf(f, "%d %" PRIu64 "\n", task.pid, task.start_time);
	return fflush(f) || ferror(f) ? -EIO : 0;
}

static int be_guard(const char *event, int controller)
{
	struct guard guard = { .criu = getppid(), .at_source = !strcmp(event, "post-dump"), .controller = controller };
	const char *path = getenv(ENV_GUARD);
	int status = 1;

	/* Whoever wants to end this is to tell it how. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	wptrack_tree_read(root_pid(), &guard.tree);
	wptrack_tree_read(root_pid(), &guard.ran);
	guard.path = path;
	if (!path || (!guard.at_source && write_held(path, &guard.tree)))
		return 1;
	unlink(path);
	guard.listener = open_socket(path, true);
	leave_out_the_stopped(&guard.ran);
	if (guard.listener >= 0 && !send_word(controller, event))
		status = hold(&guard);
	/* What is to end has not ended yet. */
	if (guard.at_source && status == 1)
		wptrack_doubt_forget(path);
	unlink(path);
	wptrack_tree_free(&guard.tree);
	wptrack_tree_free(&guard.ran);
	return status;
}

/* They run: that is to be found out also by whoever was not there. */
static void note_running(void)
{
	char guard[PATH_MAX];

	snprintf(guard, sizeof(guard), "%s", getenv(ENV_GUARD) ?: "");
	wptrack_hold_note(dirname(guard), WPTRACK_HOLD_RUNNING);
}

static int run_script(const char *event)
{
	const bool is_hold = !strcmp(event, "post-dump") || !strcmp(event, "post-restore");
	int controller WPTRACK_CLEANUP(wptrack_close_fd) = -1;

	if (!is_hold && strcmp(event, "pre-dump") && strcmp(event, "post-resume"))
		return 0;
	if (!strcmp(event, "post-resume"))
		note_running();
	if (!strcmp(event, "pre-dump"))
		note_stopped();
	controller = open_socket(getenv(ENV_CONTROLLER), false);
	if (controller < 0 && !strcmp(event, "post-restore"))
		tell_hook(WPTRACK_HOOK_ABORTED);
	if (controller < 0)
		return is_hold;
	if (is_hold)
		return be_guard(event, controller);
	send_word(controller, event);
	return 0;
}

int wptrack_cmd_script(void)
{
	const char *event = getenv(ENV_ACTION);

	return event && getenv(ENV_CONTROLLER) ? run_script(event) : -1;
}
