// SPDX-License-Identifier: GPL-2.0-only
/* One tracked task: its userfaultfd, its registered VMAs, what has changed in them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu.h"

#include "lib/clock.h"
#include "lib/controls.h"
#include "lib/page.h"
#include "lib/proc.h"
#include "lib/sys_pagemap.h"
#include "lib/sys_uffd.h"
#include "lib/uapi.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

_Static_assert(sizeof(struct cr_mem_track_range) == sizeof(struct page_region) &&
	       offsetof(struct cr_mem_track_range, end) == offsetof(struct page_region, end) &&
	       offsetof(struct cr_mem_track_range, flags) == offsetof(struct page_region, categories),
	       "the scan fills CRIU's ranges in place");

static int remote_close(struct cr_mem_track_task *task, long fd)
{
	const unsigned long args[3] = { fd };
	long ret;

	if (task->remote_syscall(task, task->compat ? WPTRACK_I386_CLOSE : SYS_close, &ret, args))
		return -EIO;
	return ret;
}

/* A userfaultfd belongs to the memory of the process that makes it, so the target does. */
static int make_uffd(struct cr_mem_track_task *task, int pidfd, int *ret_uffd)
{
	const unsigned long args[3] = { wptrack_uffd_flags() };
	int fd, err;
	long ret;

	if (task->remote_syscall(task, task->compat ? WPTRACK_I386_USERFAULTFD : SYS_userfaultfd, &ret, args))
		return -EIO;
	if (ret == -EMFILE)
		pr_warn("%d has no free descriptor: RLIMIT_NOFILE is too low (prlimit --pid %d --nofile)\n", task->pid,
			task->pid);
	if (ret < 0)
		return ret;

	fd = wptrack_pidfd_getfd(pidfd, ret);
	err = remote_close(task, ret);
	if (err)
		pr_err("Can't close userfaultfd %ld in %d: %s\n", ret, task->pid, strerror(-err));
	if (fd < 0)
		return fd;
	if (!err)
		err = wptrack_uffd_enable(fd);
	if (err) {
		close(fd);
		return err;
	}

	*ret_uffd = fd;
	return 0;
}

/*
 * A CRIU that was killed between making the userfaultfd and closing it has left
 * it in the task. It has never been enabled, so nothing but ours can be like it
 * in a task that the keeper says has been prepared. It is closed there while it
 * is still idle: should that fail, the next attach finds it again.
 */
static int adopt_uffd(struct cr_mem_track_task *task, int pidfd, int *ret_uffd)
{
	int remote, fd, err;

	remote = wptrack_proc_next_idle_uffd(task->pid, 0);
	if (remote < 0)
		return remote;

	fd = wptrack_pidfd_getfd(pidfd, remote);
	if (fd < 0)
		return fd;

	pr_info("%d: userfaultfd %d of an interrupted attach is taken over\n", task->pid, remote);
	err = remote_close(task, remote);
	if (err)
		pr_err("Can't close userfaultfd %d in %d: %s\n", remote, task->pid, strerror(-err));
	else
		err = wptrack_uffd_enable(fd);
	if (err) {
		close(fd);
		return err;
	}

	*ret_uffd = fd;
	return 0;
}

/* The next attach looks for it, unless nothing has been left there. */
static void give_up(struct wptrack_round *round, const struct wptrack_target *target)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_RELEASE, .task = target->info };

	if (wptrack_proc_next_idle_uffd(target->info.pid, 0) == -ENOENT)
		wptrack_wire_call(round->keeper, &msg, NULL, 0, NULL);
}

