#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Negative controls: a plugin with one mistake (lib/controls.h) has to turn
# the tests named for it red, and the same plugin without it leaves them green.
set -u
HERE=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${BUILD:-$(cd "$HERE/.." && pwd)/build}
export BUILD PLUGINS=$BUILD/controls

FAILED=0
LOG=$(mktemp "${TMPDIR:-/tmp}/wptrack-controls.XXXXXX")
trap 'rm -f "$LOG"' EXIT

# behave CONTROL FILE: run a test file with the mistake, none if empty; its output is in $LOG.
behave() {
	WPTRACK_CONTROL=$1 timeout -k 20 600 bash "$HERE/$2" >"$LOG" 2>&1
}

# behave_green CONTROL FILE: all of it passes with what is no mistake, such as another kernel's way.
behave_green() {
	local name=${1:-without_a_mistake}

	name=${name//-/_}_$(basename "$2" .sh)_is_green
	behave "$1" "$2"
	if grep -q '^PASS ' "$LOG" && ! grep -q '^FAIL ' "$LOG"; then
		echo "PASS $name"
	else
		echo "FAIL $name: $(grep -m 1 '^FAIL ' "$LOG")"
		FAILED=1
	fi
}

# green FILE: all of it passes.
green() {
	behave_green "" "$1"
}

# red CONTROL FILE BEHAVIOUR...: each of these fails. They are run alone, but not where one run has many.
red() {
	local control=$1 file=$2 behaviour

	shift 2
	if [ "$file" = criu/decisions.sh ]; then
		behave "$control" "$file"
	else
		ONLY="^($(IFS='|' && echo "$*"))\$" behave "$control" "$file"
	fi
	for behaviour; do
		if grep -q "^FAIL $behaviour: " "$LOG"; then
			echo "PASS ${control//-/_}_turns_${behaviour}_red"
		else
			echo "FAIL ${control//-/_}_turns_${behaviour}_red: $(grep -m 1 " $behaviour" "$LOG" || echo 'it did not run')"
			FAILED=1
		fi
	done
}

green criu/scatter.sh
red trust-walk-end criu/scatter.sh many_scattered_changes_between_splice_rounds_are_right \
	many_scattered_changes_between_read_rounds_are_right

green criu/chain.sh
red no-forget criu/chain.sh memory_unreadable_in_some_rounds_is_not_lost memory_toggled_while_dumping_is_not_lost

green criu/broken-chain.sh
red ignore-generation criu/broken-chain.sh an_older_parent_makes_a_pre_dump_full an_older_parent_makes_the_dump_full \
	a_killed_criu_makes_the_next_round_full

green criu/restore-track.sh
red no-forget criu/restore-track.sh each_page_is_as_in_the_images_when_a_restored_program_is_armed \
	each_page_of_a_tree_is_as_in_the_images_when_it_is_armed
red ignore-base criu/restore-track.sh images_that_are_replaced_after_the_restore_are_no_parent \
	a_chain_that_is_written_to_after_the_restore_is_no_parent
red ignore-generation criu/restore-track.sh two_copies_of_one_program_do_not_mix \
	another_directory_of_the_chain_is_no_parent

# The plugin alone is to blame: a scan says EPERM after it has reset what it was asked about.
export ONLY=late_EPERM_at_collect_calls_of_a_later_round
green criu/interrupted.sh
red drop-eperm criu/interrupted.sh "$ONLY"
unset ONLY

export ONLY=killed_before_old_marks_are_gone_loses_no_later_write
green criu/interrupted.sh
red trust-armed criu/interrupted.sh "$ONLY"
unset ONLY

# Each of the calls between which a running program may change.
export RACES_ALL=1
green criu/races.sh
red register-first-page criu/races.sh changes_between_two_calls_of_a_live_round_lose_nothing
red guests-stand-still criu/races.sh changes_by_a_guest_between_two_calls_of_a_splice_round_lose_nothing
unset RACES_ALL

export ONLY=of_a_guest
green criu/unseen.sh
red no-guests criu/unseen.sh an_io_uring_of_a_guest_makes_splice_rounds_full direct_io_of_a_guest_makes_live_rounds_full
unset ONLY

export ONLY=over_the_limit
green criu/limits.sh
red keep-marks criu/limits.sh over_the_limit_in_one_round_and_not_in_the_next
unset ONLY

# A kernel that does not count in VmPin what root registers with an io_uring: the defences there, and without them.
green criu/pins.sh
behave_green vmpin-uncounted criu/pins.sh
red trust-vmpin criu/pins.sh what_anothers_ring_writes_between_splice_rounds_is_not_lost \
	what_anothers_ring_writes_between_read_rounds_is_not_lost what_anothers_ring_writes_between_live_rounds_is_not_lost
red all-is-counted criu/pins.sh what_an_af_xdp_socket_writes_between_splice_rounds_is_not_lost \
	what_anothers_af_xdp_socket_writes_between_splice_rounds_is_not_lost
export ONLY=what_anothers_ring
behave_green pins-by-machine criu/pins.sh
behave_green pins-unproven criu/pins.sh
unset ONLY
red pins-unproven criu/pins.sh a_program_without_pins_has_incremental_splice_rounds \
	a_program_without_pins_has_incremental_live_rounds

green criu/decisions.sh
red no-unprotect criu/decisions.sh moved_back_between_neighbours_in_splice_rounds \
	moved_back_between_neighbours_in_read_rounds

green controls/zdtm.sh
red no-unprotect controls/zdtm.sh "pre h wptrack/moved_back_between_neighbours"

exit "$FAILED"
