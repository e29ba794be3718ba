#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Chains of pre-dumps and a dump: each round writes what was written, and the end is right.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# chain PROGRAM PROCESSES MODE... -- [OPTION...]: one pre-dump in each mode, a dump, a restore.
chain() {
	dumped_chain "$@"
	quit_program
}

splice_chain() {
	chain pagekeeper 1 splice splice splice -- --mib 64
}

read_chain() {
	chain pagekeeper 1 read read read -- --mib 64
}

sanitized_chain() {
	chain pagekeeper-asan 1 splice splice splice -- --mib 64
}

sanitized_read_chain() {
	chain pagekeeper-asan 1 read read read -- --mib 64
}

threads_chain() {
	chain pagekeeper 1 splice read splice -- --mib 64 --threads 4
}

tree_chain() {
	chain pagekeeper 4 splice splice splice -- --mib 48 --threads 2 --children 3
}

sanitized_tree_chain() {
	chain pagekeeper-asan 3 splice splice -- --mib 48 --children 2
}

# Memory that cannot be read in some rounds and is written in others.
protection_toggles() {
	local mode

	start_tracked protflip 1 "$1"
	for mode in splice read splice read; do
		pre_dump --pre-dump-mode "$mode"
		ctl step || die "the program's step failed"
		verify_program "between rounds"
	done
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "the last round left nothing to its parent"
	restore
	verify_program "after the restore"
	ctl step || die "the program's step failed"
	verify_program "after the restore and one more step"
	quit_program
}

toggle_slowly() {
	protection_toggles --idle
}

toggle_all_the_time() {
	protection_toggles --busy
}

# Snapshots of a program that goes on running, each on top of the one before.
repeated_snapshots() {
	local i

	start_tracked pagekeeper 1 --mib 64
	for i in 1 2 3; do
		dump_round --leave-running
		if [ "$i" = 1 ]; then
			assert_full "there is no parent"
		else
			assert_incremental
		fi
		write_pages 300
		verify_program "after snapshot $i"
	done
	ctl quit || die "the program does not quit"
	wait_for 10 session_is_gone "$PID" || die "the program does not go"
	restore_and_verify
	quit_program
}

# written: the kB that status says have been written.
written() {
	"$WPTRACK" status --json | tr ',{}' '\n' | awk -F: '/"written_bytes"/ { sum += $2 } END { print int(sum / 1024) }'
}

# To arm pages anew takes most of the time of a scan. When a program ends with the dump, or stays stopped, none is.
last_dump() {
	local after

	start_tracked pagekeeper 1 --mib 32 --rate 5000
	pre_dump
	write_pages 500
	dump_round --leave-stopped
	assert_incremental
	after=$(written)
	[ "$after" -ge 1000 ] || die "$after kB are reported as written after the dump: the rest has been armed anew"
	# It may go on: what has been reported is reported once more.
	kill -CONT "$PID"
	write_pages 300
	pre_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "round $ROUND left nothing to its parent"
	[ "$(stat_of "$DIR" pages_written)" -ge $((after / 4)) ] || die "round $ROUND has not written what was reported before"
	final_dump
	restore_and_verify
	quit_program
}

# A restore that needs a vDSO proxy leaves the old vvar behind as memory like any other, but not to be dumped.
proxied_vdso() {
	start_tracked pagekeeper 1 --mib 16
	final_dump
	CRIU_FAULT=127 restore
	grep -q 'generate proxy' "$DIR/restore.log" || die "the restore has made no vDSO proxy"
	write_pages 300
	pre_dump
	assert_full "the dump before has ended the tracking"
	write_pages 300
	pre_dump
	assert_incremental
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

# What the other tests rely on: one page that is wrong in the images is found. The program pauses, and still does when
# it has been restored: it would soon write the page anew.
spoilt() {
	local out

	start_tracked pagekeeper 1 --mib 16
	pre_dump
	write_pages 1000
	ctl pause || die "the program does not pause"
	final_dump
	/usr/bin/python3 "$TEST_DIR/criu/swap-page.py" "$T/2/pages-1.img" "$T/1/pages-1.img" "$1" 2>"$T/err" ||
		die "$(cat "$T/err")"
	restore
	if out=$(ctl verify); then
		die "not noticed: $out"
	fi
	[[ $out == *" $1=1 "* ]] || die "$out"
	quit_program
}

spoilt_stale() {
	spoilt stale
}

spoilt_bad() {
	spoilt bad
}

run_test a_page_of_the_round_before_is_noticed spoilt_stale
run_test a_page_with_one_wrong_byte_is_noticed spoilt_bad
run_test splice_rounds_write_what_was_written splice_chain
run_test read_rounds_write_what_was_written read_chain
run_test sanitized_splice_rounds_write_what_was_written sanitized_chain
run_test sanitized_read_rounds_write_what_was_written sanitized_read_chain
run_test threads_are_tracked threads_chain
run_test every_process_of_a_tree_is_tracked tree_chain
run_test every_process_of_a_sanitized_tree_is_tracked sanitized_tree_chain
run_test memory_unreadable_in_some_rounds_is_not_lost toggle_slowly
run_test memory_toggled_while_dumping_is_not_lost toggle_all_the_time
run_test a_program_with_a_vdso_proxy_is_tracked proxied_vdso
run_test snapshots_of_a_running_program_are_incremental repeated_snapshots
run_test a_dump_that_ends_the_program_arms_nothing last_dump
finish
