/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The connection between wptrack migrate --to and wptrack receive: messages
 * (images/migrate.proto), and files behind some of them. No logging.
 *
 * Nothing that comes is believed: sizes are bounded, and names lead nowhere else.
 */
#ifndef WPTRACK_MIGRATE_PEER_H
#define WPTRACK_MIGRATE_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "migrate.pb-c.h"

/* Of the protocol. Both sides must have the same. */
#define WPTRACK_PEER_PROTOCOL 1

/* Of a file's name, the terminating zero included. */
#define WPTRACK_PEER_NAME_MAX 256

struct wptrack_peer {
	int in, out;		  /* below 0: none. Nonblocking. Ours. */
	pid_t child;		  /* that is at their other end; 0: none */
	bool (*stop)(void *arg);  /* is asked now and then while nothing moves; NULL: never */
	void (*moved)(void *arg); /* some bytes of files have been sent, or time has passed; may be NULL */
	void *arg;
	uint64_t file_bytes; /* sent or received */
};

/* A message of one kind, with nothing in it yet: its fields are set by the caller. */
#define WPTRACK_PEER_MESSAGE(name, kind_)                              \
	Wptrack__MigrateMessage name = WPTRACK__MIGRATE_MESSAGE__INIT; \
	name.kind = WPTRACK__MIGRATE_KIND__##kind_

/* Take two descriptors over, and make them nonblocking. */
void wptrack_peer_init(struct wptrack_peer *peer, int in, int out);

/* Both descriptors are closed: the other side sees that. Nothing is waited for. */
void wptrack_peer_hang_up(struct wptrack_peer *peer);

/* The same, and the child, who sees that, is waited for, and killed if it does not end. */
void wptrack_peer_close(struct wptrack_peer *peer);

/**
 * wptrack_peer_start - run a command, of which input and output are the connection
 * @argv:	argv[0] is found along $PATH; it writes errors to our stderr
 *
 * Ctrl-C does not reach it. Return: 0 or -errno. A command that cannot be
 * executed is a connection that ends at once.
 */
int wptrack_peer_start(struct wptrack_peer *peer, char *const argv[]);

/**
 * wptrack_peer_send - one message
 *
 * Return: 0, -ECANCELED as stop() says, -EPIPE when nobody reads any more, or -errno.
 */
int wptrack_peer_send(struct wptrack_peer *peer, const Wptrack__MigrateMessage *message);

/**
 * wptrack_peer_receive - one message
 * @for_ms:	how long to wait for more of it; below 0: for ever
 * @ret:	to be freed with wptrack_peer_free()
 *
 * Return: 0, -ETIMEDOUT, -ECANCELED as stop() says, -ECONNRESET when the other
 * side is gone, -EPROTO for what is no message, or -errno.
 */
int wptrack_peer_receive(struct wptrack_peer *peer, int for_ms, Wptrack__MigrateMessage **ret);
void wptrack_peer_free(Wptrack__MigrateMessage **message);

/**
 * wptrack_peer_send_directory - all files and symbolic links of a directory, and an END
 * @skip:	ends the names of files that are left out; NULL: none are
 *
 * Return: as wptrack_peer_send().
 */
int wptrack_peer_send_directory(struct wptrack_peer *peer, const char *path, const char *skip);

/**
 * wptrack_peer_receive_directory - up to its END
 * @path:	must exist
 *
 * Return: as wptrack_peer_receive().
 */
int wptrack_peer_receive_directory(struct wptrack_peer *peer, const char *path);

#endif
