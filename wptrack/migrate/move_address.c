// SPDX-License-Identifier: GPL-2.0-only
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move_address.h"

/*
 * At the destination, a packet that came before the connection is there would be answered by a reset. So they are
 * dropped until the program is to run; whoever sent them sends them once more. Then the network is told where the
 * address is. Only the words in capitals are replaced, by what has been looked at.
 */
static const char script[] =
	"a=ADDRESS l=LENGTH d=DEVICE t=TABLE\n"
	"tell() { TELL </dev/null >/dev/null 2>&1 & }\n"
	"case $WPTRACK_EVENT in\n"
	"stopped) ip address delete $a/$l dev $d ;;\n"
	"resumed) ip address replace $a/$l dev $d NODAD && tell ;;\n"
	"restore) command -v TOOL >/dev/null || { echo 'TOOL is not installed' >&2; exit 1; }\n"
	"nft \"table inet $t { chain in { type filter hook input priority -300; NEIGHBOURS FAMILY daddr $a drop; };"
	" chain out { type filter hook output priority -300; NEIGHBOURS FAMILY saddr $a drop; }; }\" &&"
	" ip address replace $a/$l dev $d NODAD ;;\n"
	"run) nft delete table inet $t 2>/dev/null; tell ;;\n"
	"aborted) ip address delete $a/$l dev $d; nft delete table inet $t 2>/dev/null; true ;;\n"
	"esac || exit 1\n";

/* What the two kinds of addresses differ in. */
static const struct family {
	int number;
	unsigned int length_max;
	const char *name; /* as nft has it */
	const char *tool, *tell;
	const char *nodad;	/* the other host has had it up to now: it is nobody else's */
	const char *neighbours; /* of IPv4, these are no packets of IP */
} families[] = {
	{ AF_INET, 32, "ip", "arping", "arping -q -U -c 1 -I $d $a", "", "" },
	{ AF_INET6, 128, "ip6", "ndptool", "ndptool send -t na -U -i $d -T $a", "nodad",
	  "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;" },
};

struct parts {
	const struct family *family;
	char address[INET6_ADDRSTRLEN]; /* as inet_ntop() has it */
	char device[IF_NAMESIZE];
	char length[4];
	char table[sizeof("wptrack-") + 2 * sizeof(struct in6_addr)];
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

/* Those that mean the same on any host do not move. */
static bool can_move_ip4(struct in_addr address)
{
	const uint32_t bits = ntohl(address.s_addr);

	return bits >> 24 && bits >> 24 != IN_LOOPBACKNET && !IN_MULTICAST(bits) && !IN_BADCLASS(bits);
}

static bool can_move_ip6(const struct in6_addr *address)
{
	return !IN6_IS_ADDR_UNSPECIFIED(address) && !IN6_IS_ADDR_LOOPBACK(address) && !IN6_IS_ADDR_MULTICAST(address) &&
	       !IN6_IS_ADDR_LINKLOCAL(address) && !IN6_IS_ADDR_V4MAPPED(address);
}

/* A table for each address. Return: false when there is no moving it. */
static bool take_address(const char *text, struct parts *ret)
{
	union {
		struct in_addr ip4;
		struct in6_addr ip6;
		uint8_t bytes[sizeof(struct in6_addr)];
	} address;
	size_t len = sizeof(address.ip4);
	char *at;

	if (inet_pton(AF_INET, text, &address) == 1) {
		ret->family = &families[0];
		if (!can_move_ip4(address.ip4))
			return false;
	} else if (inet_pton(AF_INET6, text, &address) == 1) {
		ret->family = &families[1];
		len = sizeof(address.ip6);
		if (!can_move_ip6(&address.ip6))
			return false;
	} else {
		return false;
	}
	inet_ntop(ret->family->number, &address, ret->address, sizeof(ret->address));
	at = stpcpy(ret->table, "wptrack-");
	for (size_t i = 0; i < len; i++)
		at += sprintf(at, "%02x", address.bytes[i]);
	return true;
}

static bool parse(const char *what, struct parts *ret)
{
	char address[INET6_ADDRSTRLEN];
	unsigned int length;
	int at = 0;

	if (sscanf(what, "%45[0-9a-fA-F.:]/%3u@%n", address, &length, &at) != 2 || !at)
		return false;
	if (!take_address(address, ret) || length > ret->family->length_max || !is_device(what + at))
		return false;
	snprintf(ret->device, sizeof(ret->device), "%s", what + at);
	snprintf(ret->length, sizeof(ret->length), "%u", length);
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
		{ "FAMILY", parts->family->name },
		{ "TOOL", parts->family->tool },
		{ "TELL", parts->family->tell },
		{ "NODAD", parts->family->nodad },
		{ "NEIGHBOURS", parts->family->neighbours },
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
