/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wptrack command: what its subcommands share. Each returns the exit code:
 * 0, 1 when it failed and said so, 2 when it was called wrongly. wptrack verify
 * returns 1 for what is wrong and 2 when it could not tell.
 */
#ifndef WPTRACK_CMD_H
#define WPTRACK_CMD_H

#include <getopt.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/wire.h"

#define WPTRACK_EXIT_FAILED  1
#define WPTRACK_EXIT_USAGE   2
#define WPTRACK_EXIT_UNKNOWN 2

/* wptrack migrate has not dumped, as that would have taken too long. */
#define WPTRACK_EXIT_NOT_CONVERGING 3

/* Nobody knows whether the program runs at the destination: it is stopped here. */
#define WPTRACK_EXIT_IN_DOUBT 4

/* An option of a subcommand: what getopt_long(), the usage and the completion are told of it. */
struct wptrack_option {
	const char *name;  /* without "--"; NULL ends a list */
	int kind;	   /* what wptrack_cmd_option() returns: a letter, but 'h' and 'V' */
	const char *value; /* what it takes, as the usage names it; NULL: nothing */
	const char *words; /* which values there are, for the completion; NULL: it depends */
	const char *help;  /* in a line */
};

#define WPTRACK_OPTIONS_MAX 24

/* A subcommand: each is defined in the file that has its name. */
struct wptrack_command {
	const char *name;
	const char *args; /* in short, for the list of all */
	const char *help; /* in a line */
	const struct wptrack_option *options;
	const char *more; /* lines of the usage behind its options; NULL: none */
	int (*run)(int argc, char **argv);
};

extern const struct wptrack_command wptrack_cmd_status;
extern const struct wptrack_command wptrack_cmd_release;
extern const struct wptrack_command wptrack_cmd_show;
extern const struct wptrack_command wptrack_cmd_verify;
extern const struct wptrack_command wptrack_cmd_migrate;
extern const struct wptrack_command wptrack_cmd_receive;
extern const struct wptrack_command wptrack_cmd_dirty_rate;

/*
 * What this program does without arguments if criu has started it as an action script (migrate/hold.h). Return: its
 * exit status, or below 0: criu has not.
 */
int wptrack_cmd_script(void);

/* What is no option; it is in optarg. */
#define WPTRACK_OPERAND 1

/**
 * wptrack_cmd_option - the next of a subcommand's arguments
 * @argv:	the subcommand's name, and its arguments
 * @options:	no more than WPTRACK_OPTIONS_MAX; --help and --version are always known
 *
 * As getopt_long(), which this is, but for the order: operands come where they
 * stand. What comes after "--" is left, from optind on. Return: the option's kind,
 * 'h', 'V', WPTRACK_OPERAND, -1 at the end, ':' when a value is missing, or '?'
 * for what is unknown; the latter two are argv[optind - 1].
 */
int wptrack_cmd_option(int argc, char **argv, const struct wptrack_option *options);

/* Say on stderr that subcommand @name was called wrongly. Return: WPTRACK_EXIT_USAGE. */
int wptrack_cmd_misused(const char *name, const char *why);

/* Say on stderr that subcommand @name cannot do something, and why. Return: @status. */
__attribute__((format(printf, 3, 4))) int wptrack_cmd_cannot(const char *name, int status, const char *format, ...);

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

/* Write @word as a shell reads it. */
void wptrack_print_word(FILE *to, const char *word);

/* Room for refusals as text: a name, a colon and a number for each. */
#define WPTRACK_REFUSED_LEN (WPTRACK_REFUSED_NR * 24)

/* Format the reasons that occur as "file:12 special:4", "-" for none, into @buf. Return: @buf. */
const char *wptrack_print_refused(const uint32_t refused[WPTRACK_REFUSED_NR], char buf[WPTRACK_REFUSED_LEN]);

#endif
