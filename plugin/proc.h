/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc tells of a process. No logging. */
#ifndef WPTRACK_PROC_H
#define WPTRACK_PROC_H

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

/**
 * wptrack_proc_pinned - memory that devices may write to behind the page tables
 * @ret_bytes:	VmPin of /proc/PID/status
 *
 * Return: 0 or -errno.
 */
int wptrack_proc_pinned(pid_t pid, uint64_t *ret_bytes);

/**
 * wptrack_proc_has_io_uring - does the process have an io_uring open?
 *
 * Source: /proc/PID/fd, and that of threads whose descriptors are not the
 * process's (kcmp). Return: 1, 0 or -errno.
 */
int wptrack_proc_has_io_uring(pid_t pid);

/**
 * wptrack_proc_has_direct_io - does the process have a file open with O_DIRECT?
 *
 * Looked at are the descriptors of all threads. Return: 1, 0 or -errno.
 */
int wptrack_proc_has_direct_io(pid_t pid);

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
