// SPDX-License-Identifier: GPL-2.0-only
/* Which mappings of a task are registered, and what becomes of those that are not. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "criu.h"

#include "lib/controls.h"
#include "lib/page.h"
#include "lib/sys_pagemap.h"
#include "lib/sys_uffd.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

/*
 * A registered VMA does not merge with a new neighbour, so that tracking costs
 * mappings; the kernel allows 65530 of them by default.
 */
#define MAX_REGISTERED_VMAS 32768

/* A run: VMAs side by side, of so few pages each that a call costs more than a look at them all */
#define RUN_VMA_PAGES 64
#define RUN_VMAS_MAX  512

static enum wptrack_refusal refusal_of_kind(enum cr_mem_track_kind kind)
{
	switch (kind) {
	case CR_MEM_TRACK_FILE:
		return WPTRACK_REFUSED_FILE;
	case CR_MEM_TRACK_SHARED:
		return WPTRACK_REFUSED_SHARED;
	case CR_MEM_TRACK_HUGETLB:
		return WPTRACK_REFUSED_HUGETLB;
	default:
		return WPTRACK_REFUSED_SPECIAL;
	}
}

/* What the kernel says of a VMA that it does not take, before it has changed anything. */
static bool is_refusal(int err)
{
	return err == -EBUSY || err == -EINVAL || err == -EPERM;
}

/* What has been killed while it was stopped is no parent of anything, but the round may be one for others. */
static void break_round(struct wptrack_round *round, struct wptrack_target *target, const struct wptrack_vma *vma,
			int err)
{
	if (wptrack_uffd_memory_is_gone(target->uffd)) {
		target->gone = true;
		return;
	}
	round->broken = true;
	pr_warn("%d: can't register %" PRIx64 "-%" PRIx64 " or un-arm it: %s. The next dump will be full\n",
		target->info.pid, vma->start, vma->end, strerror(-err));
}

/*
 * Register a VMA, or make sure that it is ours. What was armed before belongs
 * to us if the kernel lets us register it again: a VMA has one owner.
 *
 * Page tables may hold marks of a former registration, which would read as
 * clean, so a fresh one is un-protected. One that was there before has been, by
 * the committed round that an incremental one goes by; in any other round it may
 * stem from an attach that ended in between. What may be registered with its
 * marks in place breaks the round: the next one is not incremental then.
 */
static int register_vma(struct wptrack_round *round, struct wptrack_target *target, struct wptrack_vma *vma, int armed)
{
	int err;

	err = wptrack_uffd_register(target->uffd, vma->start, vma->end);
	if (err) {
		if (!is_refusal(err) || wptrack_pagemap_is_armable(target->pagemap, vma->start) != armed)
			break_round(round, target, vma, err);
		return err;
	}

	/* Of what has just been restored all is armed, so that a mark is right whatever it stems from. */
	if ((!armed || (target->basis != WPTRACK_BASIS_INCREMENTAL && !wptrack_control("trust-armed"))) &&
	    !round->restored && !wptrack_control("no-unprotect")) {
		err = wptrack_uffd_unprotect(target->uffd, vma->start, vma->end);
		if (err) {
			break_round(round, target, vma, err);
			return err;
		}
	}

	vma->armed = armed;
	return 0;
}

static int ask_and_register(struct wptrack_round *round, struct wptrack_target *target, struct wptrack_vma *vma)
{
	const int armed = wptrack_pagemap_is_armable(target->pagemap, vma->start);

	return armed < 0 ? armed : register_vma(round, target, vma, armed);
}

/* What is not told of in this round must not look as if it had been: it may have been in an earlier one. */
static void leave_out(struct wptrack_round *round, struct wptrack_target *target, uint64_t start, uint64_t end)
{
	int err = wptrack_running_unarm(target, start, end);

	if (!err)
		return;
	round->broken = true;
	pr_warn("%d: can't un-arm %" PRIx64 "-%" PRIx64 ": %s. The next dump will be full\n", target->info.pid, start,
		end, strerror(-err));
}

/*
 * Marks of earlier rounds in what this one does not tell of. A mapping that is not
 * taken for anonymous now may have been before.
 */
static bool may_have_marks(const struct wptrack_target *target, const struct cr_mem_track_vma *cr_vma)
{
	int armable;

	if (wptrack_control("keep-marks"))
		return false;
	if (cr_vma->kind != CR_MEM_TRACK_ANON && cr_vma->kind != CR_MEM_TRACK_SPECIAL)
		return false;
	if (target->live && cr_vma->kind == CR_MEM_TRACK_ANON)
		return true;
	armable = wptrack_pagemap_is_armable(target->pagemap, cr_vma->start);
	return cr_vma->kind == CR_MEM_TRACK_ANON ? armable != 0 : armable > 0;
}

static void add_vma(struct wptrack_target *target, struct cr_mem_track_vma *cr_vma)
{
	target->nr_vmas++;
	target->info.vmas_registered++;
	target->info.registered_bytes += cr_vma->end - cr_vma->start;
	cr_vma->tracked = true;
}

