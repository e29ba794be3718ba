/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pinned memory: pages that a device, or the kernel for somebody else, may write
 * to behind the page tables. That there is none has to be proven. No logging.
 */
#ifndef WPTRACK_PINS_H
#define WPTRACK_PINS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum wptrack_pins {
	WPTRACK_PINS_POSSIBLE, /* nothing proves the contrary */
	WPTRACK_PINS_GONE,     /* there is no such process */
	WPTRACK_PINS_NONE,     /* not now */
	WPTRACK_PINS_NEVER,    /* not since this memory was made, by fork or exec */
};

/**
 * wptrack_pins_start - find out what proves anything on this kernel
 *
 * To be called before a task is stopped: where VmPin does not count everything it
 * takes some 30 ms, elsewhere 0.1.
 *
 * Return: what it goes by, a text for the log.
 */
const char *wptrack_pins_start(void);

/**
 * wptrack_pins_of - may memory of this process be pinned?
 *
 * Source: VmPin of /proc/PID/status. Where that does not count everything, or there
 * is who may pin without being counted (wptrack_proc_may_pin_uncounted()): the kernel's mark on a memory of which a page was ever pinned (a BPF iterator),
 * then the machine's counts of pins (/proc/vmstat).
 */
enum wptrack_pins wptrack_pins_of(pid_t pid);

void wptrack_pins_stop(void);

/**
 * wptrack_pins_parse_vmstat - what /proc/vmstat counts of pins
 * @ret_acquired:	pages pinned since the machine was started
 * @ret_released:	those of them that no longer are
 *
 * Return: 0, or -EBADMSG when it has no such lines.
 */
int wptrack_pins_parse_vmstat(const char *text, uint64_t *ret_acquired, uint64_t *ret_released);

/* Does this list (/proc/filesystems) have one that gives back more pins than it has taken? */
bool wptrack_pins_miscounted(const char *filesystems);

#endif