static int attach_new(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task,
		      bool interrupted)
{
	struct wptrack_msg prepare = { .op = WPTRACK_OP_PREPARE, .task = target->info };
	struct wptrack_msg msg = { .op = WPTRACK_OP_ADD, .task = target->info };
	int fds[2], err;

	fds[0] = wptrack_pidfd_open(task->pid);
	if (fds[0] < 0)
		return fds[0];

	err = wptrack_wire_call(round->keeper, &prepare, fds, 1, NULL);
	if (err) {
		close(fds[0]);
		return err;
	}

	err = interrupted ? adopt_uffd(task, fds[0], &target->uffd) : -ENOENT;
	if (err == -ENOENT)
		err = make_uffd(task, fds[0], &target->uffd);
	if (!err) {
		fds[1] = target->uffd;
		err = wptrack_wire_call(round->keeper, &msg, fds, 2, NULL);
	} else {
		give_up(round, target);
	}
	close(fds[0]);
	if (err)
		return err;

	target->info.mm_id = msg.task.mm_id;
	target->basis = WPTRACK_BASIS_NEW_TASK;
	return 0;
}

/* The parent images are the round committed last for this task, and have it. */
static bool parent_is_last(const struct wptrack_round *round, const struct wptrack_task *known)
{
	const struct wptrack_record_task *then;

	if (!round->parent)
		return false;
	/*
	 * It has been restored from them, if they are still what they were. What was written to the former process's
	 * memory unseen does not matter then, nor which process that was: all of it is in the images.
	 */
	if (known->base && known->base != round->parent_stamp && !wptrack_control("ignore-base") &&
	    !wptrack_control("ignore-generation"))
		return false;
	if ((!known->generation || round->parent->generation != known->generation ||
	     memcmp(round->parent->session, known->session, sizeof(known->session))) &&
	    !wptrack_control("ignore-generation"))
		return false;

	if (known->base)
		return true;

	then = wptrack_record_find(round->parent, known->pid);
	if (!then || then->info.mm_id != known->mm_id || then->info.start_time != known->start_time)
		return false;

	/*
	 * What was pinned when the parent was collected may have been written to
	 * since, unseen, even if nothing is pinned any more.
	 */
	return then->basis != WPTRACK_BASIS_UNTRUSTED && then->basis != WPTRACK_BASIS_UNTRACKED;
}

static int take_known(struct wptrack_round *round, struct wptrack_target *target)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_TAKE, .task = target->info };
	int err;

	err = wptrack_wire_call(round->keeper, &msg, NULL, 0, &target->uffd);
	if (err)
		return err;

	if (wptrack_uffd_memory_is_gone(target->uffd)) {
		close(target->uffd);
		target->uffd = -1;
		return -ENOENT;
	}

	target->info.mm_id = msg.task.mm_id;
	/* If it cannot be told, there is one. */
	target->rivals = msg.task.vmas_refused[WPTRACK_REFUSED_BUSY] || wptrack_proc_has_uffd(target->info.pid);
	if (!round->has_parent) {
		target->basis = WPTRACK_BASIS_NO_PARENT;
	} else if (parent_is_last(round, &msg.task)) {
		target->basis = WPTRACK_BASIS_INCREMENTAL;
	} else {
		target->basis = WPTRACK_BASIS_CHAIN_BROKEN;
		pr_warn("%d: the parent images are no sure base (its last committed round is %" PRIu64 "), "
			"so it is dumped in full\n", target->info.pid, msg.task.generation);
	}
	return 0;
}

bool wptrack_target_runs(const struct wptrack_target *target, bool running)
{
	return running || (target->guests.any && !wptrack_control("guests-stand-still"));
}

/*
 * A task is left running if it is known, and the memory behind its pid is still
 * the one that is. While it reads with O_DIRECT, the device writes to pages that
 * may be collected and copied at the same time.
 */
static int take_running(struct wptrack_round *round, struct wptrack_target *target)
{
	struct wptrack_task now = { 0 };
	int err;

	/* To ask the keeper voids what has been committed, so this comes first. */
	if (wptrack_proc_has_direct_io(target->info.pid))
		return -EAGAIN;

	err = take_known(round, target);
	if (err)
		return err == -ENOENT || err == -ENODATA ? -EAGAIN : err;

	target->pagemap = wptrack_pagemap_open(target->info.pid);
	if (target->pagemap < 0)
		return target->pagemap;

	err = wptrack_proc_identify(target->info.pid, &now);
	if (!err && (now.start_time != target->info.start_time || now.mm_stamp != target->info.mm_stamp))
		return -EAGAIN;
	return err;
}

