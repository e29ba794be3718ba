// SPDX-License-Identifier: GPL-2.0-only
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move_address.h"

#define PREFIX_MAX 32

/*
 * At the destination, a packet that came before the connection is there would be answered by a reset. So they are
 * dropped until the program is to run; whoever sent them sends them once more. Then the network is told where the
 * address is. Only ADDRESS, DEVICE, LENGTH and TABLE are replaced, by what has been looked at.
 */
static const char script[] =
	"a=ADDRESS l=LENGTH d=DEVICE t=TABLE\n"
	"tell() { arping -q -U -c 1 -I $d $a </dev/null >/dev/null 2>&1 & }\n"
	"case $WPTRACK_EVENT in\n"
	"stopped) ip address delete $a/$l dev $d ;;\n"
	"resumed) ip address replace $a/$l dev $d && tell ;;\n"
	"restore) command -v arping >/dev/null || { echo 'arping is not installed' >&2; exit 1; }\n"
	"nft \"table inet $t { chain in { type filter hook input priority -300; ip daddr $a drop; };"
	" chain out { type filter hook output priority -300; ip saddr $a drop; }; }\" &&"
	" ip address replace $a/$l dev $d ;;\n"
	"run) nft delete table inet $t 2>/dev/null; tell ;;\n"
	"aborted) ip address delete $a/$l dev $d; nft delete table inet $t 2>/dev/null; true ;;\n"
	"esac || exit 1\n";

struct parts {
	char address[INET_ADDRSTRLEN];
	char device[IF_NAMESIZE];
	char length[4];
	char table[32];
};

static bool is_device(const char *name)
{
	if (!*name || strlen(name) >= IF_NAMESIZE)
		return false;
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return false;
	return *name != '-';
}

static bool parse(const char *what, struct parts *ret)
{
	unsigned int length;
	struct in_addr address;
	int at = 0;

	if (sscanf(what, "%15[0-9.]/%2u@%n", ret->address, &length, &at) != 2 || !at || length > PREFIX_MAX)
		return false;
	if (inet_pton(AF_INET, ret->address, &address) != 1 || !is_device(what + at))
		return false;
	snprintf(ret->device, sizeof(ret->device), "%s", what + at);
	snprintf(ret->length, sizeof(ret->length), "%u", length);
	snprintf(ret->table, sizeof(ret->table), "wptrack-%08x", ntohl(address.s_addr));
	return true;
}

/* The word at @at, if it is one of those that are replaced. Return: its length; 0: it is none. */
static size_t replace(FILE *to, const char *at, const struct parts *parts)
{
	const struct {
		const char *word, *by;
	} words[] = {
		{ "ADDRESS", parts->address },
		{ "LENGTH", parts->length },
		{ "DEVICE", parts->device },
		{ "TABLE", parts->table },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strncmp(at, words[i].word, strlen(words[i].word))) {
			fputs(words[i].by, to);
			return strlen(words[i].word);
		}
	return 0;
}

char *wptrack_move_address(const char *what, const char *before)
{
	struct parts parts;
	char *text = NULL;
	size_t size;
	FILE *f;

	if (!parse(what, &parts)) {
		errno = EINVAL;
		return NULL;
	}
	f = open_memstream(&text, &size);
	if (!f)
		return NULL;
	if (before)
		fprintf(f, "%s\n", before);
	for (const char *at = script; *at;) {
		const size_t len = replace(f, at, &parts);

		if (!len)
			putc(*at, f);
		at += len ? len : 1;
	}
	return fclose(f) ? NULL : text;
}
