/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracker: one round is one run of criu pre-dump or dump.
 *
 * A page is called clean only with proof that the parent images have it as it
 * is now: its task's memory is the one the keeper holds the userfaultfd of, its
 * VMA has been registered by us since before the parent's collect, and the
 * parent directory is the round that the keeper committed last for this task.
 */
#ifndef WPTRACK_TRACK_H
#define WPTRACK_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/pins.h"
#include "lib/proc.h"
#include "lib/session.h"
#include "lib/wire.h"

struct wptrack_ahead;
struct wptrack_scan;
struct cr_mem_track_task;
struct cr_mem_track_collect;

/* A VMA we have registered. */
struct wptrack_vma {
	uint64_t start;
	uint64_t end;
	bool armed;	/* registered before this round, so its clean pages are proven to be clean */
	bool fresh;	/* parts of it may have been registered in this round, while the task ran */
	bool unasked;	/* there was nothing to reset in it, so that nobody asked whose it is: nothing may be */
	bool other;	/* it has become another kind of memory */
	uint64_t told;	/* all up to here has been collected or forgotten in this round */
	uint64_t run;	/* the end of a run of small VMAs that it is one of; 0: it is not */
	uint64_t limit; /* if parts of it are other mappings now: registered up to here, as far as is known */
};

struct wptrack_target {
	struct wptrack_task info;
	enum wptrack_basis basis;
	bool io_uring;		      /* it has one open */
	enum wptrack_pins pins;	      /* when it was attached */
	bool live;		      /* it runs while it is collected or copied */
	bool ran;		      /* it did while it was collected */
	bool gone;		      /* its memory has been given up meanwhile */
	struct wptrack_guests guests; /* when it was attached */
	bool restored;		      /* its memory is what the images say that it has just been restored from */
	bool rivals;		      /* another userfaultfd may have registered parts of its memory */
	uint64_t window;	      /* how much is looked at in one go while it runs */
	int uffd;
	int pagemap;
	struct wptrack_vma *vmas; /* sorted */
	size_t nr_vmas;
	struct wptrack_ahead *ahead;
	uint64_t spent_us; /* in attach and collect, while the task was stopped */
};

struct wptrack_round {
	int keeper;  /* connection, -1: none */
	bool track;  /* else only the end of tracking is told to the keeper */
	bool broken; /* something reset may have been lost: the round cannot be a parent */
	bool has_parent;
	bool restored; /* no dump: the tasks have just been restored, from the images that @parent is the record of */
	uint64_t parent_stamp; /* of the parent images, or of those that are restored; 0: it cannot be told */
	bool numbered;	       /* session and generation are known */
	uint8_t session[WPTRACK_ID_LEN];
	uint64_t generation;
	struct wptrack_record *parent;
	struct wptrack_pids processes; /* on the machine: where guests are looked for */
	struct wptrack_target *targets;
	size_t nr_targets;
	size_t max_targets;
};

/**
 * wptrack_track_start - begin a round, before any task is stopped
 * @round:	to be filled; wptrack_track_finish() frees what it holds
 * @image_dir:	descriptor of the images directory, stays the caller's
 * @track:	whether the memory is to be tracked from here on
 * @has_parent:	whether the directory has parent images
 *
 * Return: 0, or -errno when there is no keeper: then nothing is tracked and
 * every page is dumped.
 */
int wptrack_track_start(struct wptrack_round *round, int image_dir, bool track, bool has_parent);

/**
 * wptrack_track_start_restore - begin to track tasks that are going to be restored
 * @image_dir:	the images directory that they are restored from
 *
 * As little as possible: there may be no tasks to track in the end. Return: 0, or
 * -errno when these images are nothing that a round could go on from.
 */
int wptrack_track_start_restore(struct wptrack_round *round, int image_dir);

/**
 * wptrack_track_attach - take a task into the round, seized or running
 * @task:	marks which of its VMAs are tracked
 *
 * Return: 0, -EAGAIN for a running task that has to be stopped first, or -errno
 * when the task is not tracked: all of it is to be dumped.
 */
int wptrack_track_attach(struct wptrack_round *round, struct cr_mem_track_task *task);

/**
 * wptrack_track_collect - report and reset changes in a part of a VMA
 * Return: 0, or -errno: whatever lies behind req->next is to be dumped.
 */
int wptrack_track_collect(struct wptrack_round *round, struct cr_mem_track_collect *req);

/**
 * wptrack_track_forget - these pages did not get into the images
 * Return: 0, or -errno when they could not be un-armed: the round will not be
 * committed.
 */
int wptrack_track_forget(struct wptrack_round *round, int pid, uint64_t start, uint64_t end);

/**
 * wptrack_track_finish - end a round and free it
 * @image_dir:	where the session record goes
 * @final:	it was a dump, not a pre-dump
 * @ok:		the images are complete
 * @keep:	the tasks go on being tracked
 *
 * Return: 0, or -errno when the round has not been committed though it should:
 * the next one dumps everything. After a restore, what is committed is the round
 * that the images are of.
 */
int wptrack_track_finish(struct wptrack_round *round, int image_dir, bool final, bool ok, bool keep);

/* In vmas.c: register the mappings of a task, and mark those that are tracked. Return: 0 or -errno. */
int wptrack_vmas_attach(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task);

/* In running.c: what can be done to a task that runs, whose mappings may change at any time. */
int wptrack_running_register(struct wptrack_target *target, struct wptrack_vma *vma);
int wptrack_running_check_kinds(struct wptrack_target *target);
int wptrack_running_collect(struct wptrack_target *target, struct wptrack_vma *vma, struct wptrack_scan *scan);
int wptrack_running_unarm(struct wptrack_target *target, uint64_t start, uint64_t end);

/*
 * In ahead.c: collect from a task that is stopped, a run of VMAs at a time. What has been reset is told when it is
 * asked for, which it has to be: see told.
 */
int wptrack_ahead_collect(struct wptrack_target *target, const struct wptrack_vma *vma, struct wptrack_scan *scan,
			  bool proven);

/* In target.c. tidy: what an interrupted attach has left in a task that is not to be tracked is closed there. */
int wptrack_target_tidy(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task);
int wptrack_target_attach(struct wptrack_round *round, struct wptrack_target *target, struct cr_mem_track_task *task);
int wptrack_target_collect(struct wptrack_target *target, struct cr_mem_track_collect *req);
int wptrack_target_forget(struct wptrack_target *target, uint64_t start, uint64_t end);
void wptrack_target_release(struct wptrack_target *target);

/* Does somebody run in its memory while CRIU collects it: itself (@running), or a guest that nobody stops? */
bool wptrack_target_runs(const struct wptrack_target *target, bool running);

/* In unseen.c: who else is in its memory. Comes first of all that is asked about a task. */
void wptrack_target_look_at_guests(struct wptrack_round *round, struct wptrack_target *target);
/*
 * In unseen.c: may memory be written to behind the page tables? When a task is attached, and for one that ran
 * meanwhile when the round ends.
 */
bool wptrack_target_has_unseen_writers(const struct wptrack_round *round, struct wptrack_target *target,
				       const struct cr_mem_track_task *task);
bool wptrack_target_may_have_missed(struct wptrack_round *round, struct wptrack_target *target);

#endif
