/* SPDX-License-Identifier: GPL-2.0-only */
/* What the table of subcommands tells people and their shells. */
#ifndef WPTRACK_USAGE_H
#define WPTRACK_USAGE_H

#include <stddef.h>
#include <stdio.h>

#include "cmd.h"

/* Every subcommand in a line, and the options of wptrack itself. */
void wptrack_usage_all(FILE *to, const struct wptrack_command *const *commands, size_t nr);

/* One subcommand, and its options. */
void wptrack_usage_of(FILE *to, const struct wptrack_command *command);

/* A script that completes command lines in bash. */
void wptrack_usage_completion(FILE *to, const struct wptrack_command *const *commands, size_t nr);

#endif
