/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Negative controls: mistakes that a tracker could make, switched on by name in
 * the environment, in a build for tests only (make check-controls). A test that
 * does not notice them is worth nothing.
 */
#ifndef WPTRACK_CONTROLS_H
#define WPTRACK_CONTROLS_H

#include <stdbool.h>

#ifdef WPTRACK_WITH_CONTROLS
#include <stdlib.h>
#include <string.h>

static inline bool wptrack_control(const char *name)
{
	const char *on = getenv("WPTRACK_CONTROL");

	return on && !strcmp(on, name);
}
#else
#define wptrack_control(name) false
#endif

#endif