/* @armed: -1 asks for it */
static void consider_vma(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_vma *cr_vma,
			 bool running, int armed)
{
	struct wptrack_vma *vma = &target->vmas[target->nr_vmas];
	enum wptrack_refusal refusal;
	int err;

	if (cr_vma->kind != CR_MEM_TRACK_ANON) {
		refusal = refusal_of_kind(cr_vma->kind);
	} else if (target->nr_vmas == MAX_REGISTERED_VMAS) {
		refusal = WPTRACK_REFUSED_LIMIT;
	} else {
		*vma = (struct wptrack_vma){ .start = cr_vma->start, .end = cr_vma->end, .told = cr_vma->start };
		if (running)
			err = wptrack_running_register(target, vma);
		else if (armed < 0)
			err = ask_and_register(round, target, vma);
		else
			err = register_vma(round, target, vma, armed);
		if (!err) {
			add_vma(target, cr_vma);
			return;
		}
		pr_debug("%d: %" PRIx64 "-%" PRIx64 " is not tracked: %s\n", target->info.pid, vma->start, vma->end,
			 strerror(-err));
		refusal = err == -EBUSY ? WPTRACK_REFUSED_BUSY : WPTRACK_REFUSED_KERNEL;
	}

	target->info.vmas_refused[refusal]++;
	if (refusal != WPTRACK_REFUSED_BUSY && may_have_marks(target, cr_vma))
		leave_out(round, target, cr_vma->start, cr_vma->end);
}

/* How many VMAs make a run, from @vmas on. */
static unsigned int length_of_run(const struct cr_mem_track_vma *vmas, unsigned int nr)
{
	const uint64_t max_bytes = RUN_VMA_PAGES * wptrack_page_bytes();
	unsigned int i;

	for (i = 0; i < nr && i < RUN_VMAS_MAX; i++)
		if (vmas[i].kind != CR_MEM_TRACK_ANON || vmas[i].end - vmas[i].start > max_bytes ||
		    (i && vmas[i].start != vmas[i - 1].end))
			break;
	return i;
}

/*
 * Take VMAs that are a run, as one: up to @nr of them, those that are armed like the first. If the kernel does not take
 * them all, each is asked for by itself. Whether it was armed before is known then, as it may look so since. Return:
 * how many have been considered.
 */
static unsigned int consider_run(struct wptrack_round *round, struct wptrack_target *target,
				 struct cr_mem_track_vma *cr_vmas, unsigned int nr)
{
	struct wptrack_vma whole = { .start = cr_vmas[0].start, .end = cr_vmas[nr - 1].end };
	const int armed = wptrack_pagemap_is_armable(target->pagemap, whole.start);
	uint64_t other;
	unsigned int i;
	int err;

	err = armed < 0 ? armed : wptrack_pagemap_find(target->pagemap, whole.start, whole.end, !armed, &other);
	if (err && err != -ENOENT) {
		consider_vma(round, target, &cr_vmas[0], false, armed < 0 ? -1 : armed);
		return 1;
	}
	while (!err && nr > 1 && cr_vmas[nr - 1].end > other)
		nr--;
	whole.end = cr_vmas[nr - 1].end;

	if (nr == 1 || register_vma(round, target, &whole, armed)) {
		for (i = 0; i < nr; i++)
			consider_vma(round, target, &cr_vmas[i], false, armed);
		return nr;
	}
	for (i = 0; i < nr; i++) {
		target->vmas[target->nr_vmas] = (struct wptrack_vma){
			.start = cr_vmas[i].start,
			.end = cr_vmas[i].end,
			.told = cr_vmas[i].start,
			.armed = whole.armed,
			.run = whole.end,
		};
		add_vma(target, &cr_vmas[i]);
	}
	return nr;
}

/* What has become something else than memory that we track must not be told of. */
static void drop_other_kinds(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	size_t i, kept = 0;
	unsigned int k = 0;

	for (i = 0; i < target->nr_vmas; i++) {
		struct wptrack_vma *vma = &target->vmas[i];

		if (!vma->other) {
			target->vmas[kept++] = *vma;
			continue;
		}
		while (k < task->nr_vmas && task->vmas[k].start != vma->start)
			k++;
		if (k < task->nr_vmas)
			task->vmas[k].tracked = false;
		/* Around the other kind there may be what earlier rounds have armed. */
		leave_out(round, target, vma->start, vma->end);
		target->info.vmas_registered--;
		target->info.registered_bytes -= vma->end - vma->start;
		target->info.vmas_refused[WPTRACK_REFUSED_SPECIAL]++;
	}
	target->nr_vmas = kept;
}

int wptrack_vmas_attach(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	const bool runs = wptrack_target_runs(target, task->running);
	bool fresh = false;
	unsigned int i, nr;
	int err;

	for (i = 0; i < task->nr_vmas; i += nr) {
		nr = MAX_REGISTERED_VMAS - target->nr_vmas;
		if (nr > task->nr_vmas - i)
			nr = task->nr_vmas - i;
		nr = runs ? 0 : length_of_run(&task->vmas[i], nr);
		if (nr > 1) {
			nr = consider_run(round, target, &task->vmas[i], nr);
		} else {
			nr = 1;
			consider_vma(round, target, &task->vmas[i], runs, -1);
		}
	}
	for (i = 0; i < target->nr_vmas; i++)
		fresh |= target->vmas[i].fresh;
	if (!fresh)
		return 0;

	err = wptrack_running_check_kinds(target);
	if (!err)
		drop_other_kinds(round, target, task);
	return err;
}
