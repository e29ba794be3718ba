#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Processes whose memory may be written to without anybody seeing it.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

one_step() {
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
}

# A write that was under way when the round was collected may end at any time
# later: a round on top of it is full, even if there is no ring any more.
aio_ring() {
	start_tracked aioring 1
	pre_dump
	assert_full "there is no parent"
	one_step
	pre_dump
	assert_full "there is an AIO ring"
	one_step
	pre_dump
	assert_full "there was an AIO ring at the round before"
	one_step
	pre_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "nothing is left to the parent without a ring"
	one_step
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "nothing is left to the parent without a ring"
	restore
	ctl verify || die "wrong after the restore"
	quit_program
}

run_test rounds_during_and_after_asynchronous_io_are_full aio_ring
finish