static int take_stopped(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	int err;

	err = take_known(round, target);
	if (err == -ENOENT || err == -ENODATA)
		err = attach_new(round, target, task, err == -ENODATA);
	if (err)
		return err;

	target->pagemap = wptrack_pagemap_open(task->pid);
	if (target->pagemap < 0)
		return target->pagemap;

	task->needs_stop = task->live && wptrack_proc_has_direct_io(task->pid);
	return 0;
}

static bool has_aio(const struct cr_mem_track_task *task)
{
	for (unsigned int i = 0; i < task->nr_vmas; i++)
		if (task->vmas[i].kind == CR_MEM_TRACK_AIO)
			return true;
	return false;
}

/*
 * A task that has just been restored and has not run yet. Nobody else is in its memory, and nothing of it is pinned:
 * there is no io_uring in any image, and what a pipe had of its pages is a copy by now.
 */
static int attach_restored(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	int err;

	/* Should the keeper have a task of that name, it goes on with that, and the next round is full. */
	err = take_known(round, target);
	if (err == -ENOENT)
		err = attach_new(round, target, task, false);
	else if (!err)
		err = -EEXIST;
	if (err)
		return err;

	target->pagemap = wptrack_pagemap_open(task->pid);
	if (target->pagemap < 0)
		return target->pagemap;
	target->vmas = calloc(task->nr_vmas, sizeof(*target->vmas));
	if (!target->vmas)
		return -ENOMEM;
	err = wptrack_vmas_attach(round, target, task);
	if (!err && has_aio(task))
		pr_warn("%d has asynchronous I/O, whose writes cannot be seen: its next dump will be full\n",
			task->pid);
	else
		target->restored = !err;
	return err;
}

int wptrack_target_attach(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	uint64_t begin = wptrack_now_us();
	int err;

	err = wptrack_proc_identify(task->pid, &target->info);
	if (err)
		return err;

	if (round->restored) {
		err = attach_restored(round, target, task);
		target->spent_us += wptrack_now_us() - begin;
		return err;
	}

	target->live = task->live;
	wptrack_target_look_at_guests(round, target);
	err = task->running ? take_running(round, target) : take_stopped(round, target, task);
	if (err)
		return err;

	target->vmas = calloc(task->nr_vmas, sizeof(*target->vmas));
	if (!target->vmas)
		return -ENOMEM;

	err = wptrack_vmas_attach(round, target, task);
	if (err)
		return err;

	if (wptrack_target_has_unseen_writers(round, target, task)) {
		target->basis = WPTRACK_BASIS_UNTRUSTED;
		pr_warn("%d has or just had pinned memory or asynchronous I/O, whose writes cannot be seen: "
			"it is dumped in full\n", task->pid);
	}

	target->spent_us += wptrack_now_us() - begin;
	return 0;
}

int wptrack_target_tidy(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task)
{
	struct wptrack_msg take = { .op = WPTRACK_OP_TAKE }, prepare = { .op = WPTRACK_OP_PREPARE };
	int pidfd, err;

	/* To ask the keeper voids what has been committed, so a task that cannot be meant is left out. */
	if (wptrack_proc_next_idle_uffd(task->pid, 0) < 0)
		return 0;

	err = wptrack_proc_identify(task->pid, &target->info);
	if (err)
		return err;

	take.task = prepare.task = target->info;
	err = wptrack_wire_call(round->keeper, &take, NULL, 0, &target->uffd);
	if (err != -ENODATA)
		return 0; /* then it is the program's own */

	pidfd = wptrack_pidfd_open(task->pid);
	if (pidfd < 0)
		return pidfd;
	err = wptrack_wire_call(round->keeper, &prepare, &pidfd, 1, NULL);
	if (!err) {
		err = adopt_uffd(task, pidfd, &target->uffd);
		give_up(round, target);
	}
	close(pidfd);
	return err;
}

