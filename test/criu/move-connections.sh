#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack migrate --to, of a program with TCP connections and the address that they lead to. Three network namespaces: here,
# the other host, and outside, where the clients are and a bridge joins all.
set -u
if [ -z "${CONNECTIONS_IN_NS:-}" ]; then
	CONNECTIONS_IN_NS=1 exec unshare --net bash "$0" "$@"
fi
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../hosts.sh
. "$(dirname "$0")/../hosts.sh"
# shellcheck source=../moves.sh
. "$(dirname "$0")/../moves.sh"
exec_under_reaper "$@"
ip link set lo up || exit 2

PORT=7777

IP4=$ADDRESS/24
IP6=$ADDRESS6/64

# connected FAMILY NUMBER ADDRESS...: a server here, and clients outside, which use all of the addresses.
connected() {
	local hosts

	[ "$1" = 4 ] || [ -e /proc/sys/net/ipv6 ] || skip "no IPv6"
	nft flush ruleset
	start_host
	network
	start_program /usr/bin/python3 "$TEST_DIR/echo_server.py" "$PORT" "$1"
	wait_for 20 grep -q ready "$T/program.log" || die "no server: $(tail -n 2 "$T/program.log")"
	hosts=$(printf '%s,' "${@:3}" | sed 's|/[0-9]*,|,|g')
	start_clients "$PORT" "$2" "${hosts%,}"
}

nothing_is_locked() {
	[ -z "$("$@" nft list ruleset)" ] || die "rules are left: $("$@" nft list tables | tr '\n' ' ')"
}

# has_address ADDRESS [COMMAND...]: whoever asks may use it at once.
has_address() {
	"${@:2}" ip address show dev eth -tentative | grep -q "inet6\? $1 "
}

# move_with ADDRESS...
move_with() {
	local options=("${@/#/--move-address=}")

	move "${options[@]/%/@eth}" -- --tcp-established
}

# moved FAMILY NUMBER ADDRESS...
moved() {
	connected "$@"
	move_with "${@:3}"
	has_moved "${@:3}"
}

# has_moved ADDRESS...
has_moved() {
	local address

	[ "$RC" = 0 ] || die "ended with $RC: $(tail -n 3 "$T/err" | tr '\n' ' ') $(log_errors "$T/there/images/dump/restore.log")"
	clients_are_right
	session_is_gone "$PID" || die "the server is still here"
	[ -n "$(server_there)" ] || die "it is not there"
	for address; do
		! has_address "$address" || die "$address is still here"
		has_address "$address" on_host || die "$address is not there"
	done
	nothing_is_locked on_host
	nothing_is_locked
	kill "$(server_there)"
}

# Something may still tell the network where it is.
server_there() {
	local pid

	for pid in $(pids_there); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != python3 ] || echo "$pid"
	done
}

one() {
	moved 4 1 "$IP4"
}

forty() {
	moved 4 40 "$IP4"
}

four_hundred() {
	moved 4 400 "$IP4"
}

one_ipv6() {
	moved 6 1 "$IP6"
}

forty_ipv6() {
	moved 6 40 "$IP6"
}

# IPv4 is in IPv6 there, as the server has one socket for both.
both_families() {
	moved 6 40 "$IP4" "$IP6"
}

