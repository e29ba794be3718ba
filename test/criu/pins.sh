#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Memory that is pinned, by somebody whom nothing in /proc connects with the process.
set -u
# What comes in on the loopback is an AF_XDP socket's in some of these: a loopback of their own.
if [ "$(id -u)" = 0 ] && [ -z "${PINS_NET:-}" ]; then
	PINS_NET=own exec unshare --net bash "$0" "$@"
fi
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"
ip link set lo up || exit 1

one_step() {
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
}

assert_pinned() {
	assert_full "$1"
	grep -q 'pinned memory or asynchronous I/O' "$DIR/pre-dump.log" || die "round $ROUND: the pins were not seen"
}

assert_some_left() {
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "round $ROUND leaves nothing to its parent"
}

# machine_has_no_pins: all that was pinned on this machine has been given back.
machine_has_no_pins() {
	cat /proc/sys/vm/stat_refresh
	awk '$1 == "nr_foll_pin_acquired" { a = $2 } $1 == "nr_foll_pin_released" { r = $2 } END { exit a != r }' /proc/vmstat
}

# What the ring writes while rounds are made is seen by nobody.
written_by_a_ring() {
	start_tracked pinned 1
	pre_dump --pre-dump-mode "$MODE"
	one_step
	pre_dump --pre-dump-mode "$MODE"
	assert_pinned "somebody else's ring has its memory"
	one_step
	final_dump
	restore
	ctl verify >"$T/verified" || die "wrong after the restore: $(cat "$T/verified")"
	quit_program
}

# ends_right: the round has left pages to its parent, and what is dumped on top of it is restored as it was.
ends_right() {
	assert_some_left
	one_step
	final_dump
	restore
	ctl verify >"$T/verified" || die "wrong after the restore: $(cat "$T/verified")"
	quit_program
}

# Where the kernel tells of pins by its counts alone, others may keep it from telling.
given_up() {
	start_tracked pinned 1
	pre_dump --pre-dump-mode "$MODE"
	one_step
	one_step
	one_step
	wait_for 20 machine_has_no_pins || skip "something else on this machine is pinned"
	pre_dump --pre-dump-mode "$MODE"
	assert_full "there was a ring at the round before"
	one_step
	wait_for 20 machine_has_no_pins || skip "something else on this machine is pinned"
	pre_dump --pre-dump-mode "$MODE"
	ends_right
}

# Nothing has to be given up where there is nothing, whatever else on the machine is pinned.
never_pinned() {
	dumped_chain pagekeeper 1 "$MODE" "$MODE" --
	quit_program
}

# start_umem [OPTION]: a program of which some pages are the packet memory of an AF_XDP socket.
start_umem() {
	if ! awk '$1 == "XDP" { found = 1 } END { exit !found }' /proc/net/protocols; then
		skip "this kernel has no AF_XDP"
	fi
	start_tracked umem 1 "$@"
}

# umem_rounds [OPTION]: VmPin counts none of it, whoever registers it.
umem_rounds() {
	start_umem "$@"
	pre_dump --pre-dump-mode "$MODE"
	one_step
	pre_dump --pre-dump-mode "$MODE"
	assert_pinned "packets are written into its memory"
	one_step
	pre_dump --pre-dump-mode "$MODE"
	assert_pinned "packets are written into its memory"
	one_step
	pre_dump --pre-dump-mode "$MODE"
	assert_full "there was a socket at the round before"
	one_step
	wait_for 20 machine_has_no_pins || skip "something else on this machine is pinned"
	pre_dump --pre-dump-mode "$MODE"
	ends_right
}

umem_of_a_stranger() {
	umem_rounds --stranger
}

# Others' sockets are no reason to give up what is proven of this program.
beside_a_umem() {
	start_umem
	# Or both answer to the next one's requests.
	mv "$CTL" "$CTL.umem" || die "mv"
	dumped_chain pagekeeper 1 "$MODE" "$MODE" --
	quit_program
}

for MODE in splice read live; do
	run_test "what_an_af_xdp_socket_writes_between_${MODE}_rounds_is_not_lost" umem_rounds
	run_test "what_anothers_af_xdp_socket_writes_between_${MODE}_rounds_is_not_lost" umem_of_a_stranger
	run_test "what_anothers_ring_writes_between_${MODE}_rounds_is_not_lost" written_by_a_ring
	run_test "${MODE}_rounds_after_a_ring_has_been_given_up_are_incremental" given_up
done
for MODE in splice live; do
	run_test "a_program_without_pins_has_incremental_${MODE}_rounds" never_pinned
	run_test "a_program_beside_an_af_xdp_socket_has_incremental_${MODE}_rounds" beside_a_umem
done
finish
