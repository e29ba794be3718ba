// SPDX-License-Identifier: GPL-2.0-only
/* Driver's side of a control file (control.h): ask, wait for the answer, print it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control.h"

#define DEFAULT_TIMEOUT_S 30

static struct control *ctl;

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void nap(void)
{
	struct timespec ts = { .tv_nsec = 5000000 };

	nanosleep(&ts, NULL);
}

static bool slot_is_used(unsigned int i)
{
	uint32_t state = atomic_load(&ctl->slot[i].state);

	return state != CONTROL_EMPTY && state != CONTROL_GONE;
}

static uint64_t sum_writes(void)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		sum += atomic_load(&ctl->slot[i].writes);
	return sum;
}

/* Every slot in use is past @state, and there are @nr of them at least. */
static bool all_reached(uint32_t state, unsigned int nr)
{
	unsigned int used = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++) {
		if (!slot_is_used(i))
			continue;
		used++;
		if (atomic_load(&ctl->slot[i].state) < state)
			return false;
	}
	return used >= nr;
}

static bool all_acked(uint32_t request)
{
	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		if (slot_is_used(i) && atomic_load(&ctl->slot[i].acked) != request)
			return false;
	return true;
}

static int wait_ready(unsigned int nr, double timeout)
{
	double end = now_s() + timeout;

	while (!all_reached(CONTROL_RUNNING, nr)) {
		if (now_s() > end) {
			fprintf(stderr, "pkctl: program not ready after %.0f s\n", timeout);
			return 1;
		}
		nap();
	}
	return 0;
}

static int wait_writes(uint64_t more, double timeout)
{
	double end = now_s() + timeout;
	uint64_t start = sum_writes();

	while (sum_writes() - start < more) {
		if (now_s() > end) {
			fprintf(stderr, "pkctl: %" PRIu64 " of %" PRIu64 " pages written in %.0f s\n",
				sum_writes() - start, more, timeout);
			return 1;
		}
		nap();
	}
	return 0;
}

static int report_verify(void)
{
	uint64_t checked = 0, bad = 0, stale = 0, first = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++) {
		struct control_slot *s = &ctl->slot[i];

		if (!slot_is_used(i))
			continue;
		checked += s->checked;
		bad += s->bad;
		stale += s->stale;
		if (!first)
			first = s->first_bad;
	}
	printf("checked=%" PRIu64 " bad=%" PRIu64 " stale=%" PRIu64 " first=0x%" PRIx64 "\n", checked, bad, stale, first);
	return checked == 0 || bad || stale;
}

static int report_failed(void)
{
	int ret = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++) {
		uint32_t failed = atomic_load(&ctl->slot[i].failed);

		if (failed) {
			fprintf(stderr, "pkctl: slot %u could not do a step: %s\n", i, strerror((int)failed));
			ret = 1;
		}
	}
	return ret;
}

static int do_request(enum control_op op, double timeout)
{
	double end = now_s() + timeout;
	uint32_t nr;

	atomic_store(&ctl->op, op);
	nr = atomic_fetch_add(&ctl->request, 1) + 1;
	while (!all_acked(nr)) {
		if (now_s() > end) {
			fprintf(stderr, "pkctl: request %u (op %d) not answered in %.0f s\n", nr, op, timeout);
			return 1;
		}
		nap();
	}
	if (op == CONTROL_VERIFY)
		return report_verify();
	return report_failed();
}

static int print_dirtied(uint32_t from, uint32_t to)
{
	uint64_t sum = 0;

	for (uint32_t e = from; e <= to && e < CONTROL_EPOCHS; e++)
		for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
			sum += atomic_load(&ctl->slot[i].dirtied[e]);
	printf("%" PRIu64 "\n", sum);
	return 0;
}

static int print_pids(void)
{
	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		if (slot_is_used(i))
			printf("%u\n", atomic_load(&ctl->slot[i].pid));
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: pkctl FILE create\n"
			"       pkctl FILE ready PROCESSES [TIMEOUT]\n"
			"       pkctl FILE pause|resume|verify|step|quit [TIMEOUT]\n"
			"       pkctl FILE epoch N\n"
			"       pkctl FILE dirtied FROM TO\n"
			"       pkctl FILE wait-writes PAGES [TIMEOUT]\n"
			"       pkctl FILE writes|pids\n");
	return 2;
}

static enum control_op parse_op(const char *name)
{
	static const char *const names[] = {
		[CONTROL_PAUSE] = "pause",   [CONTROL_RESUME] = "resume", [CONTROL_VERIFY] = "verify",
		[CONTROL_STEP] = "step", [CONTROL_QUIT] = "quit",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && !strcmp(names[i], name))
			return i;
	return CONTROL_NONE;
}

static int run(int argc, char **argv)
{
	const char *cmd = argv[2];
	enum control_op op = parse_op(cmd);
	double timeout = DEFAULT_TIMEOUT_S;

	if (op != CONTROL_NONE) {
		if (argc > 3)
			timeout = atof(argv[3]);
		return do_request(op, timeout);
	}
	if (!strcmp(cmd, "create"))
		return 0;
	if (!strcmp(cmd, "writes"))
		return printf("%" PRIu64 "\n", sum_writes()) < 0;
	if (!strcmp(cmd, "pids"))
		return print_pids();
	if (argc > 4)
		timeout = atof(argv[4]);
	if (argc > 3 && !strcmp(cmd, "ready"))
		return wait_ready((unsigned int)atoi(argv[3]), timeout);
	if (argc > 3 && !strcmp(cmd, "wait-writes"))
		return wait_writes(strtoull(argv[3], NULL, 0), timeout);
	if (argc > 3 && !strcmp(cmd, "epoch")) {
		uint32_t epoch = (uint32_t)atoi(argv[3]);

		if (epoch >= CONTROL_EPOCHS)
			return usage();
		atomic_store(&ctl->epoch, epoch);
		return 0;
	}
	if (argc > 4 && !strcmp(cmd, "dirtied"))
		return print_dirtied((uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
	return usage();
}

int main(int argc, char **argv)
{
	int err;

	if (argc < 3)
		return usage();
	err = control_map(argv[1], !strcmp(argv[2], "create"), &ctl);
	if (err) {
		fprintf(stderr, "pkctl: %s: %s\n", argv[1], strerror(-err));
		return 1;
	}
	return run(argc, argv);
}
