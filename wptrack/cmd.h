/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wptrack command: what its subcommands share. Each returns the exit code:
 * 0, 1 when it failed and said so, 2 when it was called wrongly. wptrack verify
 * returns 1 for what is wrong and 2 when it could not tell.
 */
#ifndef WPTRACK_CMD_H
#define WPTRACK_CMD_H

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/wire.h"

#define WPTRACK_EXIT_FAILED  1
#define WPTRACK_EXIT_USAGE   2
#define WPTRACK_EXIT_UNKNOWN 2

/* wptrack migrate has not dumped, as that would have taken too long. */
#define WPTRACK_EXIT_NOT_CONVERGING 3

int wptrack_cmd_status(int argc, char **argv);
int wptrack_cmd_release(int argc, char **argv);
int wptrack_cmd_show(int argc, char **argv);
int wptrack_cmd_verify(int argc, char **argv);
int wptrack_cmd_dirty_rate(int argc, char **argv);
int wptrack_cmd_migrate(int argc, char **argv);

/* What is no option; it is in optarg. */
#define WPTRACK_OPERAND 1

/**
 * wptrack_cmd_option - the next of a subcommand's arguments
 * @argv:	the subcommand's name, and its arguments
 * @options:	as getopt_long() has them, which this is, but for the order: operands come where they stand
 *
 * What comes after "--" is left, from optind on. Return: the option's value,
 * WPTRACK_OPERAND, -1 at the end, ':' when a value is missing, or '?' for what
 * is unknown; the latter two are argv[optind - 1].
 */
int wptrack_cmd_option(int argc, char **argv, const struct option *options);

/* Say on stderr that subcommand @name was called wrongly. Return: WPTRACK_EXIT_USAGE. */
int wptrack_cmd_misused(const char *name, const char *why);

/* Say on stderr what failed; @err is a negative errno. Return: WPTRACK_EXIT_FAILED. */
int wptrack_cmd_failed(const char *what, int err);

/* A pid, or another number from 1 to INT32_MAX. Return: 0 when @text is none. */
int32_t wptrack_parse_number(const char *text);

/* Room for any size as wptrack_print_size() writes it, NUL included. */
#define WPTRACK_SIZE_LEN 16

/* Format @bytes as "17 B" or "1.5 MiB" into @buf. Return: @buf. */
const char *wptrack_print_size(uint64_t bytes, char buf[WPTRACK_SIZE_LEN]);

/* Room for a comm, for every byte of it one character, NUL included. */
#define WPTRACK_PLAIN_LEN WPTRACK_COMM_LEN

/* Copy @comm for a terminal: what is not printable ASCII becomes "?". Return: @buf. */
const char *wptrack_print_plain(const char *comm, char buf[WPTRACK_PLAIN_LEN]);

/* Room for refusals as text: a name, a colon and a number for each. */
#define WPTRACK_REFUSED_LEN (WPTRACK_REFUSED_NR * 24)

/* Format the reasons that occur as "file:12 special:4", "-" for none, into @buf. Return: @buf. */
const char *wptrack_print_refused(const uint32_t refused[WPTRACK_REFUSED_NR], char buf[WPTRACK_REFUSED_LEN]);

#endif
