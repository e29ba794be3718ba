/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which options a criu is going to have: by its configuration files, and by what
 * it is given. No logging.
 */
#ifndef WPTRACK_CRIU_OPTIONS_H
#define WPTRACK_CRIU_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct wptrack_criu_options {
	char **all; /* as on a command line, later ones override; owned */
	size_t nr;
};

/**
 * wptrack_criu_options_read - the configuration files and the command line
 * @given:	@nr_given arguments
 * @ret:	all zero before; to be freed with wptrack_criu_options_free() whatever is returned
 *
 * Files that criu would read, and that cannot be read here, have no options.
 * Return: 0 or -ENOMEM.
 */
int wptrack_criu_options_read(char *const given[], int nr_given, struct wptrack_criu_options *ret);

void wptrack_criu_options_free(struct wptrack_criu_options *options);

/**
 * wptrack_criu_option - is an option given?
 * @name:	without "--"; abbreviated as getopt_long() allows it, and "--no-" takes it back
 * @letter:	the short form, 0 for none
 *
 * Return: NULL, its value, or "" when there is none.
 */
const char *wptrack_criu_option(const struct wptrack_criu_options *options, const char *name, char letter);

/* A size with K, M or G, as criu has it. Return: bytes, @otherwise when @text is NULL or none. */
unsigned long long wptrack_criu_size(const char *text, unsigned long long otherwise);

#endif
