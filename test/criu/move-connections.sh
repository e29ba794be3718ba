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
exec_under_reaper "$@"
ip link set lo up || exit 2

PORT=7777

# It sends back what it gets.
programs() {
	cat >"$T/server.py" <<-'E'
		import select, socket, sys
		listener = socket.create_server(("", int(sys.argv[1])), backlog=500)
		poll, peers = select.epoll(), {}
		poll.register(listener.fileno(), select.EPOLLIN)
		print("ready", flush=True)
		while True:
		    for fd, _ in poll.poll():
		        if fd == listener.fileno():
		            peer = listener.accept()[0]
		            peers[peer.fileno()] = peer
		            poll.register(peer.fileno(), select.EPOLLIN)
		        else:
		            data = peers[fd].recv(4096)
		            if data:
		                peers[fd].sendall(data)
		            else:
		                poll.unregister(fd)
		                peers.pop(fd).close()
	E
}

# connected NUMBER: a server here, and clients outside.
connected() {
	nft flush ruleset
	start_host
	network
	programs
	start_program /usr/bin/python3 "$T/server.py" "$PORT"
	wait_for 20 grep -q ready "$T/program.log" || die "no server: $(tail -n 2 "$T/program.log")"
	start_clients "$PORT" "$1"
}

nothing_is_locked() {
	[ -z "$("$@" nft list ruleset)" ] || die "rules are left: $("$@" nft list tables | tr '\n' ' ')"
}

has_address() {
	"$@" ip address show dev eth | grep -q "inet $ADDRESS/24"
}

# moved NUMBER
moved() {
	connected "$1"
	move --move-address "$ADDRESS/24@eth" -- --tcp-established
	[ "$RC" = 0 ] || die "ended with $RC: $(tail -n 3 "$T/err" | tr '\n' ' ') $(log_errors "$T/there/images/dump/restore.log")"
	clients_are_right
	session_is_gone "$PID" || die "the server is still here"
	[ -n "$(pids_there)" ] || die "it is not there"
	! has_address || die "the address is still here"
	has_address on_host || die "the address is not there"
	nothing_is_locked on_host
	nothing_is_locked
	kill "$(pids_there)"
}

one() {
	moved 1
}

forty() {
	moved 40
}

four_hundred() {
	moved 400
}

# failed EVENT: there, at that event. The server goes on here, and the clients see nothing of it.
failed() {
	connected 40
	hook "$1" "exit 1"
	move --move-address "$ADDRESS/24@eth" -- --tcp-established
	[ "$RC" = 1 ] || die "ended with $RC: $(tail -n 3 "$T/err" | tr '\n' ' ')"
	clients_are_right
	[ -z "$(pids_there)" ] || die "something is there"
	has_address || die "the address is not here"
	! has_address on_host || die "the address is there"
	nothing_is_locked
	nothing_is_locked on_host
}

not_restored() {
	failed restore
}

not_run() {
	failed run
}

wrong_addresses() {
	local wrong

	for wrong in 10.0.0.1 10.0.0.1/33@eth 10.0.0/8@eth 10.0.0.1/24@ '10.0.0.1/24@eth;id' ::1/128@eth; do
		"$WPTRACK" migrate --to a:b --move-address "$wrong" $$ >"$T/out" 2>&1
		[ $? = 2 ] || die "$wrong is taken"
		grep -q "takes an IPv4 address" "$T/out" || die "$wrong: $(cat "$T/out")"
	done
}

run_test a_connection_and_its_address_move_to_another_host one
run_test forty_connections_move forty
run_test four_hundred_connections_move four_hundred
run_test connections_stay_when_they_are_not_restored not_restored
run_test connections_stay_when_the_program_does_not_run not_run
run_test what_is_no_address_is_refused wrong_addresses
finish
