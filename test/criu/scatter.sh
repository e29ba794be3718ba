#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# More changed ranges in a mapping than one scan returns.
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

run_test many_scattered_changes_between_splice_rounds_are_right scattered_splice
run_test many_scattered_changes_between_read_rounds_are_right scattered_read
finish
