#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Rounds that cannot be trusted as parents: what comes next is whole, and right.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# two_rounds: a program with two rounds behind it, the second incremental.
two_rounds() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 300
	pre_dump
	assert_incremental
	write_pages 300
}

# right_to_the_end: the chain goes on incrementally from here, and ends well.
right_to_the_end() {
	verify_program "before the last dump"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

older_parent() {
	two_rounds
	pre_dump --prev-images-dir ../1
	assert_full "its parent is not the round before"
	right_to_the_end
}

# The dump itself against an older round, restored from just that.
final_with_older_parent() {
	two_rounds
	final_dump --prev-images-dir ../1
	assert_full "its parent is not the round before"
	restore_and_verify
	quit_program
}

no_parent_given() {
	two_rounds
	new_round
	epoch_next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem || die "pre-dump failed"
	epoch_next
	assert_full "it has no parent"
	right_to_the_end
}

parent_record_removed() {
	two_rounds
	rm "$DIR/wptrack.img" || die "the round left no session record"
	pre_dump
	assert_full "its parent has no session record"
	right_to_the_end
}

parent_record_damaged() {
	two_rounds
	truncate -s -3 "$DIR/wptrack.img" || die "the round left no session record"
	pre_dump
	assert_full "its parent's session record is damaged"
	right_to_the_end
}

# round_that_fails: a round into a file system that is too small for it.
round_that_fails() {
	new_round
	mount -t tmpfs -o size=512k wptrack-test "$DIR" || skip "cannot mount a tmpfs"
	echo "$DIR" >>"$T/mounts"
	epoch_next
	if criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}"; then
		die "a pre-dump without room for it says it has succeeded"
	fi
	epoch_next
	umount "$DIR" || die "umount"
	rm "$T/mounts"
}

no_room() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 600
	round_that_fails
	verify_program "after the round that failed"
	pre_dump --prev-images-dir ../1
	assert_full "the round before failed"
	right_to_the_end
}

# block_round: start a pre-dump that stands still while it writes its pages,
# the program running again. Sets BLOCKED, the job that runs it.
block_round() {
	new_round
	mkfifo "$DIR/pages-1.img" || die "mkfifo"
	# A reader that does not read.
	exec 9<>"$DIR/pages-1.img"
	epoch_next
	"$CRIU" pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" -L "$PLUGINS" -v4 -o pre-dump.log \
		</dev/null >/dev/null 2>&1 9>&- &
	BLOCKED=$!
	wait_for 20 grep -qs 'Pre-dumping tasks. memory' "$DIR/pre-dump.log" || die "the pre-dump does not get to its pages"
	write_pages 300
	[ -e "/proc/$BLOCKED" ] || die "the pre-dump does not stand still"
}

unblock_round() {
	kill -9 "$BLOCKED" || die "the pre-dump has ended"
	wait "$BLOCKED" 2>/dev/null
	exec 9>&-
	epoch_next
}

killed_criu() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 300
	block_round
	unblock_round
	verify_program "after criu was killed"
	pre_dump --prev-images-dir ../1
	assert_full "the round before was killed"
	right_to_the_end
}

two_at_once() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 300
	block_round
	pre_dump --prev-images-dir ../1
	assert_full "another criu is in the middle of a round"
	unblock_round
	verify_program "after two pre-dumps at once"
	final_dump
	restore_and_verify
	quit_program
}

# The round that was killed left half of its images; nothing may need them.
killed_round_as_parent() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 300
	block_round
	unblock_round
	final_dump
	assert_full "its parent was killed half-way"
	restore_and_verify
	quit_program
}

killed_keeper() {
	local pid

	two_rounds
	pid=$(keeper_pid)
	[ -n "$pid" ] || die "no keeper runs"
	kill -9 "$pid" || die "cannot kill the keeper"
	wait_for 5 is_gone "$pid" || die "the keeper does not go"
	verify_program "after the keeper was killed"
	write_pages 300
	pre_dump
	assert_full "the keeper was killed"
	right_to_the_end
}

released() {
	two_rounds
	"$WPTRACK" release "$PID" >/dev/null || die "wptrack release failed"
	wait_for 10 keeper_is_gone || die "the keeper stays though nothing is tracked"
	write_pages 300
	pre_dump
	assert_full "the program was released"
	right_to_the_end
}

released_all() {
	two_rounds
	"$WPTRACK" release --all >/dev/null || die "wptrack release --all failed"
	write_pages 300
	final_dump
	assert_full "the program was released"
	restore_and_verify
	quit_program
}

# The images of a program that had the same pid are no parent for the next one.
other_process() {
	two_rounds
	quit_program
	rm "$CTL"
	start_tracked_again
	pre_dump
	assert_full "its parent is another process's"
	right_to_the_end
}

# start_tracked_again: another program, on top of the rounds there are.
start_tracked_again() {
	local rounds=$ROUND

	start_tracked pagekeeper 1 --mib 32
	ROUND=$rounds
}

run_test an_older_parent_makes_a_pre_dump_full older_parent
run_test an_older_parent_makes_the_dump_full final_with_older_parent
run_test a_round_without_a_parent_is_full no_parent_given
run_test a_parent_without_a_record_makes_a_round_full parent_record_removed
run_test a_damaged_record_makes_a_round_full parent_record_damaged
run_test a_pre_dump_without_room_fails_and_the_next_is_full no_room
run_test a_killed_criu_makes_the_next_round_full killed_criu
run_test a_round_killed_half_way_is_not_needed_as_parent killed_round_as_parent
run_test two_criu_at_once_lose_nothing two_at_once
run_test a_killed_keeper_makes_the_next_round_full killed_keeper
run_test a_released_program_is_dumped_in_full released
run_test releasing_all_makes_the_dump_full released_all
run_test images_of_another_process_are_no_parent other_process
finish
