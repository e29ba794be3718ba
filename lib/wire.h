/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeper protocol: fixed-size messages over a SOCK_SEQPACKET unix socket, one
 * reply for each request. Shared by the plugin, the keeper and wptrack.
 *
 * Nothing read from the socket is believed: a message of another size or
 * version, or with another number of descriptors than its op carries, is
 * answered with -EPROTO and ends the connection.
 *
 * A task is named by its pid and the pid namespace in which it is that. A keeper
 * may serve several, which share its directory.
 */
#ifndef WPTRACK_WIRE_H
#define WPTRACK_WIRE_H

#include <stdint.h>

#define WPTRACK_WIRE_VERSION 4u

#define WPTRACK_ID_LEN	 16
#define WPTRACK_COMM_LEN 16
#define WPTRACK_MAX_FDS	 2

/* Where the keeper listens, unless the environment names another directory. */
#define WPTRACK_RUN_DIR	    "/run/criu-wptrack"
#define WPTRACK_RUN_DIR_ENV "WPTRACK_RUN_DIR"
#define WPTRACK_SOCKET	    "keeper.sock"

enum wptrack_op {
	/* -> version; <- nothing. First message of a connection. */
	WPTRACK_OP_HELLO = 1,
	/*
	 * -> task.pid: root of the tree about to be dumped; <- task.session and
	 * task.generation: the round's identity, unique while the keeper lives.
	 * A root that is tracked already goes on with its session.
	 */
	WPTRACK_OP_ROUND,
	/*
	 * -> task.{pid,start_time,mm_stamp}; <- task as known, with the session
	 * and generation last committed for it (0: none), fd: its userfaultfd.
	 * From now on the task belongs to this connection and its committed
	 * generation is 0 until COMMIT. -ENOENT: not tracked (or another
	 * process or mm by now, which is dropped). -EBUSY: it belongs to
	 * another live connection. -ENODATA: prepared for, but nothing came of
	 * it; the task may still hold a userfaultfd made for a tracker.
	 */
	WPTRACK_OP_TAKE,
	/*
	 * -> task (pid, start_time, mm_stamp, comm), fds: pidfd, userfaultfd;
	 * <- task.mm_id. The task belongs to this connection, generation 0. One
	 * already known under this pid is replaced. -EBUSY: it belongs to
	 * another live connection. -ESRCH: process or memory is gone. -ENOSPC:
	 * as many are tracked as the keeper may have descriptors for.
	 */
	WPTRACK_OP_ADD,
	/* -> task.{pid,vmas*,pages*}: figures of the round; <- nothing. */
	WPTRACK_OP_NOTE,
	/*
	 * -> task.{session,generation}: every task of this connection is
	 * committed with it and is nobody's again; <- nothing.
	 */
	WPTRACK_OP_COMMIT,
	/* -> index; <- task. -ENOENT: no such index, the list ends. */
	WPTRACK_OP_LIST,
	/*
	 * -> task.pid, 0 for all of all pid namespaces; <- index: number of tasks let go. -ENOENT:
	 * that pid is not tracked. -EBUSY: it belongs to another connection.
	 * With index WPTRACK_RELEASE_LATER and a pid, the memory stays protected
	 * until the process exits, TAKE, ADD or PREPARE names it, or for about
	 * two seconds: nobody waits for it then, and seldom is it done at all.
	 */
	WPTRACK_OP_RELEASE,
	/*
	 * -> task (pid, start_time, mm_stamp, comm), fd: pidfd; <- nothing. A
	 * userfaultfd is about to be made in the task. If the caller ends without
	 * ADD or RELEASE, this is remembered for as long as the process lives:
	 * the next TAKE says -ENODATA. -EBUSY, -ESRCH, -ENOSPC: as for ADD.
	 * -EEXIST: it is tracked.
	 */
	WPTRACK_OP_PREPARE,
	/*
	 * -> task.{pid,session,generation,base} and figures as for NOTE: the
	 * memory of a task that this connection has added is what the images of
	 * that round say, from which it has been restored. It is committed so
	 * and is nobody's again; <- nothing. It does not go on with that
	 * session, whose id another copy may have: the next ROUND gives out a
	 * new one. -EPERM: it is not this connection's.
	 */
	WPTRACK_OP_RESTORED,
};

#define WPTRACK_RELEASE_LATER 1u

