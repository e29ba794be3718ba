// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "obstacles.h"

#define LINE_BYTES   512
#define ANSWER_BYTES 32768
#define PATIENCE_S   5

/* States of TCP as /proc/net/tcp has them. */
#define TCP_TIME_WAIT 0x06
#define TCP_CLOSED    0x07
#define TCP_LISTENING 0x0a

static int compare(const void *a, const void *b)
{
	const uint64_t left = ((const struct wptrack_socket *)a)->inode,
		       right = ((const struct wptrack_socket *)b)->inode;

	return left < right ? -1 : left > right;
}

static const struct wptrack_socket *find(const struct wptrack_obstacle_scan *scan, uint64_t inode)
{
	const struct wptrack_socket key = { .inode = inode };

	return bsearch(&key, scan->sockets, scan->nr_sockets, sizeof(key), compare);
}

/* ---------------------------------------------------------------- TCP */

/* @name: of the table of a network namespace, as a member of it sees it. */
static void look_at_tcp(struct wptrack_obstacle_scan *scan, pid_t member, const char *name)
{
	char line[LINE_BYTES], path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/net/%s", member, name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		const struct wptrack_socket *it;
		unsigned int state, port;
		uint64_t inode;

		if (sscanf(line, " %*d: %*[^ ] %*[^:]:%x %x %*s %*s %*s %*s %*s %" SCNu64, &port, &state, &inode) !=
			    3 ||
		    state == TCP_LISTENING || state == TCP_CLOSED || state == TCP_TIME_WAIT)
			continue;
		it = find(scan, inode);
		if (it)
			wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_CONNECTION, it->pid, "to port %u", port);
	}
	if (f)
		fclose(f);
}

/* ---------------------------------------------------------------- unix sockets */

static void look_at_unix(struct wptrack_obstacle_scan *scan, struct nlmsghdr *head)
{
	const struct unix_diag_msg *msg = NLMSG_DATA(head);
	const struct wptrack_socket *it = find(scan, msg->udiag_ino);
	struct rtattr *attr = (struct rtattr *)(msg + 1);
	int len = (int)(head->nlmsg_len - NLMSG_LENGTH(sizeof(*msg)));
	uint32_t peer = 0;

	for (; it && RTA_OK(attr, len); attr = RTA_NEXT(attr, len))
		if (attr->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(attr) >= sizeof(peer))
			memcpy(&peer, RTA_DATA(attr), sizeof(peer));
	if (!peer || find(scan, peer))
		return;
	/* A descriptor of the peer that is in no table, but on its way, is not seen here. */
	if (msg->udiag_type == SOCK_DGRAM)
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_UNIX_DGRAM, it->pid, "socket %" PRIu32,
				      msg->udiag_ino);
	else
		wptrack_obstacle_note(scan->found, WPTRACK_OBSTACLE_UNIX_STREAM, it->pid, "unix[%" PRIu32 "]",
				      msg->udiag_ino);
}

/* Return: false when there is no more to come. */
static bool look_at_answer(struct wptrack_obstacle_scan *scan, char *answer, ssize_t bytes)
{
	int len = (int)bytes;

	for (struct nlmsghdr *head = (struct nlmsghdr *)answer; NLMSG_OK(head, len); head = NLMSG_NEXT(head, len)) {
		if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR)
			return false;
		if (head->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
		    head->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
			look_at_unix(scan, head);
	}
	return true;
}

/* A socket belongs to the namespace it was made in. Return: it, or -1. */
static int diag_socket(pid_t member)
{
	const int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	char path[64];
	int theirs, sk = -1;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", member);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (ours >= 0 && theirs >= 0 && !setns(theirs, CLONE_NEWNET)) {
		sk = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
		if (setns(ours, CLONE_NEWNET))
			abort(); /* nothing else can be right there */
	}
	if (theirs >= 0)
		close(theirs);
	if (ours >= 0)
		close(ours);
	return sk;
}

static void look_at_unix_sockets(struct wptrack_obstacle_scan *scan, pid_t member)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req unix_sockets;
	} request = {
		.head = { .nlmsg_len = sizeof(request),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.unix_sockets = { .sdiag_family = AF_UNIX, .udiag_states = UINT32_MAX, .udiag_show = UDIAG_SHOW_PEER },
	};
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	const int sk = diag_socket(member);
	char *answer = malloc(ANSWER_BYTES);
	bool more = answer && sk >= 0;

	if (more)
		more = !setsockopt(sk, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
		       send(sk, &request, sizeof(request), 0) == sizeof(request);
	while (more) {
		const ssize_t bytes = recv(sk, answer, ANSWER_BYTES, 0);

		more = bytes > 0 && look_at_answer(scan, answer, bytes);
	}
	free(answer);
	if (sk >= 0)
		close(sk);
}

/* ---------------------------------------------------------------- all of them */

/* Is the network namespace that of a process before it in the tree? */
static bool is_seen(const struct wptrack_tree *tree, size_t nr)
{
	char path[64], now[64] = "", before[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", tree->pids[nr]);
	if (readlink(path, now, sizeof(now) - 1) <= 0)
		return true;
	/* Mostly that of the root. */
	for (size_t i = 0; i < nr; i++) {
		memset(before, 0, sizeof(before));
		snprintf(path, sizeof(path), "/proc/%d/ns/net", tree->pids[i]);
		if (readlink(path, before, sizeof(before) - 1) > 0 && !strcmp(now, before))
			return true;
	}
	return false;
}

int wptrack_obstacles_of_sockets(struct wptrack_obstacle_scan *scan)
{
	size_t nr = 0;

	if (!scan->nr_sockets)
		return 0;
	qsort(scan->sockets, scan->nr_sockets, sizeof(*scan->sockets), compare);
	for (size_t i = 1; i < scan->nr_sockets; i++)
		if (scan->sockets[i].inode != scan->sockets[nr].inode)
			scan->sockets[++nr] = scan->sockets[i];
	scan->nr_sockets = nr + 1;

	for (size_t i = 0; i < scan->tree->nr; i++) {
		if (is_seen(scan->tree, i))
			continue;
		look_at_tcp(scan, scan->tree->pids[i], "tcp");
		look_at_tcp(scan, scan->tree->pids[i], "tcp6");
		look_at_unix_sockets(scan, scan->tree->pids[i]);
	}
	return 0;
}
