#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Address spaces and process trees that change between rounds.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Pages of each process that nobody writes after the start (region "steady").
STEADY=512

# one_step PROCESSES: let the program change shape; it must be sane before it is dumped.
one_step() {
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
	ctl ready "$1" || die "a process is missing after a step: $(tail -n 3 "$T/program.log")"
	PROCESSES=$1
	check_shapes "after a step, before a dump"
}

# check_shapes WHEN: all memory of all processes is right.
check_shapes() {
	local out

	out=$(ctl verify) || die "$1: $out $(tail -n 3 "$T/program.log" | tr '\n' ' ')"
}

# assert_steady PROCESSES: what nobody wrote was left to the parent.
assert_steady() {
	local skipped

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	[ "$skipped" -ge $(($1 * STEADY)) ] ||
		die "round $ROUND left $skipped pages to its parent, $1 processes have $STEADY steady ones each"
}

# shapes MODE [PROGRAM]: six rounds of steps. A child is forked in step 1, another
# executes in step 2, the first of them exits in step 3.
shapes() {
	local mode=$1 processes tracked i=0

	start_tracked "${2:-shapes}" 2
	pre_dump --pre-dump-mode "$mode"
	assert_full "there is no parent"
	for processes in 3 3 2 2 2; do
		i=$((i + 1))
		one_step "$processes"
		pre_dump --pre-dump-mode "$mode"
		case $i in
		# Forked, or executed, since the round before: not tracked yet.
		1 | 2) tracked=2 ;;
		*) tracked=$processes ;;
		esac
		assert_steady "$tracked"
	done
	one_step 2
	final_dump
	assert_steady 2
	restore
	check_shapes "after the restore"
	one_step 2
	quit_program
}

splice_shapes() {
	shapes splice
}

read_shapes() {
	shapes read
}

live_shapes() {
	shapes live
}

sanitized_shapes() {
	shapes splice shapes-asan
}

# The whole tree again with steps between a dump and the next that are not pre-dumps.
snapshot_shapes() {
	local processes

	start_tracked shapes 2
	for processes in 3 3 2; do
		dump_round --leave-running
		one_step "$processes"
	done
	final_dump
	assert_steady 2
	restore
	check_shapes "after the restore"
	quit_program
}

run_test shapes_that_change_between_splice_rounds_are_right splice_shapes
run_test shapes_that_change_between_read_rounds_are_right read_shapes
run_test shapes_that_change_between_live_rounds_are_right live_shapes
run_test sanitized_shapes_that_change_between_rounds_are_right sanitized_shapes
run_test shapes_that_change_between_snapshots_are_right snapshot_shapes
finish
