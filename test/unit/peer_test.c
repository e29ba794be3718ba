/* SPDX-License-Identifier: GPL-2.0-only */
/* What two hosts say to each other, and what a hostile one may send. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "lib/cleanup.h"
#include "wptrack/migrate/move_address.h"
#include "wptrack/migrate/peer.h"

/* Two ends of a connection, and a directory for what comes. */
struct pair {
	struct wptrack_peer here, there;
	char dir[64];
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static void pair_end(struct pair *pair)
{
	wptrack_peer_close(&pair->here);
	wptrack_peer_close(&pair->there);
	if (*pair->dir)
		nftw(pair->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

#define PAIR(name) struct pair name WPTRACK_CLEANUP(pair_end) = pair_begin()

static struct pair pair_begin(void)
{
	struct pair pair = { .dir = "/tmp/peer-test.XXXXXX" };
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) || !mkdtemp(pair.dir))
		abort();
	wptrack_peer_init(&pair.here, fds[0], fcntl(fds[0], F_DUPFD_CLOEXEC, 3));
	wptrack_peer_init(&pair.there, fds[1], fcntl(fds[1], F_DUPFD_CLOEXEC, 3));
	return pair;
}

static int send_name(struct pair *pair, Wptrack__MigrateKind kind, const char *name, const char *target)
{
	Wptrack__MigrateMessage message = WPTRACK__MIGRATE_MESSAGE__INIT;

	message.kind = kind;
	message.text = (char *)name;
	message.target = (char *)target;
	message.has_bytes = kind == WPTRACK__MIGRATE_KIND__FILE;
	return wptrack_peer_send(&pair->here, &message);
}

/* What comes of a directory that has one entry of such a name. */
static int received(Wptrack__MigrateKind kind, const char *name, const char *target)
{
	PAIR(pair);
	WPTRACK_PEER_MESSAGE(end, END);

	if (send_name(&pair, kind, name, target) || wptrack_peer_send(&pair.here, &end))
		return -EIO;
	return wptrack_peer_receive_directory(&pair.there, pair.dir);
}

static void messages_arrive_as_they_were_sent(void)
{
	PAIR(pair);
	Wptrack__MigrateMessage *message WPTRACK_CLEANUP(wptrack_peer_free) = NULL;
	WPTRACK_PEER_MESSAGE(running, RUNNING);

	running.has_us = true;
	running.us = 17;
	CHECK_EQ(wptrack_peer_send(&pair.here, &running), 0);
	CHECK_EQ(wptrack_peer_receive(&pair.there, 1000, &message), 0);
	CHECK_EQ(message->kind, WPTRACK__MIGRATE_KIND__RUNNING);
	CHECK_EQ(message->us, 17);
}

static void silence_and_ends_are_told_apart(void)
{
	PAIR(pair);
	Wptrack__MigrateMessage *message = NULL;

	CHECK_EQ(wptrack_peer_receive(&pair.there, 10, &message), -ETIMEDOUT);
	wptrack_peer_close(&pair.here);
	CHECK_EQ(wptrack_peer_receive(&pair.there, 1000, &message), -ECONNRESET);
}

static void what_is_no_message_is_refused(void)
{
	static const struct {
		uint32_t length;
		char bytes[8];
	} wrong[] = { { 0xffffffff, "" }, { 4u << 24, "" }, { 0, "" }, { 3, "\xff\xff\xff" }, { 1, "\x08" } };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		PAIR(pair);
		Wptrack__MigrateMessage *message = NULL;
		const uint32_t length = htole32(wrong[i].length);
		const size_t size = wrong[i].length < sizeof(wrong[i].bytes) ? wrong[i].length : 0;

		CHECK(write(pair.here.out, &length, sizeof(length)) == sizeof(length));
		CHECK(write(pair.here.out, wrong[i].bytes, size) == (ssize_t)size);
		CHECK_EQ(wptrack_peer_receive(&pair.there, 1000, &message), -EPROTO);
	}
}

static void names_lead_nowhere_else(void)
{
	char longest[300];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, "inventory.img", NULL), 0);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, "../x", NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, "/tmp/x", NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, "..", NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, "", NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, NULL, NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__FILE, longest, NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__LINK, "parent", "../1"), 0);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__LINK, "parent", "../.."), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__LINK, "parent", "../1/../../etc"), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__LINK, "parent", "/etc"), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__LINK, "parent", NULL), -EPROTO);
	CHECK_EQ(received(WPTRACK__MIGRATE_KIND__GO, NULL, NULL), -EPROTO);
}

/* A link of the connection's own is not followed by what comes after it. */
static void a_file_is_made_once(void)
{
	PAIR(pair);

	CHECK_EQ(send_name(&pair, WPTRACK__MIGRATE_KIND__LINK, "x", "../y"), 0);
	CHECK_EQ(send_name(&pair, WPTRACK__MIGRATE_KIND__FILE, "x", NULL), 0);
	CHECK_EQ(wptrack_peer_receive_directory(&pair.there, pair.dir), -EEXIST);
}

static void addresses_are_looked_at(void)
{
	static const char *const wrong[] = { "10.0.0.1",
					     "10.0.0.1/24",
					     "10.0.0.1/33@eth0",
					     "10.0.0/8@eth0",
					     "10.0.0.1/24@",
					     "127.0.0.1/8@eth0",
					     "0.0.0.0/0@eth0",
					     "224.0.0.1/4@eth0",
					     "::1/64@eth0",
					     "fe80::1/64@eth0",
					     "ff02::1/64@eth0",
					     "::/0@eth0",
					     "::ffff:10.0.0.1/96@eth0",
					     "fd00::1/129@eth0",
					     "fd00:::1/64@eth0",
					     "fd00::1%eth0/64@eth0",
					     "fd00::1/64@a;b",
					     "10.0.0.1/24@a;b",
					     "10.0.0.1/24@$(x)",
					     "10.0.0.1/24@-a",
					     "999.0.0.1/1@a",
					     "" };
	char *first WPTRACK_CLEANUP(wptrack_free_pointer) = wptrack_move_address("10.0.0.1/24@eth0", NULL);
	char *both WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;
	char *ip6 WPTRACK_CLEANUP(wptrack_free_pointer) = NULL;

	CHECK(first && strstr(first, "a=10.0.0.1 l=24 d=eth0 t=wptrack-0a000001\n"));
	both = wptrack_move_address("10.0.0.2/8@br-1.5", first);
	CHECK(both && strstr(both, "d=eth0 ") && strstr(both, "a=10.0.0.2 l=8 d=br-1.5 "));
	ip6 = wptrack_move_address("FD00:0:0::a/64@eth0", NULL);
	CHECK(ip6 && strstr(ip6, "a=fd00::a l=64 d=eth0 t=wptrack-fd00000000000000000000000000000a\n"));
	CHECK(ip6 && strstr(ip6, "ip6 daddr $a drop") && strstr(ip6, "ip address replace $a/$l dev $d nodad"));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		errno = 0;
		CHECK(!wptrack_move_address(wrong[i], NULL));
		CHECK_EQ(errno, EINVAL);
	}
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(messages_arrive_as_they_were_sent),
		TEST(silence_and_ends_are_told_apart),
		TEST(what_is_no_message_is_refused),
		TEST(names_lead_nowhere_else),
		TEST(a_file_is_made_once),
		TEST(addresses_are_looked_at),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
