/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Control file: how a driver talks to a test program without leaving it a
 * pipe, socket or terminal that would have to be dumped. The program maps a
 * regular file MAP_SHARED; CRIU opens it again at restore, so it has to stay
 * in place with its size. Pages of the file are never dumped themselves.
 *
 * Every process of a program owns one slot. A request is a number that only
 * grows; a process that has done what it asks copies the number to its slot.
 */
#ifndef WPTRACK_TEST_CONTROL_H
#define WPTRACK_TEST_CONTROL_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTROL_MAGIC  0x6b65657065723031ull
#define CONTROL_SLOTS  16
#define CONTROL_EPOCHS 256

enum control_op {
	CONTROL_NONE = 0,
	CONTROL_PAUSE,	/* stop writing, stay alive */
	CONTROL_RESUME, /* write again */
	CONTROL_VERIFY, /* check all memory, then go on as before */
	CONTROL_STEP,	/* do the next step of a program that works in steps */
	CONTROL_QUIT,
};

enum control_state {
	CONTROL_EMPTY = 0,
	CONTROL_STARTING,
	CONTROL_RUNNING,
	CONTROL_PAUSED,
	CONTROL_GONE,
};

struct control_slot {
	_Atomic uint32_t state;
	_Atomic uint32_t pid;
	_Atomic uint32_t acked;	    /* last request done */
	_Atomic uint32_t failed;    /* a step that could not be done: errno */
	_Atomic uint64_t heartbeat; /* grows while the process lives, paused or not */
	_Atomic uint64_t writes;    /* data pages written since the start */
	_Atomic uint64_t checked;   /* pages the last VERIFY looked at */
	_Atomic uint64_t bad;	    /* of these: neither the old nor the new content */
	_Atomic uint64_t stale;	    /* of these: whole, but of an earlier time */
	_Atomic uint64_t first_bad; /* address */
	/* Distinct pages dirtied by design in each epoch, data and bookkeeping alike. */
	_Atomic uint32_t dirtied[CONTROL_EPOCHS];
};

struct control {
	uint64_t magic;
	_Atomic uint32_t epoch; /* set by the driver */
	_Atomic uint32_t op;
	_Atomic uint32_t request;
	uint32_t pad;
	struct control_slot slot[CONTROL_SLOTS];
};

/**
 * control_map - map a control file, creating it when @create
 * @ret: the mapping, the caller's for good
 *
 * Return: 0 or -errno; -EINVAL for a file that is not a control file.
 */
static inline int control_map(const char *path, bool create, struct control **ret)
{
	int err = 0, fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
	struct control *c;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (create && ftruncate(fd, sizeof(*c)))
		err = -errno;
	if (!err && fstat(fd, &st))
		err = -errno;
	if (!err && st.st_size != sizeof(*c))
		err = -EINVAL;
	if (err) {
		close(fd);
		return err;
	}
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	err = c == MAP_FAILED ? -errno : 0;
	close(fd);
	if (err)
		return err;
	if (create) {
		c->magic = CONTROL_MAGIC;
	} else if (c->magic != CONTROL_MAGIC) {
		munmap(c, sizeof(*c));
		return -EINVAL;
	}
	*ret = c;
	return 0;
}

/* Take a slot for the calling process. */
static inline struct control_slot *control_take_slot(struct control *c, unsigned int nr)
{
	struct control_slot *s = &c->slot[nr];

	atomic_store(&s->acked, atomic_load(&c->request));
	atomic_store(&s->failed, 0);
	atomic_store(&s->pid, (uint32_t)getpid());
	atomic_store(&s->state, CONTROL_STARTING);
	return s;
}

/*
 * Show that the process lives. A process restored from an image made before
 * it quit finds itself declared gone: it is not.
 */
static inline void control_beat(struct control_slot *s, bool paused)
{
	uint32_t gone = CONTROL_GONE;

	atomic_compare_exchange_strong(&s->state, &gone, paused ? CONTROL_PAUSED : CONTROL_RUNNING);
	atomic_fetch_add(&s->heartbeat, 1);
}

/* Publish the result of a VERIFY. */
static inline void control_report(struct control_slot *s, uint64_t checked, uint64_t bad, uint64_t stale,
				  const void *first)
{
	atomic_store(&s->checked, checked);
	atomic_store(&s->bad, bad);
	atomic_store(&s->stale, stale);
	atomic_store(&s->first_bad, (uint64_t)(uintptr_t)first);
}

#endif