# early FAMILY ADDRESS: packets come to the address there before the connections are.
early() {
	connected "$1" 40 "$2"
	cat >"$T/bin/ip" <<-E
		#!/bin/sh
		PATH=\${PATH#*:}
		ip "\$@" || exit
		[ "\$WPTRACK_EVENT" = restore ] || exit 0
		touch "$T/now"
		while [ ! -e "$T/done" ]; do sleep 0.02; done
	E
	chmod 755 "$T/bin/ip"
	start_move "--move-address=$2@eth" -- --tcp-established
	at_that_time look_for "${2%/*}"
	the_end
	has_moved "$2"
}

# look_for ADDRESS: the clients find out where it is, and send there.
look_for() {
	local got

	outside ip neighbour flush dev bridge
	wait_for 9 is_found "$1" || die "nobody says where $1 is: $(outside ip neighbour)"
	got=$(received)
	wait_for 9 has_received $((got + 10)) || die "nothing comes there"
}

is_found() {
	outside ip neighbour show "$1" dev bridge | grep -q "lladdr $(on_host ip -o link show dev eth | sed 's|.*link/ether \([^ ]*\).*|\1|') .*REACHABLE"
}

# received: how many packets the host has got.
received() {
	on_host sed -n 's/^ *eth: *[0-9]* *\([0-9]*\).*/\1/p' /proc/net/dev
}

has_received() {
	[ "$(received)" -ge "$1" ]
}

early_ipv4() {
	early 4 "$IP4"
}

early_ipv6() {
	early 6 "$IP6"
}

# guard_killed FAMILY ADDRESS: and criu lets go of the connections here.
guard_killed() {
	connected "$1" 40 "$2"
	# The host itself has one, so that there is a way to the clients when that of the program is gone.
	echo 1 >/proc/sys/net/ipv4/conf/eth/promote_secondaries
	ip address add 10.77.0.2/24 dev eth
	[ "$1" = 4 ] || ip address add fd00:77::2/64 dev eth nodad
	wait_here run
	start_move "--move-address=$2@eth" -- --tcp-established
	at_that_time kill_guard
	the_end
	has_moved "$2"
}

guard_killed_ipv4() {
	guard_killed 4 "$IP4"
}

guard_killed_ipv6() {
	guard_killed 6 "$IP6"
}

# failed EVENT FAMILY ADDRESS: there, at that event. The server goes on here, and the clients see nothing of it.
failed() {
	connected "$2" 40 "$3"
	hook "$1" "exit 1"
	move_with "$3"
	[ "$RC" = 1 ] || die "ended with $RC: $(tail -n 3 "$T/err" | tr '\n' ' ')"
	clients_are_right
	[ -z "$(pids_there)" ] || die "something is there"
	has_address "$3" || die "the address is not here"
	! has_address "$3" on_host || die "the address is there"
	nothing_is_locked
	nothing_is_locked on_host
}

not_restored() {
	failed restore 4 "$IP4"
}

not_run() {
	failed run 4 "$IP4"
}

not_restored_ipv6() {
	failed restore 6 "$IP6"
}

not_run_ipv6() {
	failed run 6 "$IP6"
}

wrong_addresses() {
	local wrong

	for wrong in 10.0.0.1 10.0.0.1/33@eth 10.0.0/8@eth 10.0.0.1/24@ '10.0.0.1/24@eth;id' 127.0.0.1/8@eth 224.0.0.1/4@eth \
		fd00::1 fd00::1/129@eth fd00:::1/64@eth fd00::g/64@eth fd00::1/64@ 'fd00::1/64@eth;id' \
		fe80::1/64@eth fe80::1%eth/64@eth ::1/128@eth ::/0@eth ff02::1/16@eth ::ffff:10.0.0.1/96@eth; do
		"$WPTRACK" migrate --to a:b --move-address "$wrong" $$ >"$T/out" 2>&1
		[ $? = 2 ] || die "$wrong is taken"
		grep -q "takes an address that is no link-local" "$T/out" || die "$wrong: $(cat "$T/out")"
		[ "$(wc -l <"$T/out")" = 1 ] || die "$wrong: more than a line: $(cat "$T/out")"
	done
}

run_test a_connection_and_its_address_move_to_another_host one
run_test forty_connections_move forty
run_test four_hundred_connections_move four_hundred
run_test an_ipv6_connection_and_its_address_move one_ipv6
run_test forty_ipv6_connections_move forty_ipv6
run_test connections_of_both_families_move_with_both_addresses both_families
run_test connections_stay_when_they_are_not_restored not_restored
run_test connections_stay_when_the_program_does_not_run not_run
run_test ipv6_connections_stay_when_they_are_not_restored not_restored_ipv6
run_test ipv6_connections_stay_when_the_program_does_not_run not_run_ipv6
run_test packets_that_come_before_the_program_are_not_answered early_ipv4
run_test ipv6_packets_that_come_before_the_program_are_not_answered early_ipv6
run_test connections_move_though_the_guard_is_killed guard_killed_ipv4
run_test ipv6_connections_move_though_the_guard_is_killed guard_killed_ipv6
run_test what_is_no_address_is_refused wrong_addresses
finish
