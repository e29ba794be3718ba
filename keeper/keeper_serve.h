/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the keeper answers: one function per op of wire.h.
 */
#ifndef WPTRACK_KEEPER_SERVE_H
#define WPTRACK_KEEPER_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "table.h"

/* One connection. */
struct wptrack_client {
	int sk;
	bool greeted;
	uint64_t serial;	       /* owner of the entries it works on, never given twice, never 0 */
	struct wptrack_session *round; /* of its last ROUND; NULL: none, or committed */
	uint64_t round_generation;
};

/**
 * wptrack_serve_one - take one message off a connection and answer it
 * @table:	what the keeper holds
 * @client:	connection with something to read; stays the caller's
 *
 * Return: 0, or -errno when the connection is to be closed.
 */
int wptrack_serve_one(struct wptrack_table *table, struct wptrack_client *client);

/* Undo what a connection holds before it is closed: its tasks are nobody's, and not committed. */
void wptrack_serve_end(struct wptrack_table *table, struct wptrack_client *client);

#endif
