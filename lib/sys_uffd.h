/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The userfaultfd system calls, the only place that makes them. No logging: the
 * caller knows what a failure means. Addresses are page-aligned, ranges half-open.
 */
#ifndef WPTRACK_SYS_UFFD_H
#define WPTRACK_SYS_UFFD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Flags for userfaultfd(2): no privilege is needed for faults from user mode. */
int wptrack_uffd_flags(void);

/**
 * wptrack_uffd_create - make a userfaultfd for the calling process
 * Return: descriptor the caller owns, or -errno. For probes; a target's is made
 * in the target.
 */
int wptrack_uffd_create(void);

/**
 * wptrack_uffd_enable - switch a fresh userfaultfd to asynchronous write-protection
 * @uffd:	no other feature may have been chosen for it yet
 *
 * Return: 0, -EINVAL when the kernel does not know WP_ASYNC, or -errno.
 */
int wptrack_uffd_enable(int uffd);

/**
 * wptrack_uffd_register - register a range for write-protection
 *
 * The range must not cut a VMA, else it would split it. Registering twice with
 * the same userfaultfd is fine and says that the VMA is ours.
 *
 * Return: 0; -EBUSY: another userfaultfd owns it; -EINVAL, -EPERM: the kernel
 * does not take such a VMA; -ENOMEM, -ESRCH: the memory of the process is gone.
 */
int wptrack_uffd_register(int uffd, uint64_t start, uint64_t end);

/**
 * wptrack_uffd_unregister - take a registration back; pages are un-protected
 *
 * Return: 0; -EINVAL: there is something that can't be registered, or that another
 * userfaultfd owns; -ENOMEM, -ESRCH: the memory of the process is gone.
 */
int wptrack_uffd_unregister(int uffd, uint64_t start, uint64_t end);

/**
 * wptrack_uffd_unprotect - make every page of a registered range count as written
 *
 * Allocates no page tables. Return: 0, -ENOENT when the range is not registered
 * in whole (a part of it may have been done), -ESRCH when the memory is gone.
 */
int wptrack_uffd_unprotect(int uffd, uint64_t start, uint64_t end);

/**
 * wptrack_uffd_memory_is_gone - has the memory that a userfaultfd was made for no user left?
 *
 * A userfaultfd outlives that memory, and exec gives a process new memory without
 * a sign on its pidfd. Un-protecting a page answers ESRCH once the memory is gone
 * and ENOENT on an address that is not registered. False when it cannot be told.
 */
bool wptrack_uffd_memory_is_gone(int uffd);

/**
 * wptrack_pidfd_open - pidfd of a process
 * Return: descriptor the caller owns (O_CLOEXEC), or -errno.
 */
int wptrack_pidfd_open(pid_t pid);

/**
 * wptrack_pidfd_getfd - duplicate a descriptor of another process
 * Return: descriptor the caller owns (O_CLOEXEC), or -errno.
 */
int wptrack_pidfd_getfd(int pidfd, int remote_fd);

#endif
