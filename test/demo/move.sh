#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A program that keeps writing its memory, and that a client talks to all the
# time, moves to another host by one command. Both hosts are namespaces here:
# pid, mount and network of their own.
#
#   WORKLOAD=asan|msan|tsan|plain
#                         sanitizer that the program is built with
#   MIB=256               size of the program
set -u
if [ -z "${MOVE_IN_NS:-}" ]; then
	MOVE_IN_NS=1 exec unshare --net bash "$0" "$@"
fi
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../hosts.sh
. "$(dirname "$0")/../hosts.sh"

# shellcheck source=workload.sh
. "$(dirname "$0")/workload.sh"
MIB=${MIB:-256}
RATE=$((500 / TIME_SCALE))
[ "$RATE" -ge 50 ] || RATE=50
PORT=7777
exec_under_reaper "$@"
export WPTRACK_RUN_DIR=${WPTRACK_RUN_DIR:-/run/criu-wptrack}
ip link set lo up || exit 2

at_exit() {
	local rc=$?

	if [ "$rc" != 0 ]; then
		tail -n 5 "$T/err" "$T/there/images/dump/restore.log" 2>/dev/null
		echo "demo: FAILED: $(cat "$T.why" 2>/dev/null || echo "status $rc")"
	fi
	end_sessions || echo "demo: processes are left"
	rm -rf "$T" "$T.why"
	exit "$rc"
}

main() {
	local checked lacks

	lacks=$(kernel_lacks)
	if [ -n "$lacks" ]; then
		echo "demo: there is nothing to show: $lacks"
		exit 77
	fi
	T=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-demo.XXXXXX") || exit 1
	trap at_exit EXIT
	trap 'exit 143' TERM INT
	start_host
	network
	start_tracked "$PROGRAM" 1 --mib "$MIB" --rate "$RATE" --working-set 16 --echo "$PORT"
	start_clients "$PORT" 1
	echo "demo: $PROGRAM, $MIB MiB of data, process $PID, talks with a client through $ADDRESS"
	echo "demo: wptrack migrate $PID --to host:images --move-address $ADDRESS/24@eth -- --tcp-established"
	move --move-address "$ADDRESS/24@eth" -- --tcp-established
	sed "s|$T/there/||; s/^/demo:   /" "$T/err" "$T/out"
	[ "$RC" = 0 ] || die "wptrack migrate ended with $RC"
	wait_for 10 session_is_gone "$PID" || die "it is still here"
	[ -n "$(pids_there)" ] || die "it is not there"
	checked=$(ctl verify 60) || die "there: $checked"
	echo "demo: it runs there, and not here: $checked"
	clients_are_right
	echo "demo: the client's connection went on: $(tail -n 1 "$T/clients.log")"
	ctl quit || die "control file"
	echo "demo: OK: $PROGRAM ($MIB MiB) has moved, every page and every byte right"
}

main
