/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a dump of a tree of processes would trip over, or needs an option of criu
 * for: seen in /proc and by sock_diag, as long as all of it runs. No logging.
 *
 * Nobody is stopped, and nobody who serves a file is asked: descriptors are
 * looked at by their names, and files only on local filesystems.
 */
#ifndef WPTRACK_OBSTACLES_H
#define WPTRACK_OBSTACLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wptrack/proc_tree.h"

enum wptrack_obstacle {
	WPTRACK_OBSTACLE_ITSELF,       /* this program is in the tree */
	WPTRACK_OBSTACLE_TRACED,       /* by strace or a debugger */
	WPTRACK_OBSTACLE_OTHER_USER,   /* whose limits may not be read */
	WPTRACK_OBSTACLE_PID_NS,       /* not the init of its own pid namespace */
	WPTRACK_OBSTACLE_TERMINAL,     /* that others hold the other end of, or whose session others lead */
	WPTRACK_OBSTACLE_LOCK,	       /* of a file, or a lease */
	WPTRACK_OBSTACLE_CONNECTION,   /* of TCP */
	WPTRACK_OBSTACLE_UNIX_DGRAM,   /* a socket with a peer outside of the tree, which has a name */
	WPTRACK_OBSTACLE_UNIX_STREAM,  /* the same, but connected, or nameless */
	WPTRACK_OBSTACLE_SYSV,	       /* shared memory of an IPC namespace that is not the tree's own */
	WPTRACK_OBSTACLE_IO_URING,
	WPTRACK_OBSTACLE_ANON_INODE,   /* a descriptor of a kind that criu does not know */
	WPTRACK_OBSTACLE_GHOST,	       /* a large file without a name */
	WPTRACK_OBSTACLE_OTHER_NAME,   /* a file that has lost the name by which it was opened, but has others */
	WPTRACK_OBSTACLE_OTHER_MOUNT,  /* a file on a mount that the process does not see */
	WPTRACK_OBSTACLE_UPROBES,
	WPTRACK_OBSTACLE_NR
};

struct wptrack_obstacle_found {
	pid_t pid;	 /* of the first that has it; 0: none */
	unsigned int nr; /* how often in all */
	char what[96];	 /* the first: a name, printable; may be empty */
};

struct wptrack_obstacles {
	struct wptrack_obstacle_found of[WPTRACK_OBSTACLE_NR];
	uint64_t memory_bytes; /* anonymous, of all processes: what the first round writes, about */
};

/**
 * wptrack_obstacles_read - look at all processes of a tree
 * @root:		a process that lives, and is no kernel thread
 * @ghost_limit_bytes:	files without a name that are not larger are no obstacle
 *
 * What cannot be read is no obstacle: the dump will tell. Return: 0, -ESRCH when
 * the root has ended, or -errno.
 */
int wptrack_obstacles_read(pid_t root, uint64_t ghost_limit_bytes, struct wptrack_obstacles *ret);

/* ---- for its parts */

struct wptrack_socket {
	uint64_t inode;
	pid_t pid;
};

/* Either end of a pseudoterminal. */
struct wptrack_terminal {
	int index;
	pid_t pid;
	bool is_master;
};

struct wptrack_mount {
	int id;
	unsigned int major, minor;
	bool is_local; /* and answered for by the kernel alone */
};

/* What has been seen so far. */
struct wptrack_obstacle_scan {
	const struct wptrack_tree *tree;
	uint64_t ghost_limit_bytes;
	struct wptrack_obstacles *found;
	struct wptrack_socket *sockets; /* a descriptor each: one may be there more than once */
	size_t nr_sockets;
	struct wptrack_terminal *terminals;
	size_t nr_terminals;
	struct wptrack_mount *mounts; /* of the root */
	size_t nr_mounts;
};

/**
 * wptrack_obstacle_grow - make room for one more
 * @all:	@nr elements of @size bytes; it may move
 *
 * Return: 0 or -ENOMEM.
 */
int wptrack_obstacle_grow(void **all, size_t nr, size_t size);

/* @format: for what, NULL for nothing to be said. */
void wptrack_obstacle_note(struct wptrack_obstacles *found, enum wptrack_obstacle kind, pid_t pid, const char *format,
			   ...) __attribute__((format(printf, 4, 5)));

/* Descriptors and mappings of a process; sockets and terminals are collected. Return: 0 or -ENOMEM. */
int wptrack_obstacles_of_files(struct wptrack_obstacle_scan *scan, pid_t pid);

/* Mounts that the root sees. Return: 0 or -ENOMEM. */
int wptrack_obstacles_read_mounts(struct wptrack_obstacle_scan *scan, pid_t root);

/* The sockets that have been collected. Return: 0 or -ENOMEM. */
int wptrack_obstacles_of_sockets(struct wptrack_obstacle_scan *scan);

#endif
