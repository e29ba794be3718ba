#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a live round concludes from one call and uses at another holds although the program has changed in between.
# criu is stopped before a call about the program (test/faults/inject.c counts them) until the program has done to
# its mappings and children all that it can. RACES_ALL=1 goes through all calls, else it is every so many.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

STRIDE=${STRIDE:-23}
[ -z "${RACES_ALL:-}" ] || STRIDE=1

change() {
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
}

# nothing_stale POINT: a dump upon the last round finds nothing that the images have otherwise, and leaves something to them.
nothing_stale() {
	new_round
	CRIU_VERIFY_PARENT=1 criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem --leave-running "${PREV[@]}" ||
		die "$1: the dump failed: $(log_errors "$DIR/dump.log")"
	if grep -q 'verify:.*not what the parent' "$DIR/dump.log"; then
		die "$1: $(grep -m 1 'verify:.*not what' "$DIR/dump.log")"
	fi
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "$1: the dump left nothing to its parent"
}

# changes_at_each_call: the program changes back while a round is stopped before a call, and away again in another one.
# What is lost shows in the dump after it.
changes_at_each_call() {
	local n points=0 more=yes way

	start_tracked changer 1
	for ((n = 1; ; n += STRIDE)); do
		rm -rf "$T"/[0-9]*
		ROUND=0 EPOCH=1
		pre_dump --pre-dump-mode live
		change
		# All that is there now is registered and armed.
		pre_dump --pre-dump-mode live
		for way in back away; do
			paused_round "$n" change || more=""
			[ -n "$more" ] || break 2
			points=$((points + 1))
			nothing_stale "call $n$(paused_at), $way"
			verify_program "call $n$(paused_at), $way"
		done
		change
		if [ $((n / STRIDE % 16)) = 0 ]; then
			final_dump
			restore
			verify_program "call $n, after the restore"
		fi
	done
	[ "$points" -ge 8 ] || die "only $points points were hit"
	echo "races: stopped before $points calls" >&2
	quit_program
}

# A round stops the program, but not a guest in its memory that is outside of the tree.
guest_at_each_call() {
	local n points=0 more=yes way MODE=splice

	start_tracked changer 1 --guest
	for ((n = 1; ; n += STRIDE)); do
		rm -rf "$T"/[0-9]*
		ROUND=0 EPOCH=1
		pre_dump
		change
		pre_dump
		for way in back away; do
			paused_round "$n" change || more=""
			[ -n "$more" ] || break 2
			points=$((points + 1))
			nothing_stale "call $n$(paused_at), $way"
		done
		change
	done
	verify_program "in the end"
	[ "$points" -ge 8 ] || die "only $points points were hit"
	echo "races: stopped before $points calls" >&2
	quit_program
}

# The number of a child that has ended is somebody else's by the time that it is looked at.
become_a_stranger() {
	change
	rm -f "$T/stranger"
	# Its input ends with ours.
	exec {STRANGER_IN}<> <(:)
	"$TEST_BIN/stranger" "$CHILD" <&"$STRANGER_IN" >"$T/stranger" 2>&1 &
	STRANGER=$!
	wait_for 10 grep -q . "$T/stranger" || die "nobody takes the number"
	# A child that is stopped by criu just now keeps its number.
	grep -q there "$T/stranger" && TAKEN=$((TAKEN + 1))
}

strangers_at_each_call() {
	local n more

	TAKEN=0
	start_tracked changer 1
	for ((n = ${RACES_FROM:-1}; ; n += STRIDE)); do
		more=""
		rm -rf "$T"/[0-9]*
		ROUND=0 EPOCH=1
		change
		CHILD=$(cat "/proc/$PID/task/$PID/children")
		CHILD=${CHILD% }
		[ -n "$CHILD" ] || die "there is no child"
		paused_round "$n" become_a_stranger && more=yes || change
		[ -n "$more" ] || break
		"$WPTRACK" status --json >"$T/status" 2>&1
		! grep -q '"stranger"' "$T/status" || die "call $n$(paused_at): the stranger is tracked"
		[ "$(stat_of "$DIR" pages_written)" -lt 4000 ] || die "call $n$(paused_at): the stranger was copied"
		! grep -q there "$T/stranger" || kill "$CHILD" || die "call $n$(paused_at): the stranger has ended"
		exec {STRANGER_IN}>&-
		wait "$STRANGER"
	done
	[ "$TAKEN" -ge 3 ] || die "only $TAKEN times did a number change hands"
	echo "races: a number changed hands before $TAKEN calls" >&2
	quit_program
}

# A child that the last round knew ends, and is waited for: what is known of the others goes on to be.
ends_at_each_call() {
	local n more points=0

	start_tracked changer 1
	for ((n = 1; ; n += STRIDE)); do
		rm -rf "$T"/[0-9]*
		ROUND=0 EPOCH=1
		change
		pre_dump --pre-dump-mode live
		paused_round "$n" change && more=yes || { more=""; change; }
		[ -n "$more" ] || break
		points=$((points + 1))
		nothing_stale "call $n$(paused_at)"
	done
	verify_program "in the end"
	[ "$points" -ge 8 ] || die "only $points points were hit"
	quit_program
}

# It is not there when the task is attached, and may have registered something by the end of the round.
userfaultfd_of_its_own() {
	start_tracked changer 1 --userfaultfd
	pre_dump --pre-dump-mode live
	CLASS=mem paused_round 1 change || die "nothing was copied"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "the round in between is full"
	pre_dump --pre-dump-mode live
	assert_full "there may be another userfaultfd"
	change
	pre_dump --pre-dump-mode live
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "tracking does not go on"
	nothing_stale "in the end"
	verify_program "in the end"
	quit_program
}

run_test a_userfaultfd_that_appears_in_a_live_round_makes_the_next_one_full userfaultfd_of_its_own
run_test changes_between_two_calls_of_a_live_round_lose_nothing changes_at_each_call
run_test changes_by_a_guest_between_two_calls_of_a_splice_round_lose_nothing guest_at_each_call
run_test a_number_that_changes_hands_in_a_live_round_brings_in_no_stranger strangers_at_each_call
run_test an_end_at_any_call_of_a_live_round_leaves_the_others_their_parent ends_at_each_call
finish
