/* SPDX-License-Identifier: GPL-2.0-only */
/* What wptrack verify asks /proc about a process besides its memory. No logging. */
#ifndef WPTRACK_STOPPED_H
#define WPTRACK_STOPPED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Are all threads of it stopped, by a signal, a tracer or a frozen cgroup? */
bool wptrack_proc_is_stopped(pid_t pid);

/* The same, once it has had up to @for_ms milliseconds: a signal that was just sent takes effect a moment later. */
bool wptrack_proc_await_stopped(pid_t pid, unsigned int for_ms);

/* The pid it has in its own namespace, by which CRIU names its images. Return: 0 when it is not told. */
uint32_t wptrack_proc_innermost_pid(pid_t pid);

#endif
