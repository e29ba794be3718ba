/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc tells of a process. No logging. */
#ifndef WPTRACK_PROC_H
#define WPTRACK_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

/**
 * wptrack_proc_identify - tell a process, and its memory, from any other
 * @pid:	process
 * @task:	pid, start_time, mm_stamp and comm are filled in
 *
 * The stamp is a digest of the executable and of the layout that exec has set
 * up, so it changes when the process executes another program, and (address
 * space randomisation aside) may stay when it executes the same one again.
 * Source: /proc/PID/stat and /proc/PID/exe.
 *
 * Return: 0, -ESRCH when there is no such process, or -errno.
 */
int wptrack_proc_identify(pid_t pid, struct wptrack_task *task);

/* Is process @pid still the one that began at @start_time, or another one of that number, or none? */
bool wptrack_proc_is_still(pid_t pid, uint64_t start_time);

/**
 * wptrack_proc_read - the beginning of a file of /proc/PID
 * @buf:	@size bytes at most, the terminating zero included
 *
 * Return: 0, -ESRCH when it is not there, or -errno.
 */
int wptrack_proc_read(pid_t pid, const char *name, char *buf, size_t size);

/**
 * wptrack_proc_any_fd - is there such a descriptor in any table that the threads of a process have?
 * @is_wanted:	is called for each
 *
 * Return: 1, 0 or -errno, -ESRCH when there is no such process.
 */
int wptrack_proc_any_fd(pid_t pid, bool (*is_wanted)(pid_t pid, int fd));

/**
 * wptrack_proc_pinned - memory that devices may write to behind the page tables
 * @ret_bytes:	VmPin of /proc/PID/status
 *
 * Return: 0 or -errno.
 */
int wptrack_proc_pinned(pid_t pid, uint64_t *ret_bytes);

/**
 * wptrack_proc_may_pin_uncounted - is there anybody who may have pinned memory of a process without VmPin counting it?
 *
 * That is whoever has an AF_XDP socket, also one that is only in the same network
 * namespace, and a descriptor of a device, or of something without a name, that
 * is not known to pin nothing.
 * Source: /proc/PID/net/protocols, and the descriptors of all threads.
 *
 * Return: 1, 0 or -errno.
 */
int wptrack_proc_may_pin_uncounted(pid_t pid);

/**
 * wptrack_proc_has_io_uring - does the process have an io_uring open?
 *
 * Source: /proc/PID/fd, and that of threads whose descriptors are not the
 * process's (kcmp). Return: 1, 0 or -errno.
 */
int wptrack_proc_has_io_uring(pid_t pid);

/* Has it a userfaultfd of its own open that has been enabled? Sources as above. Return: 1, 0 or -errno. */
int wptrack_proc_has_uffd(pid_t pid);

/**
 * wptrack_proc_has_direct_io - may devices or servers write into pages that the process reads files into?
 *
 * That is so while a file is read that is open with O_DIRECT, or lies on a
 * filesystem that need not go through the page cache: FUSE, 9p and CIFS. Looked
 * at are the descriptors of all threads (fd, fdinfo, mountinfo); nobody who
 * serves a file is asked. What cannot be told counts as yes.
 *
 * Return: 1, 0 or -errno.
 */
int wptrack_proc_has_direct_io(pid_t pid);

/* Has it a context of asynchronous I/O (io_setup)? Source: maps. Return: 1, 0 or -errno. */
int wptrack_proc_has_aio(pid_t pid);

/* Processes, by number, in no order. */
struct wptrack_pids {
	pid_t *pids;
	size_t nr;
};

/**
 * wptrack_proc_list - all processes that are seen from here
 * @pids:	to be filled; wptrack_proc_list_free() frees it
 *
 * Return: 0 or -errno, then it is empty.
 */
int wptrack_proc_list(struct wptrack_pids *pids);
void wptrack_proc_list_free(struct wptrack_pids *pids);

/* What the guests of a process have: others that are in its memory, such as a child of clone(CLONE_VM). */
struct wptrack_guests {
	bool any;
	bool io_uring;
	bool direct_io; /* as of wptrack_proc_has_direct_io() */
	bool uffd;	/* one that has been enabled */
};

/**
 * wptrack_proc_look_at_guests - who else is in the memory of a process?
 * @host:	the process
 * @among:	those that may be guests
 *
 * Descriptors that cannot be looked at count as all that is asked for. Who may not be compared with @host, for
 * lack of privilege, counts as none. Source: kcmp, and as above.
 */
void wptrack_proc_look_at_guests(pid_t host, const struct wptrack_pids *among, struct wptrack_guests *guests);

/**
 * wptrack_proc_next_idle_uffd - find a userfaultfd that was never enabled
 * @pid:	process
 * @from:	lowest descriptor to look at
 *
 * Source: /proc/PID/fd, and the features in /proc/PID/fdinfo.
 *
 * Return: the process's descriptor, -ENOENT when there is none, or -errno.
 */
int wptrack_proc_next_idle_uffd(pid_t pid, int from);

#endif
