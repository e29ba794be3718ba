// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "criu.h"

#include "lib/chain.h"
#include "lib/pins.h"
#include "lib/spawn.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

/* A keeper that has nothing left may leave just when we call: then start the next one. */
#define KEEPER_TRIES 3

static int connect_keeper(int *ret_sk, bool start)
{
	int err, i;

	for (i = 0; i < KEEPER_TRIES; i++) {
		err = wptrack_wire_connect(ret_sk);
		if (!err || !start)
			return err;
		if (err != -ENOENT && err != -ECONNREFUSED && err != -ECONNRESET)
			return err;

		err = wptrack_spawn_keeper();
		if (err)
			return err;
	}

	return wptrack_wire_connect(ret_sk);
}

static int reach_keeper(struct wptrack_round *round, bool track)
{
	int err = connect_keeper(&round->keeper, track);

	if (!err)
		return 0;
	round->keeper = -1;
	if (err == -ECHILD)
		pr_err("%s does not start, run it by hand to see why. Memory is not tracked\n", WPTRACK_KEEPER_NAME);
	else if (err != -ENOENT || track)
		pr_err("Can't reach %s: %s. Memory is not tracked\n", WPTRACK_KEEPER_NAME, strerror(-err));
	return err;
}

static void read_parent(struct wptrack_round *round, int image_dir)
{
	int err = wptrack_record_read(image_dir, "parent", &round->parent);

	if (wptrack_chain_stamp(image_dir, "parent", &round->parent_stamp))
		round->parent_stamp = 0;

	if (err == -ENOENT)
		pr_info("The parent images have no session record: this dump will be full\n");
	else if (err)
		pr_warn("Can't use the session record of the parent images (%s): this dump will be full\n",
			strerror(-err));
}

int wptrack_track_start(struct wptrack_round *round, int image_dir, bool track, bool has_parent)
{
	int err;

	*round = (struct wptrack_round){ .keeper = -1, .track = track, .has_parent = has_parent };

	/* One that a former use of the directory has left must not be taken for ours. */
	err = wptrack_record_remove(image_dir);
	if (err) {
		pr_err("Can't remove an old %s from the images directory: %s\n", WPTRACK_RECORD_NAME, strerror(-err));
		return err;
	}

	err = reach_keeper(round, track);
	if (err)
		return err == -ENOENT && !track ? 0 : err; /* nothing is tracked */

	if (track)
		pr_info("Pinned memory is told by %s\n", wptrack_pins_start());
	if (track && has_parent)
		read_parent(round, image_dir);
	return 0;
}

int wptrack_track_start_restore(struct wptrack_round *round, int image_dir)
{
	int err;

	*round = (struct wptrack_round){ .keeper = -1, .track = true, .restored = true };

	err = wptrack_record_read(image_dir, ".", &round->parent);
	if (err) {
		pr_warn("Can't use the session record of the images (%s): nothing can go on from them\n",
			err == -ENOENT ? "there is none" : strerror(-err));
		return err;
	}
	err = wptrack_chain_stamp(image_dir, ".", &round->parent_stamp);
	if (err)
		pr_warn("Can't look at the chain of images: %s\n", strerror(-err));
	return err;
}

static struct wptrack_target *find_target(struct wptrack_round *round, int pid)
{
	size_t i;

	/* Tasks are dealt with one after another: it is the last one nearly always. */
	for (i = round->nr_targets; i > 0; i--)
		if (round->targets[i - 1].info.pid == pid)
			return &round->targets[i - 1];
	return NULL;
}

static struct wptrack_target *add_target(struct wptrack_round *round, int pid)
{
	struct wptrack_target *target;

	if (round->nr_targets == round->max_targets) {
		size_t max = round->max_targets ? 2 * round->max_targets : 16;

		target = reallocarray(round->targets, max, sizeof(*target));
		if (!target)
			return NULL;
		round->targets = target;
		round->max_targets = max;
	}

	target = &round->targets[round->nr_targets++];
	*target = (struct wptrack_target){ .info.pid = pid, .uffd = -1, .pagemap = -1 };
	return target;
}

/* The first task of a round is the root of its tree, which names the session. */
static int number_round(struct wptrack_round *round, int root_pid)
{
	struct wptrack_msg msg = { .op = WPTRACK_OP_ROUND, .task.pid = root_pid };
	int err;

	err = wptrack_wire_call(round->keeper, &msg, NULL, 0, NULL);
	if (err)
		return err;

	memcpy(round->session, msg.task.session, sizeof(round->session));
	round->generation = msg.task.generation;
	round->numbered = true;
	return 0;
}

