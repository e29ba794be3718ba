#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# TCP connections: how they are locked by the dump, and that they go on.
set -u
# Rules and connections in a network namespace of our own.
if [ -z "${CONNECTIONS_IN_NS:-}" ]; then
	CONNECTIONS_IN_NS=1 exec unshare --net bash "$0" "$@"
fi
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"
ip link set lo up || exit 2

INJECT_SO=$TEST_BIN/inject.so
# As images/inventory.proto and enum NETWORK_LOCK_METHOD of CRIU have them.
IPTABLES=0
NFTABLES=1
PORT=7777

# The clients, which are not dumped, send a byte on each of their connections to an echo server and wait for it, a round for
# each line they are given; IPv4, IPv6 and IPv4 in IPv6.
clients() {
	cat >"$T/clients.py" <<-'E'
		import socket, sys
		port, number = int(sys.argv[1]), int(sys.argv[2])
		where = [("127.0.0.1", port), ("::1", port), ("::ffff:127.0.0.1", port)]
		peers = [socket.create_connection(where[i % 3]) for i in range(number)]
		for peer in peers:
		    peer.settimeout(20)
		print("ready", flush=True)
		for line in sys.stdin:
		    for peer in peers:
		        peer.sendall(b"x")
		        assert peer.recv(1) == b"x"
		    print("answered", flush=True)
	E
}

# connect NUMBER [FILE]: start the server, which may have a lock on FILE, and its clients. Sets PID.
connect() {
	# What a failure has left is not the next one's.
	nft flush ruleset
	clients
	start_program /usr/bin/python3 "$TEST_DIR/echo_server.py" "$PORT" 6 "${@:2}"
	wait_for 20 grep -qs ready "$T/program.log" || die "no server: $(tail -n 2 "$T/program.log")"
	mkfifo "$T/ask" || die "mkfifo"
	/usr/bin/python3 "$T/clients.py" "$PORT" "$1" <"$T/ask" >"$T/clients.log" 2>&1 &
	CLIENTS=$!
	exec 9>"$T/ask"
	ANSWERS=0
	wait_for 20 grep -qs ready "$T/clients.log" || die "no clients: $(tail -n 2 "$T/clients.log")"
	goes_on
}

answered() {
	[ "$(grep -c answered "$T/clients.log")" = "$ANSWERS" ]
}

# goes_on: each connection carries data there and back.
goes_on() {
	ANSWERS=$((ANSWERS + 1))
	echo >&9
	wait_for 20 answered || die "a connection does not go on: $(tail -n 1 "$T/clients.log")"
}

ends() {
	exec 9>&-
	wait "$CLIENTS" || die "the clients failed: $(tail -n 1 "$T/clients.log")"
}

# dump_connected [OPTION...]: into $T/d. Sets RC.
dump_connected() {
	mkdir -p "$T/d" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$T/d" --tcp-established "$@"
	RC=$?
}

# method_is METHOD: that the images name.
method_is() {
	local method

	method=$(/usr/bin/python3 - "$T/d/inventory.img" <<-'E'
		import sys
		def varint(data, at):
		    value = shift = 0
		    while True:
		        byte = data[at]
		        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
		        if byte < 128:
		            return value, at
		image = open(sys.argv[1], "rb").read()[12:]
		at, fields = 0, {}
		while at < len(image):
		    key, at = varint(image, at)
		    if key & 7 == 2:
		        size, at = varint(image, at)
		        at += size
		    else:
		        fields[key >> 3], at = varint(image, at)
		print(fields.get(11))
	E
	)
	[ "$method" = "$1" ] || die "the images name method $method of locking, not $1"
}

nothing_is_locked() {
	[ -z "$(nft list tables | grep CRIU)" ] || die "a table of nftables is left: $(nft list tables | grep CRIU)"
	! iptables -S | grep -q DROP || die "a rule of iptables is left: $(iptables -S | grep -m 1 DROP)"
	! ip6tables -S | grep -q DROP || die "a rule of ip6tables is left: $(ip6tables -S | grep -m 1 DROP)"
}

# restored [OPTION...]: here, with the connections it had.
restored() {
	criu_cmd restore.log restore -D "$T/d" -d --tcp-established "$@" || die "restore: $(log_errors "$T/d/restore.log")"
	nothing_is_locked
	[ -z "$(log_errors "$T/d/restore.log")" ] || die "the restore complains: $(log_errors "$T/d/restore.log")"
	goes_on
	ends
}