/* The first VMA that ends behind @addr, or the end of the list. */
static struct wptrack_vma *first_vma_behind(struct wptrack_target *target, uint64_t addr)
{
	size_t low = 0, high = target->nr_vmas;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (target->vmas[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}

	return target->vmas + low;
}

int wptrack_target_collect(struct wptrack_target *target, struct cr_mem_track_collect *req)
{
	struct wptrack_vma *vma = first_vma_behind(target, req->start);
	struct wptrack_scan scan = {
		.start = req->next,
		.end = req->end,
		.regs = (struct page_region *)req->ranges,
		.max_regs = req->max_ranges,
	};
	uint64_t begin = wptrack_now_us();
	unsigned int i;
	bool proven, runs;
	int err;

	if (vma == target->vmas + target->nr_vmas || vma->start != req->start || vma->end != req->end)
		return -ENOENT;

	/*
	 * On failure some pages may have been reset. CRIU dumps all from req->next
	 * on, and with that they are what the parent has. In a live round it has
	 * them forgotten.
	 */
	runs = wptrack_target_runs(target, req->running);
	target->ran |= runs;
	/*
	 * To arm pages takes most of the time of a scan, and the task is stopped for that long. If the dump fails, the
	 * next round is full; if the task runs on after all, what it has written before is reported once more.
	 */
	scan.keep = (runs && vma->unasked) || req->last;
	proven = target->basis == WPTRACK_BASIS_INCREMENTAL && vma->armed;
	if (runs)
		err = wptrack_running_collect(target, vma, &scan);
	else if (vma->run && !target->live)
		err = wptrack_ahead_collect(target, vma, &scan, proven);
	else if (proven)
		err = wptrack_pagemap_collect_changes(target->pagemap, &scan);
	else
		err = wptrack_pagemap_collect(target->pagemap, &scan);
	if (err) {
		if (!target->live)
			vma->told = vma->end;
		return err;
	}

	for (i = 0; i < scan.nr_regs; i++) {
		struct cr_mem_track_range *range = &req->ranges[i];
		uint64_t pages = (range->end - range->start) / wptrack_page_bytes();
		bool clean = proven && !(range->flags & PAGE_IS_WRITTEN);

		range->flags = clean ? CR_MEM_TRACK_CLEAN : 0;
		if (clean)
			target->info.pages_clean += pages;
		else
			target->info.pages_written += pages;
	}

	req->nr_ranges = scan.nr_regs;
	req->next = scan.next;
	vma->told = scan.next;
	target->spent_us += wptrack_now_us() - begin;
	return 0;
}

static int forget_in_vma(struct wptrack_target *target, struct wptrack_vma *vma, uint64_t start, uint64_t end)
{
	int err = 0;

	if (!wptrack_control("no-forget"))
		err = target->live ? wptrack_running_unarm(target, start, end) :
				     wptrack_uffd_unprotect(target->uffd, start, end);

	if (!err && start <= vma->told && end > vma->told)
		vma->told = end;

	/* The process has gone, or has mapped something else there, which is not armed. */
	if (err == -ESRCH || (err == -ENOENT && end - start == wptrack_page_bytes()))
		return 0;
	if (err)
		pr_warn("%d: can't un-arm %" PRIx64 "-%" PRIx64 ": %s. The next dump will be full\n", target->info.pid,
			start, end, strerror(-err));
	return err;
}

int wptrack_target_forget(struct wptrack_target *target, uint64_t start, uint64_t end)
{
	struct wptrack_vma *vma, *last = target->vmas + target->nr_vmas;
	int err = 0, ret;

	for (vma = first_vma_behind(target, start); vma < last && vma->start < end; vma++) {
		ret = forget_in_vma(target, vma, start > vma->start ? start : vma->start,
				    end < vma->end ? end : vma->end);
		if (ret)
			err = ret;
	}
	return err;
}

void wptrack_target_release(struct wptrack_target *target)
{
	if (target->uffd >= 0)
		close(target->uffd);
	if (target->pagemap >= 0)
		close(target->pagemap);
	free(target->ahead);
	free(target->vmas);
}