int wptrack_track_attach(struct wptrack_round *round, struct cr_mem_track_task *task)
{
	struct wptrack_target *target;
	int err;

	if (round->restored && round->keeper < 0 && !round->nr_targets && reach_keeper(round, true))
		round->keeper = -1;
	if (round->keeper < 0)
		return round->track ? -ENOTCONN : 0;

	if (round->track && !round->numbered && !round->restored) {
		err = number_round(round, task->pid);
		if (err) {
			pr_err("Can't begin a round for %d: %s\n", task->pid, strerror(-err));
			return err;
		}
	}

	target = add_target(round, task->pid);
	if (!target)
		return -ENOMEM;
	if (!round->track) {
		err = wptrack_target_tidy(round, target, task);
		if (err)
			pr_warn("Can't remove what an interrupted attach has left in %d: %s\n", task->pid,
				strerror(-err));
		return 0;
	}

	err = wptrack_target_attach(round, target, task);
	if (err == -EAGAIN && task->running) {
		wptrack_target_release(target);
		round->nr_targets--;
		return err;
	}
	if (err) {
		target->basis = WPTRACK_BASIS_UNTRACKED;
		pr_warn("Can't track %d (%s): it is dumped in full\n", task->pid, strerror(-err));
	}
	return err;
}

int wptrack_track_collect(struct wptrack_round *round, struct cr_mem_track_collect *req)
{
	struct wptrack_target *target = find_target(round, req->pid);

	return target ? wptrack_target_collect(target, req) : -ESRCH;
}

int wptrack_track_forget(struct wptrack_round *round, int pid, uint64_t start, uint64_t end)
{
	struct wptrack_target *target = find_target(round, pid);
	int err = target ? wptrack_target_forget(target, start, end) : 0;

	if (err)
		round->broken = true;
	return err;
}

static void log_target(const struct wptrack_round *round, const struct wptrack_target *target)
{
	unsigned int i, refused = 0;

	for (i = 0; i < WPTRACK_REFUSED_NR; i++)
		refused += target->info.vmas_refused[i];

	pr_info("%d: generation %" PRIu64 " (%s): %u VMAs registered, %u not; "
		"pages %" PRIu64 " written, %" PRIu64 " clean; %" PRIu64 " us\n",
		target->info.pid, round->generation, wptrack_basis_name(target->basis), target->info.vmas_registered,
		refused, target->info.pages_written, target->info.pages_clean, target->spent_us);
}

static void log_restored(const struct wptrack_round *round, const struct wptrack_target *target)
{
	pr_info("%d: restored from generation %" PRIu64 " (%s): %u VMAs registered; %" PRIu64 " pages armed; "
		"%" PRIu64 " us\n",
		target->info.pid, round->parent->generation, target->restored ? "tracked" : "not tracked",
		target->info.vmas_registered, target->info.pages_written, target->spent_us);
}

/* Whatever has been reset must have been reported, else the round is no parent for the next. */
static bool all_accounted(const struct wptrack_target *target)
{
	size_t i;

	for (i = 0; i < target->nr_vmas && !target->gone; i++) {
		if (target->vmas[i].told == target->vmas[i].end)
			continue;
		pr_warn("%d: %" PRIx64 "-%" PRIx64 " has been registered but not collected\n", target->info.pid,
			target->vmas[i].start, target->vmas[i].end);
		return false;
	}
	return true;
}

static void read_boot_id(char boot_id[WPTRACK_BOOT_ID_LEN])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t len = -1;

	if (fd >= 0) {
		len = read(fd, boot_id, WPTRACK_BOOT_ID_LEN - 1);
		close(fd);
	}
	if (len != WPTRACK_BOOT_ID_LEN - 1)
		memset(boot_id, '0', WPTRACK_BOOT_ID_LEN - 1);
	boot_id[WPTRACK_BOOT_ID_LEN - 1] = '\0';
}

static bool is_parent_of(const struct wptrack_round *round, const struct wptrack_record *parent)
{
	return parent && !memcmp(parent->session, round->session, sizeof(round->session));
}

static int write_record(const struct wptrack_round *round, int image_dir, bool final)
{
	struct wptrack_record rec = {
		.generation = round->generation,
		.parent_generation = is_parent_of(round, round->parent) ? round->parent->generation : 0,
		.final = final,
		.nr_tasks = round->nr_targets,
	};
	size_t i;
	int err;

	memcpy(rec.session, round->session, sizeof(rec.session));
	read_boot_id(rec.boot_id);

	rec.tasks = calloc(round->nr_targets, sizeof(*rec.tasks));
	if (!rec.tasks)
		return -ENOMEM;
	for (i = 0; i < round->nr_targets; i++) {
		rec.tasks[i].info = round->targets[i].info;
		rec.tasks[i].basis = round->targets[i].basis;
		rec.tasks[i].io_uring = round->targets[i].io_uring;
	}

	err = wptrack_record_write(image_dir, &rec);
	if (err)
		pr_err("Can't write %s: %s\n", WPTRACK_RECORD_NAME, strerror(-err));
	free(rec.tasks);
	return err;
}

