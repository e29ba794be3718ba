// SPDX-License-Identifier: GPL-2.0-only
/* Writers nobody sees: what of a task its basis depends on, beside what the kernel says of its pages. */
#include <errno.h>

#include "criu.h"

#include "lib/controls.h"
#include "lib/pins.h"
#include "lib/proc.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

/*
 * Closing an io_uring does not wait for what it was told to do: a read into
 * memory may be under way in the round after, too, with nothing to tell of it.
 */
static bool had_io_uring(const struct wptrack_round *round, const struct wptrack_task *task)
{
	const struct wptrack_record_task *then = round->parent ? wptrack_record_find(round->parent, task->pid) : NULL;

	return then && then->info.start_time == task->start_time && then->io_uring;
}

static bool write_unseen(const struct wptrack_guests *guests)
{
	/* Nobody stops them as a process of CRIU's tree is, and their userfaultfds are not told from ours. */
	return guests->io_uring || guests->direct_io || guests->uffd;
}

static void look_at_guests(struct wptrack_pids *processes, pid_t pid, struct wptrack_guests *guests)
{
	if (wptrack_control("no-guests"))
		*guests = (struct wptrack_guests){ 0 };
	else if (!processes->nr && wptrack_proc_list(processes))
		*guests = (struct wptrack_guests){ .any = true, .io_uring = true, .direct_io = true, .uffd = true };
	else
		wptrack_proc_look_at_guests(pid, processes, guests);
}

void wptrack_target_look_at_guests(struct wptrack_round *round, struct wptrack_target *target)
{
	/* While nobody is stopped there may be new ones at any time. */
	if (target->live)
		wptrack_proc_list_free(&round->processes);
	look_at_guests(&round->processes, target->info.pid, &target->guests);
	if (target->guests.any)
		pr_info("%d: another process is in its memory\n", target->info.pid);
}

bool wptrack_target_has_unseen_writers(const struct wptrack_round *round, struct wptrack_target *target,
				       const struct cr_mem_track_task *task)
{
	unsigned int i;

	/* If it cannot be told, it has one. */
	target->io_uring = wptrack_proc_has_io_uring(task->pid) != 0 || target->guests.io_uring;
	target->pins = wptrack_pins_of(task->pid);

	for (i = 0; i < task->nr_vmas; i++)
		if (task->vmas[i].kind == CR_MEM_TRACK_AIO)
			return true;

	/* An io_uring in memory of the program's own is not counted as pinned. */
	return target->io_uring || had_io_uring(round, &target->info) || write_unseen(&target->guests) ||
	       (target->pins != WPTRACK_PINS_NONE && target->pins != WPTRACK_PINS_NEVER);
}

/* What cannot be looked at because the task has ended is no base for anything either. */
static bool not_known_to_be_none(int has)
{
	return has && has != -ESRCH;
}

/* Memory that had never been pinned when the round began, and has been since, counts even if it no longer is. */
static bool may_have_been_pinned(const struct wptrack_target *target)
{
	enum wptrack_pins now = wptrack_pins_of(target->info.pid);

	return now == WPTRACK_PINS_POSSIBLE || (now == WPTRACK_PINS_NONE && target->pins == WPTRACK_PINS_NEVER);
}

bool wptrack_target_may_have_missed(struct wptrack_round *round, struct wptrack_target *target)
{
	struct wptrack_guests guests;
	int pid = target->info.pid;

	if (!target->ran || target->gone)
		return false;

	/* The next round is to know of it, even if it is closed by then. */
	look_at_guests(&round->processes, pid, &guests);
	if (guests.io_uring || not_known_to_be_none(wptrack_proc_has_io_uring(pid)))
		target->io_uring = true;
	if (target->basis == WPTRACK_BASIS_UNTRUSTED)
		return false;

	/* Who had a userfaultfd from the beginning was asked about all that could be its own. */
	if (!target->rivals && not_known_to_be_none(wptrack_proc_has_uffd(pid)))
		return true;
	return target->io_uring || write_unseen(&guests) || may_have_been_pinned(target) || not_known_to_be_none(wptrack_proc_has_aio(pid)) ||
	       not_known_to_be_none(wptrack_proc_has_direct_io(pid));
}