/* Why a VMA is not registered; the order is part of the protocol. */
enum wptrack_refusal {
	WPTRACK_REFUSED_FILE,	 /* private file mapping: dumped whole (see docs/design.md) */
	WPTRACK_REFUSED_SHARED,	 /* shared memory: written through other mappings too */
	WPTRACK_REFUSED_HUGETLB, /* hugetlb: the kernel cannot tell what was dropped */
	WPTRACK_REFUSED_SPECIAL, /* vdso, vvar, aio ring and their like */
	WPTRACK_REFUSED_BUSY,	 /* another userfaultfd owns it */
	WPTRACK_REFUSED_KERNEL,	 /* the kernel said no, whatever its reason */
	WPTRACK_REFUSED_LIMIT,	 /* registrations per process are capped */
	WPTRACK_REFUSED_NR,
};

/* One tracked process, as the keeper holds it. Pages are of 4 KiB. */
struct wptrack_task {
	int32_t pid;
	uint32_t vmas_registered;
	uint64_t registered_bytes;
	uint64_t start_time; /* clock ticks since boot, /proc/PID/stat field 22 */
	uint64_t mm_stamp;   /* digest of what exec sets up, see proc.h */
	uint64_t mm_id;	     /* given by the keeper, never given twice; 0: none */
	uint8_t session[WPTRACK_ID_LEN];
	uint64_t generation; /* last committed; 0: none */
	uint64_t pages_written;
	uint64_t pages_clean;
	uint32_t vmas_refused[WPTRACK_REFUSED_NR];
	char comm[WPTRACK_COMM_LEN]; /* NUL-terminated */
	uint64_t pid_ns; /* inode of the pid namespace that pid counts in: the same number is others elsewhere */
	uint64_t base;	 /* wptrack_chain_stamp() of that round's images, if it has been restored from them; else 0 */
};

struct wptrack_msg {
	uint32_t version;
	uint32_t op;
	int32_t error;	/* reply: 0 or -errno */
	uint32_t index; /* LIST, RELEASE */
	struct wptrack_task task;
};

/**
 * wptrack_wire_send - send one message with its descriptors
 * @sk:		connected SOCK_SEQPACKET socket, stays the caller's
 * @msg:	message; its version is filled in here
 * @fds:	descriptors to pass, stay the caller's; may be NULL
 * @nr_fds:	0 to WPTRACK_MAX_FDS
 *
 * Return: 0 or -errno. Never raises SIGPIPE.
 */
int wptrack_wire_send(int sk, struct wptrack_msg *msg, const int *fds, unsigned int nr_fds);

/**
 * wptrack_wire_recv - receive one message with its descriptors
 * @sk:		connected SOCK_SEQPACKET socket
 * @ret_msg:	filled on success only; comm is NUL-terminated whatever was sent
 * @ret_fds:	filled with descriptors the caller now owns (O_CLOEXEC); -1 where none
 * @ret_nr_fds:	how many came
 *
 * Return: 0, -ECONNRESET when the peer has gone, -EPROTO for a message that is
 * not one of ours (descriptors that came with it are closed), or -errno.
 */
int wptrack_wire_recv(int sk, struct wptrack_msg *ret_msg, int ret_fds[WPTRACK_MAX_FDS], unsigned int *ret_nr_fds);

/**
 * wptrack_wire_call - send a request and wait for its reply
 * @sk:		connected socket
 * @msg:	request in, of which the pid namespace is filled in here; reply out (else untouched when the transport fails)
 * @fds:	descriptors to pass; may be NULL
 * @nr_fds:	their number
 * @ret_fd:	where the reply's descriptor goes, caller owns it; NULL: none expected
 *
 * Return: 0, the keeper's own -errno, or the transport's.
 */
int wptrack_wire_call(int sk, struct wptrack_msg *msg, const int *fds, unsigned int nr_fds, int *ret_fd);

/**
 * wptrack_wire_connect - connect to a running keeper and greet it
 * @ret_sk:	connected socket, caller owns it (O_CLOEXEC, 5 s time-outs)
 *
 * The socket's owner is checked on both sides: the keeper checks its peer, and
 * the caller checks that the keeper runs under its own uid (or root).
 *
 * Return: 0, -ENOENT when no keeper runs, -EPERM when it is somebody else's,
 * -EPROTO when it speaks another version, or -errno.
 */
int wptrack_wire_connect(int *ret_sk);

/* The pid namespace of this process, by its inode; 0 when it cannot be told. */
uint64_t wptrack_wire_pid_ns(void);

/**
 * wptrack_wire_run_dir - directory of the keeper's socket
 * Return: a string that lives as long as the environment does.
 */
const char *wptrack_wire_run_dir(void);

/* Static text for an enum wptrack_refusal, "?" outside of it. */
const char *wptrack_refusal_name(unsigned int refusal);

#endif
