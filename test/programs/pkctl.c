// SPDX-License-Identifier: GPL-2.0-only
/* Driver's side of a control file (control.h): ask, wait for the answer, print it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_ask.h"

#define DEFAULT_TIMEOUT_S 30

static struct control *ctl;

static uint64_t sum_writes(void)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < CONTROL_SLOTS; i++)
		sum += atomic_load(&ctl->slot[i].writes);
	return sum;
}

static int wait_ready(unsigned int nr, double timeout)
{
	if (!control_wait_ready(ctl, nr, timeout))
		return 0;
	fprintf(stderr, "pkctl: program not ready after %.0f s\n", timeout);
	return 1;
}

static int wait_writes(uint64_t more, double timeout)
{
	double end = control_deadline_s(timeout);
	uint64_t start = sum_writes();

	while (sum_writes() - start < more) {
		if (control_now_s() > end) {
			fprintf(stderr, "pkctl: %" PRIu64 " of %" PRIu64 " pages written in %.0f s\n",
				sum_writes() - start, more, timeout);
			return 1;
		}
		control_nap();
	}
	return 0;
}

static int report_verify(void)
{
	struct control_verdict v = control_verdict(ctl);

	printf("checked=%" PRIu64 " bad=%" PRIu64 " stale=%" PRIu64 " first=0x%" PRIx64 "\n", v.checked, v.bad, v.stale,
	       v.first_bad);
	return v.checked == 0 || v.bad || v.stale;
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
	int err = control_request(ctl, op, timeout);

	if (err == -ETIMEDOUT) {
		fprintf(stderr, "pkctl: request %u (op %d) not answered in %.0f s\n", atomic_load(&ctl->request), op,
			timeout);
		return 1;
	}
	return op == CONTROL_VERIFY ? report_verify() : report_failed();
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
		if (control_slot_is_used(ctl, i))
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
			"       pkctl FILE writes|beats|pids\n");
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
	if (!strcmp(cmd, "beats"))
		return printf("%" PRIu64 "\n", (uint64_t)atomic_load(&ctl->slot[0].heartbeat)) < 0;
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
