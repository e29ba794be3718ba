// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes a test in zdtm's conventions out of each program that works in steps
 * (test/programs), whose main() is program_main() here. The test runs the program
 * in a child and takes the driver's part: a step after each pre-dump, and when all
 * is over its memory has to be right, and has to stay so over two steps more.
 *
 * What the program must hold stands in memory of its own or, for some, in a file
 * beside the control file; --run has its arguments, behind "seccomp" if it is to
 * have a filter that does not let it call userfaultfd(2).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "control_ask.h"
#include "filter.h"
#include "zdtmtst.h"

#define MAX_ARGS  16
#define TIMEOUT_S 25

const char *test_doc = "Memory of a program that works in steps, each behind a pre-dump";
const char *test_author = "criu-wptrack developers";

int program_main(int argc, char **argv);

static char *filename;
TEST_OPTION(filename, string, "control file", 1);
static char *run;
TEST_OPTION(run, string, "arguments of the program", 0);
static char *processes;
TEST_OPTION(processes, string, "how many processes the program has at the start", 0);

static struct control *ctl;

/* zdtm's own part leaks, which is no concern of ours. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static int run_program(void)
{
	char *argv[MAX_ARGS + 1] = { "program", "--control", filename }, *arg = run ? strtok(run, " ") : NULL;
	int argc = 3;

	/* A test that fails is killed, which must not leave the program behind. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return 1;
	signal(SIGTERM, SIG_DFL);
	if (arg && !strcmp(arg, "seccomp")) {
		if (filter_userfaultfd())
			return 1;
		arg = strtok(NULL, " ");
	}
	for (; arg && argc < MAX_ARGS; arg = strtok(NULL, " "))
		argv[argc++] = arg;
	return program_main(argc, argv);
}

static int ask(enum control_op op, const char *what)
{
	int err = control_request(ctl, op, TIMEOUT_S);

	if (err)
		pr_err("%s: %s\n", what, strerror(-err));
	return err;
}

/* There are cases that have nothing before their first step: @least is how many pages it must have. */
static int verify(const char *when, unsigned long least)
{
	struct control_verdict v;

	if (ask(CONTROL_VERIFY, when))
		return -1;
	v = control_verdict(ctl);
	test_msg("%s: %lu pages, %lu of them wrong, %lu of an earlier time\n", when, v.checked, v.bad, v.stale);
	if (v.bad || v.stale || v.checked < least) {
		fail("%s: %lu of %lu pages are wrong, and %lu of an earlier time, from %lx on", when, v.bad, v.checked,
		     v.stale, v.first_bad);
		return -1;
	}
	return 0;
}

static int verify_and_go_on(void)
{
	for (int more = 2; more; more--)
		if (verify("in the end", 0) || ask(CONTROL_STEP, "a step behind the restore"))
			return -1;
	return verify("two steps on", 1);
}

/*
 * Return: is there a pre-dump behind us, and not the end before us? A read that
 * blocks would not be ended by a signal, which TSan keeps back.
 */
static bool wait_pre_dump(void)
{
	const char *fd = getenv("ZDTM_NOTIFY_FDIN");
	struct pollfd p = { .fd = fd ? atoi(fd) : -1, .events = POLLIN };

	while (test_go())
		if (poll(&p, 1, 20) > 0)
			return !test_wait_pre_dump();
	return false;
}

static int start(pid_t *ret_pid)
{
	pid_t pid;

	if (control_map(filename, true, &ctl)) {
		pr_perror("%s", filename);
		return -1;
	}
	pid = fork();
	if (pid < 0) {
		pr_perror("fork");
		return -1;
	}
	if (pid == 0)
		_exit(run_program());
	*ret_pid = pid;
	if (control_wait_ready(ctl, processes ? (unsigned int)atoi(processes) : 1, TIMEOUT_S)) {
		pr_err("the program does not get ready\n");
		return -1;
	}
	return verify("at the start", 0);
}

int main(int argc, char **argv)
{
	int status = 0, bad;
	pid_t pid;

	/* The program executes itself again. */
	if (argc > 1 && !strcmp(argv[1], "--control"))
		return program_main(argc, argv);

	test_init(argc, argv);
	if (start(&pid))
		return 1;
	test_daemon();
	while (wait_pre_dump()) {
		if (ask(CONTROL_STEP, "a step"))
			return 1;
		test_wait_pre_dump_ack();
	}

	bad = verify_and_go_on();
	if (ask(CONTROL_QUIT, "the end") || waitpid(pid, &status, 0) != pid || status) {
		fail("the program does not end well: status %x", status);
		return 1;
	}
	if (bad)
		return 1;
	pass();
	return 0;
}
