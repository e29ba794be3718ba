/* SPDX-License-Identifier: GPL-2.0-only */
/* CRIU's headers for plugins, which are written for fewer warnings than ours. */
#ifndef WPTRACK_CRIU_H
#define WPTRACK_CRIU_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "criu-log.h"
#include "criu-plugin.h"
#pragma GCC diagnostic pop

#endif
