#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# More changed ranges in a mapping than one scan returns, and more mappings than one scan of them takes.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Every second page of scatter's 32768.
CHANGED=16384

# assert_half: the round wrote the pages that a step does, and left the others.
assert_half() {
	local skipped written

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	written=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	[ "$written" -ge "$CHANGED" ] || die "round $ROUND wrote $written pages of $CHANGED changed ones"
	[ "$written" -le $((CHANGED + 256)) ] || die "round $ROUND wrote $written pages, $CHANGED have changed"
	[ "$skipped" -ge $((CHANGED - 256)) ] || die "round $ROUND left $skipped pages to its parent"
}

scattered() {
	start_tracked scatter 1
	pre_dump --pre-dump-mode "$1"
	ctl step || die "a step failed"
	pre_dump --pre-dump-mode "$1"
	assert_half
	ctl step || die "a step failed"
	final_dump
	assert_half
	restore
	verify_program "after the restore"
	quit_program
}

scattered_splice() {
	scattered splice
}

scattered_read() {
	scattered read
}

# assert_few FROM TO: so many of the 16384 pages of runs are written.
assert_few() {
	local skipped written

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	written=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	[ "$written" -ge "$1" ] && [ "$written" -le "$2" ] || die "round $ROUND wrote $written pages"
	[ "$skipped" -ge 7000 ] || die "round $ROUND left $skipped pages to its parent"
}

# small_mappings MODE...: rounds of these modes, in which thousands of mappings change.
small_mappings() {
	local mode nr=0

	start_tracked runs 1
	pre_dump --pre-dump-mode "$1"
	for mode; do
		ctl step || die "a step failed"
		pre_dump --pre-dump-mode "$mode"
		nr=$((nr + 1))
		if [ "$nr" = 3 ]; then
			assert_few 8000 9200
		else
			assert_few 40 1200
		fi
		verify_program "after a $mode round"
	done
	ctl step || die "a step failed"
	final_dump
	assert_few 40 1200
	restore
	verify_program "after the restore"
	quit_program
}

small_mappings_splice() {
	small_mappings splice splice splice
}

small_mappings_read() {
	small_mappings read read read
}

small_mappings_mixed() {
	small_mappings live splice live read
}

run_test many_scattered_changes_between_splice_rounds_are_right scattered_splice
run_test many_scattered_changes_between_read_rounds_are_right scattered_read
run_test thousands_of_small_mappings_between_splice_rounds_are_right small_mappings_splice
run_test thousands_of_small_mappings_between_read_rounds_are_right small_mappings_read
run_test thousands_of_small_mappings_between_mixed_rounds_are_right small_mappings_mixed
finish
