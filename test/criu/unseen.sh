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

# uring_rounds HOW: what an io_uring was told to do may be under way when it has been closed already, so what the
# round after that has collected is no sure base, either.
uring_rounds() {
	start_tracked aioring 1 "$1"
	pre_dump
	assert_full "there is no parent"
	one_step
	pre_dump
	assert_full "there is an io_uring"
	grep -q 'pinned memory or asynchronous I/O' "$DIR/pre-dump.log" || die "the io_uring was not seen"
	one_step
	pre_dump
	assert_full "there was an io_uring at the round before"
	one_step
	pre_dump
	assert_full "its requests may have been under way at the round before"
	one_step
	pre_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "nothing is left to the parent without an io_uring"
}

io_uring() {
	uring_rounds --uring
	one_step
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "nothing is left to the parent without an io_uring"
	restore
	ctl verify || die "wrong after the restore"
	quit_program
}

# No dump: CRIU has one set of descriptors for all threads.
io_uring_of_a_thread() {
	uring_rounds --thread
	quit_program
}

# guest_rounds MODE KIND FULL: a process outside of the tree is in the memory of the program, and so many rounds after
# the first are full because of what it has open. All are right.
guest_rounds() {
	local i full=$3

	start_tracked aioring 1 "$2"
	pre_dump --pre-dump-mode "$1"
	for ((i = 2; i <= 5; i++)); do
		one_step
		pre_dump --pre-dump-mode "$1"
		if [ "$full" -gt 0 ]; then
			assert_full "of what its guest has, or had"
			full=$((full - 1))
		else
			[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "round $i leaves nothing to its parent"
		fi
	done
	one_step
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 900 ] || die "the dump leaves nothing to its parent"
	restore
	ctl verify || die "wrong after the restore"
	quit_program
}

guest_alone() {
	guest_rounds "$MODE" --guest 0
	grep -q 'another process is in its memory' "$T/2/pre-dump.log" || die "the guest was not seen"
}

# The last round with the guest is no base, and an io_uring's requests may go on into the round after.
uring_of_a_guest() {
	guest_rounds "$MODE" --guest-uring 3
}

direct_io_of_a_guest() {
	guest_rounds "$MODE" --guest-direct 2
}

uffd_of_a_guest() {
	guest_rounds "$MODE" --guest-uffd 2
}

for MODE in splice live; do
	run_test "a_guest_that_only_runs_is_no_reason_for_full_${MODE}_rounds" guest_alone
	run_test "an_io_uring_of_a_guest_makes_${MODE}_rounds_full" uring_of_a_guest
	run_test "direct_io_of_a_guest_makes_${MODE}_rounds_full" direct_io_of_a_guest
	run_test "a_userfaultfd_of_a_guest_makes_${MODE}_rounds_full" uffd_of_a_guest
done
run_test rounds_during_an_io_uring_and_two_after_are_full io_uring
run_test an_io_uring_that_only_a_thread_has_open_is_seen io_uring_of_a_thread
run_test rounds_during_and_after_asynchronous_io_are_full aio_ring
finish
