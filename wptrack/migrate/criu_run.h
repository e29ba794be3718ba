/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Running criu, or another command, as a child, and cancelling it without harm
 * to the processes that criu has stopped. No logging.
 */
#ifndef WPTRACK_CRIU_RUN_H
#define WPTRACK_CRIU_RUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

/* All zero, but for what tick and root say, before the first run. */
struct wptrack_run {
	pid_t root;		 /* tree that criu works on */
	void (*tick)(void *arg); /* called some times a second while a child runs; may be NULL */
	void *arg;
	atomic_int cancelled; /* SIGINT, SIGTERM or SIGHUP, once one has come; 0: none */
	atomic_bool spare;    /* another thread sees to it that the child ends: signals are not passed on */
	atomic_bool leave;    /* the same has decided that the child is not to be waited for */
};

/**
 * wptrack_run_prepare - hold back the signals that cancel
 *
 * SIGINT, SIGTERM and SIGHUP, unless they are ignored. From here on they are
 * taken notice of by the functions below only. Children have the mask that this
 * process had, and write to stderr what they write to stdout. SIGPIPE is ignored.
 */
void wptrack_run_prepare(void);

/* Take a signal that has come, if none has before. Return: run->cancelled. */
int wptrack_run_cancelled(struct wptrack_run *run);

/**
 * wptrack_run_criu - run criu and wait for its end
 * @argv:	argv[0] is found along $PATH
 *
 * It has a process group of its own, so that Ctrl-C reaches this process alone.
 * A signal that cancels is passed on as soon as criu traces no process of the
 * tree: a criu that is killed while its code is in a process may leave that
 * behind. So a final dump runs to its end, mostly. A second signal is passed on
 * at once. After a child that has ended nothing of the tree is traced by it.
 *
 * Return: the status as waitpid() has it, or -errno when it could not be run,
 * -EINPROGRESS when it was left.
 */
int wptrack_run_criu(struct wptrack_run *run, char *const argv[]);

/**
 * wptrack_run_question - run a program that is to answer and end at once
 * @answer:	the beginning of what it writes, to stdout or stderr
 *
 * It cannot ask back. One that takes more than ten seconds is killed. Return:
 * the status as waitpid() has it, or -errno when it could not be run.
 */
int wptrack_run_question(char *const argv[], char *answer, size_t size);

/* Did it run, and end with 0? @status: of one of these functions. */
bool wptrack_run_succeeded(int status);

/* As wptrack_run_criu(), for a command of the user's, in our process group; signals are passed on at once. */
int wptrack_run_shell(struct wptrack_run *run, const char *command);

#endif
