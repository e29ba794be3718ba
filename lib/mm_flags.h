/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's flags of a memory (mm_struct), by a BPF iterator over tasks: no
 * file of /proc has them. No logging.
 */
#ifndef WPTRACK_MM_FLAGS_H
#define WPTRACK_MM_FLAGS_H

#include <stdint.h>
#include <sys/types.h>

/**
 * wptrack_mm_flags_open - make the iterator, some milliseconds
 *
 * Return: 0, and 0 again if there is one; -EOPNOTSUPP without BTF, or when the
 * kernel's structures are not as expected; or -errno: no privilege, no BPF.
 */
int wptrack_mm_flags_open(void);

/**
 * wptrack_mm_flags_read - the flags of a task's memory, some microseconds
 * @tid:	task, as our pid namespace counts
 * @ret:	what bit means what is not for user space to know
 *
 * Return: 0, -EBADF when it has not been opened, -ESRCH when there is no such
 * task, or it has no memory; or -errno.
 */
int wptrack_mm_flags_read(pid_t tid, uint64_t *ret);

void wptrack_mm_flags_close(void);

#endif