static int call_keeper(const struct wptrack_round *round, uint32_t op, const struct wptrack_task *task)
{
	/* The tasks are stopped, and mostly about to be killed: they do not have to wait for being un-protected. */
	const uint32_t how = op == WPTRACK_OP_RELEASE ? WPTRACK_RELEASE_LATER : 0;
	struct wptrack_msg msg = { .op = op, .index = how, .task = *task };
	int err = wptrack_wire_call(round->keeper, &msg, NULL, 0, NULL);

	/* A task may have ended meanwhile, or was never tracked. */
	if (err && err != -ENOENT)
		pr_warn("%s answered to request %u for %d: %s\n", WPTRACK_KEEPER_NAME, op, task->pid, strerror(-err));
	return err == -ENOENT ? 0 : err;
}

/* The record first: a keeper that says committed vouches for a directory that has one. */
static int commit(struct wptrack_round *round, int image_dir, bool final)
{
	struct wptrack_task last = { .generation = round->generation };
	size_t i;
	int err;

	/* There may be others by now. */
	wptrack_proc_list_free(&round->processes);
	for (i = 0; i < round->nr_targets; i++) {
		struct wptrack_target *target = &round->targets[i];

		if (!all_accounted(target))
			round->broken = true;
		if (wptrack_target_may_have_missed(round, target)) {
			target->basis = WPTRACK_BASIS_UNTRUSTED;
			pr_warn("%d has begun to use O_DIRECT, pinned memory or asynchronous I/O meanwhile: "
				"its next dump will be full\n", target->info.pid);
		}
	}
	if (round->broken)
		return -ESTALE;

	err = write_record(round, image_dir, final);
	if (err)
		return err;

	for (i = 0; i < round->nr_targets && !err; i++)
		err = call_keeper(round, WPTRACK_OP_NOTE, &round->targets[i].info);
	if (err)
		return err;

	memcpy(last.session, round->session, sizeof(last.session));
	return call_keeper(round, WPTRACK_OP_COMMIT, &last);
}

/*
 * Each task by itself: what it has does not depend on the others. The tasks belong to no session yet, as somebody else
 * may be restored from the same images. It is the next round that begins one.
 */
static int commit_restored(struct wptrack_round *round, int image_dir)
{
	uint64_t stamp = 0;
	int err = 0, ret;
	size_t i;

	if (wptrack_chain_stamp(image_dir, ".", &stamp) || stamp != round->parent_stamp) {
		pr_warn("The images have changed while they were restored. The next dump will be full\n");
		return -ESTALE;
	}

	for (i = 0; i < round->nr_targets; i++) {
		struct wptrack_target *target = &round->targets[i];
		struct wptrack_task base = target->info;

		if (!target->restored || !all_accounted(target))
			continue;
		if (round->broken) {
			err = -ESTALE;
			continue;
		}
		memcpy(base.session, round->parent->session, sizeof(base.session));
		base.generation = round->parent->generation;
		base.base = stamp;
		ret = call_keeper(round, WPTRACK_OP_RESTORED, &base);
		if (ret)
			err = ret;
	}
	return err;
}

static int release_all(struct wptrack_round *round)
{
	int err = 0, ret;
	size_t i;

	for (i = 0; i < round->nr_targets; i++) {
		ret = call_keeper(round, WPTRACK_OP_RELEASE, &round->targets[i].info);
		if (ret)
			err = ret;
	}
	return err;
}

int wptrack_track_finish(struct wptrack_round *round, int image_dir, bool final, bool ok, bool keep)
{
	int err = 0;
	size_t i;

	if (round->track && round->numbered)
		for (i = 0; i < round->nr_targets; i++)
			log_target(round, &round->targets[i]);

	if (round->restored) {
		for (i = 0; i < round->nr_targets; i++)
			log_restored(round, &round->targets[i]);
		if (round->keeper >= 0 && ok && keep)
			err = commit_restored(round, image_dir);
	}

	if (round->keeper >= 0 && round->numbered && ok && keep)
		err = commit(round, image_dir, final);
	else if (round->numbered && ok)
		err = write_record(round, image_dir, final);

	/*
	 * A failed dump leaves the tasks registered and uncommitted: the next round is full.
	 *
	 * If they were tracked up to now, they are about to be killed. Then the keeper drops
	 * them when they exit, with the last userfaultfd: to close that earlier would un-protect
	 * all of their memory while they are stopped, for nothing.
	 */
	if (round->keeper >= 0 && ok && !keep && !round->track)
		release_all(round);

	for (i = 0; i < round->nr_targets; i++)
		wptrack_target_release(&round->targets[i]);
	free(round->targets);
	wptrack_pins_stop();
	wptrack_record_free(round->parent);
	wptrack_proc_list_free(&round->processes);
	if (round->keeper >= 0)
		close(round->keeper);
	*round = (struct wptrack_round){ .keeper = -1 };
	return err;
}
