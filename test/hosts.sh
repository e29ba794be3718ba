# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Another host, and wptrack migrate --to it. Sourced after lib.sh.
#
# A host is namespaces of its own: pid, mount and network. Files are the same ones; the remote shell is a script that
# enters the namespaces, and two processes that all bytes pass, which can be stopped or killed.

# start_host: sets HOST, the first process there.
start_host() {
	local program=${PID:-}

	start_program unshare --pid --fork --kill-child --mount --mount-proc --net "$TEST_BIN/reaper" sleep infinity
	UNSHARE=$PID
	wait_for 10 has_child "$UNSHARE" || die "the host does not start"
	HOST=$(pgrep -P "$UNSHARE")
	wait_for 10 on_host test -e /proc/self || die "the host has no /proc"
	wait_for 10 has_child "$HOST" || die "the host does not start"
	SLEEP=$(pgrep -P "$HOST")
	on_host ip link set lo up
	PID=$program
	cat >"$T/rsh" <<-E
		#!/bin/sh
		# As ssh: a host, and a command for a shell there.
		[ ! -e "$T/cut" ] || exit 255
		shift
		export PATH=$T/bin:\$PATH CRIU_CONFIG_FILE=$T/there.conf ${VERIFY:+CRIU_VERIFY_PRE_RESTORE=1}
		"$T/wire" | nsenter --target $HOST --pid --mount --net /bin/sh -c "\$*" | "$T/wire"
	E
	chmod 755 "$T/rsh"
	# All that comes and goes passes these two.
	ln -s "$(command -v cat)" "$T/wire"
	# What the restore is given besides.
	: >"$T/there.conf"
	# Programs that are in the way of others there.
	mkdir -p "$T/bin"
	mkdir "$T/there"
}

has_child() {
	pgrep -P "$1" >/dev/null
}

on_host() {
	nsenter --target "$HOST" --pid --mount --net "$@"
}

# pids_there: the processes of the host, as they are seen from here.
pids_there() {
	local ns pid

	ns=$(readlink "/proc/$HOST/ns/pid")
	for pid in /proc/[0-9]*; do
		pid=${pid#/proc/}
		[ "$pid" = "$HOST" ] || [ "$pid" = "$SLEEP" ] || [ "$(readlink "/proc/$pid/ns/pid" 2>/dev/null)" != "$ns" ] || echo "$pid"
	done
}

# hook EVENT COMMAND: to be run at that event.
hook() {
	[ -e "$T/hook" ] || printf '#!/bin/bash\necho "$%s" >>"%s/events"\n' WPTRACK_EVENT "$T" >"$T/hook"
	echo "[ \"\$WPTRACK_EVENT\" != $1 ] || { $2; }" >>"$T/hook"
	chmod 755 "$T/hook"
}

# start_move [OPTION...] [-- CRIU_OPTION...]: sets MOVE, the process, and RUNNER, who waits for it.
start_move() {
	local own=()

	while [ $# != 0 ] && [ "$1" != -- ]; do
		own+=("$1")
		shift
	done
	shift $(($# ? 1 : 0))
	[ ! -e "$T/hook" ] || own+=(--hook "$T/hook")
	TMPDIR=$T timeout -k 5 "$CRIU_TIMEOUT" "$WPTRACK" migrate --criu "$CRIU" --remote-criu "$CRIU" --remote-wptrack "$WPTRACK" \
		--rsh "$T/rsh" --to "host:$T/there/images" --downtime 5000 "${own[@]}" "$PID" -- -L "$PLUGINS" -v4 "$@" \
		</dev/null >"$T/out" 2>"$T/err" &
	RUNNER=$!
}

# move [OPTION...]: the same, to its end. Sets RC.
move() {
	start_move "$@"
	wait "$RUNNER"
	RC=$?
}

# wait_here EVENT: at that event, the hook waits for done.
wait_here() {
	hook "$1" "touch $T/now; while [ ! -e $T/done ]; do sleep 0.02; done"
}

# at_that_time COMMAND...: once the hook waits.
at_that_time() {
	wait_for 30 test -e "$T/now" || die "the event does not come: $(tail -n 3 "$T/err")"
	"$@"
	touch "$T/done"
}

the_end() {
	wait "$RUNNER"
	RC=$?
}

# ---------------------------------------------------------------- the network

# A program's addresses, that lead from outside to the host where it is. "outside" is a third network namespace, in which a
# bridge joins the hosts. Here, the network namespace is to be one of our own.
ADDRESS=10.77.0.1
ADDRESS6=fd00:77::1

outside() {
	nsenter --target "$OUTSIDE" --net "$@"
}

# network: what joins the hosts. The other one is there.
network() {
	local program=${PID:-}

	start_program unshare --net sleep infinity
	OUTSIDE=$PID
	PID=$program
	wait_for 10 is_elsewhere "$OUTSIDE" || die "there is no outside"
	ip link delete eth 2>/dev/null
	make_bridge
	join $$ port1
	join "$HOST" port2
	# Its asking for others does not tell them where it is.
	on_host ip neighbour replace 10.77.0.254 lladdr "$(mac_outside)" dev eth nud permanent
	ip address add "$ADDRESS/24" dev eth
	[ -e /proc/sys/net/ipv6 ] || return 0
	on_host ip neighbour replace fd00:77::fe lladdr "$(mac_outside)" dev eth nud permanent
	ip address add "$ADDRESS6/64" dev eth nodad
}

make_bridge() {
	outside ip link set lo up
	outside ip link add bridge type bridge
	outside ip address add 10.77.0.254/24 dev bridge
	outside ip link set bridge up
	# Who has an address is believed until it is told otherwise.
	outside sh -c 'for file in /proc/sys/net/ipv*/neigh/bridge/base_reachable_time_ms; do echo 10000000 >"$file"; done'
	[ ! -e /proc/sys/net/ipv6 ] || outside ip address add fd00:77::fe/64 dev bridge nodad
}

mac_outside() {
	outside ip -o link show dev bridge | sed 's|.*link/ether \([^ ]*\).*|\1|'
}

is_elsewhere() {
	[ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}

# join PID PORT: the network of that process gets a device eth.
join() {
	outside ip link add name "$2" type veth peer name eth netns "$1" || die "no link to $1"
	outside ip link set "$2" master bridge
	outside ip link set "$2" up
	nsenter --target "$1" --net ip link set eth up
}

# start_clients PORT NUMBER [ADDRESS,...]: outside, connected. Sets CLIENTS.
start_clients() {
	outside /usr/bin/python3 "$TEST_DIR/criu/stream-clients.py" "${3:-$ADDRESS}" "$1" "$2" "$T/stop" >"$T/clients.log" 2>&1 &
	CLIENTS=$!
	wait_for 20 grep -qs ready "$T/clients.log" || die "no clients: $(tail -n 2 "$T/clients.log")"
}

clients_go_on() {
	local got

	got=$(tail -n 1 "$T/clients.log")
	wait_for 20 other_count "$got" || die "the clients do not go on: $(tail -n 1 "$T/clients.log")"
}

other_count() {
	[ "$(tail -n 1 "$T/clients.log")" != "$1" ]
}

clients_are_right() {
	clients_go_on
	clients_go_on
	touch "$T/stop"
	wait "$CLIENTS" || die "the clients failed: $(tail -n 1 "$T/clients.log")"
}