all_at_once() {
	connect 60
	dump_connected
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	grep -aq 'Locked 60 TCP connections using nftables' "$T/d/dump.log" || die "they have not been locked at once"
	! grep -aq 'Running iptables' "$T/d/dump.log" || die "iptables was run, too"
	method_is "$NFTABLES"
	# A packet of the peer's is to find nobody, who would reset the connection.
	[ "$(nft list ruleset | grep -c '@conns')" = 4 ] || die "no rules: $(nft list ruleset | tr '\n' ' ')"
	restored
}

as_asked() {
	connect 3
	dump_connected --network-lock "$1"
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	method_is "$2"
	restored
}

# A transaction that fails has changed nothing, and iptables gets its turn.
without_nftables() {
	connect 3
	# Whether nftables work is asked once, and kept.
	"$CRIU" check --feature network_lock_nftables >/dev/null 2>&1 || skip "no nftables"
	LD_PRELOAD=$INJECT_SO INJECT=nft:1:EPERM INJECT_HIT=$T/hit dump_connected
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	[ -s "$T/hit" ] || die "nothing was injected"
	method_is "$IPTABLES"
	[ "$(iptables -S | grep -c DROP)" = 4 ] || die "$(iptables -S | grep -c DROP) rules, not two for each connection by IPv4"
	restored
}

# With --network-lock nftables there is no other way.
nothing_but_nftables() {
	connect 3
	"$CRIU" check --feature network_lock_nftables >/dev/null 2>&1 || skip "no nftables"
	LD_PRELOAD=$INJECT_SO INJECT=nft:1:EPERM INJECT_HIT=$T/hit dump_connected --network-lock nftables
	[ "$RC" != 0 ] || die "dumped with nothing locked"
	nothing_is_locked
	goes_on
	ends
}

# two_transactions NUMBER: there is no third one that could fail, to lock so many connections.
two_transactions() {
	connect "$1"
	"$CRIU" check --feature network_lock_nftables >/dev/null 2>&1 || skip "no nftables"
	LD_PRELOAD=$INJECT_SO INJECT=nft:3:EPERM INJECT_HIT=$T/hit dump_connected --network-lock nftables
	[ ! -e "$T/hit" ] || die "there are three transactions for $1 connections"
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	restored
}

for_one_connection() {
	two_transactions 1
}

for_six_connections() {
	two_transactions 6
}

# A file lock without --file-locks: found when all connections are locked.
failed() {
	connect 6 "$T/file"
	dump_connected
	[ "$RC" != 0 ] || die "dumped with a file lock"
	grep -aq 'Locked 6 TCP connections' "$T/d/dump.log" || die "it failed before: $(log_errors "$T/d/dump.log")"
	nothing_is_locked
	goes_on
	ends
}

# Images of programs without connections are for any criu.
without_connections() {
	connect 0
	dump_connected
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	method_is "$IPTABLES"
	nothing_is_locked
	restored
}

# There is no table to be deleted, and that is no error.
elsewhere() {
	connect 3
	dump_connected --network-lock nftables
	[ "$RC" = 0 ] || die "dump: $(log_errors "$T/d/dump.log")"
	nft flush ruleset
	kill -9 "$CLIENTS"
	wait "$CLIENTS" 2>/dev/null
	unshare --net bash -c 'ip link set lo up; exec timeout -k 5 60 "$@"' - "$CRIU" restore -D "$T/d" -d --tcp-established -v4 \
		-o restore.log -L "$PLUGINS" </dev/null >/dev/null 2>&1 || die "restore: $(log_errors "$T/d/restore.log")"
	! grep -aqi 'could not process\|no such file' "$T/d/restore.log" ||
		die "the restore complains: $(grep -aim 1 'could not process\|no such file' "$T/d/restore.log")"
}

by_iptables() {
	as_asked iptables "$IPTABLES"
}

by_nftables() {
	as_asked nftables "$NFTABLES"
}

run_test connections_are_locked_all_at_once_and_go_on all_at_once
run_test iptables_are_used_when_asked_for by_iptables
run_test nftables_are_used_when_asked_for by_nftables
run_test where_nftables_fail_iptables_are_used without_nftables
run_test nftables_that_were_asked_for_and_fail_are_an_error nothing_but_nftables
run_test one_connection_is_locked_by_two_transactions_at_most for_one_connection
run_test six_connections_are_locked_by_two_transactions_at_most for_six_connections
run_test a_dump_that_fails_unlocks_all_connections failed
run_test images_without_connections_need_no_nftables without_connections
run_test a_restore_elsewhere_finds_nothing_locked elsewhere
finish
