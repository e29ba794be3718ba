/* SPDX-License-Identifier: GPL-2.0-only */
/* Does this kernel do what tracking needs? Decided by trying, never by version. */
#ifndef WPTRACK_CAPS_H
#define WPTRACK_CAPS_H

/**
 * wptrack_caps_probe - try the whole mechanism on a page of our own
 * @ret_missing:	when it does not work: static text that says what is missing
 *
 * The answer is remembered. Return: 0 when tracking works here, else -errno.
 */
int wptrack_caps_probe(const char **ret_missing);

#endif
