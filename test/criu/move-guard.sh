#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack migrate --to, of which the guard is killed: criu has started it to hold the program, and it has told that to stop
# by a signal. One copy is left, and it can be decided which one.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../hosts.sh
. "$(dirname "$0")/../hosts.sh"
# shellcheck source=../moves.sh
. "$(dirname "$0")/../moves.sh"
exec_under_reaper "$@"

guard_killed_and_it_runs_there() {
	begin 2 --children 1
	wait_here run
	start_move
	at_that_time kill_guard
	the_end
	ends_with 0
	is_there
}

kill_guard_and_receiver() {
	on_host pkill -KILL -f "wptrack receive"
	kill_guard
}

guard_killed_and_it_does_not_run_there() {
	begin 2 --children 1
	wait_here run
	start_move
	at_that_time kill_guard_and_receiver
	the_end
	ends_with 1
	is_here
}

cut_for_ever_and_no_guard() {
	cut_for_ever
	kill_guard
}

cut_for_ever_and_dead_and_no_guard() {
	cut_for_ever_and_dead
	kill_guard
}

guard_killed_in_doubt_and_it_runs_there() {
	in_doubt cut_for_ever_and_no_guard
	is_discarded
}

guard_killed_in_doubt_and_it_does_not_run_there() {
	in_doubt cut_for_ever_and_dead_and_no_guard
	move
	ends_with 1
	says "is under way, or in doubt"
	on_host "$WPTRACK" receive --abort "$T/there/images" >"$T/abort" || die "not given up there: $(cat "$T/abort")"
	# One that runs is none to be discarded.
	kill -CONT "$PID"
	[ "$(wptrack_of_doubt --discard)" = 1 ] || die "discarded, though it runs here"
	grep -q "process $PID runs here" "$T/doubt" || die "it says $(cat "$T/doubt")"
	is_resumed
	MESS=1 is_here
}

kill_source_and_guard() {
	source_signal KILL
	kill_guard
}

source_and_guard_killed() {
	begin 2 --children 1
	wait_here run
	start_move
	at_that_time kill_source_and_guard
	the_end
	ends_with 137
	runs_there_undecided
}

# There, it has not said yet that the program runs.
guard_killed_there() {
	begin 2 --children 1
	hook run 'pkill -KILL -P "$(pgrep -o -x criu)" -x wptrack'
	move
	ends_with 1
	is_here
}

# faulty_guard PLAN: what is to happen to it. Sets FAULTY, options of the move.
faulty_guard() {
	cat >"$T/faulty-criu" <<-E
		#!/bin/sh
		export LD_PRELOAD=$TEST_BIN/inject.so INJECT=$1 INJECT_COMM=wptrack INJECT_HIT=$T/hit INJECT_GO=$T/go
		exec "$CRIU" "\$@"
	E
	chmod 755 "$T/faulty-criu"
	FAULTY=(--criu "$T/faulty-criu")
}

# guard_killed_at PLAN: before it has said that it is sure.
guard_killed_at() {
	begin 2 --children 1
	faulty_guard "$1:kill"
	move "${FAULTY[@]}"
	[ -s "$T/hit" ] || die "nothing was injected"
	ends_with 1
	is_here
}

guard_killed_before_it_stops_the_first() {
	guard_killed_at signal:1
}

guard_killed_before_it_stops_the_second() {
	guard_killed_at signal:2
}

guard_killed_before_it_says_so() {
	guard_killed_at word:2
}

# half_stopped PLAN: source and guard are killed when the guard has come so far.
half_stopped() {
	begin 2 --children 1
	faulty_guard "$1:pause"
	start_move "${FAULTY[@]}"
	wait_for 30 test -s "$T/hit" || die "the guard does not come so far: $(tail -n 3 "$T/err")"
	kill_source_and_guard
	the_end
	ends_with 137
	is_resumed
	is_here
}

killed_before_the_second_is_stopped() {
	half_stopped signal:2
}

killed_before_it_is_said() {
	half_stopped word:2
}

no_record() {
	begin 1
	echo nonsense >"$WPTRACK_RUN_DIR.migrate-$PID.doubt"
	[ "$(wptrack_of_doubt --resume)" = 1 ] || die "resumed by nonsense"
	grep -q "migrate-$PID.doubt cannot be used (Bad message): remove it" "$T/doubt" || die "it says $(cat "$T/doubt")"
	rm "$WPTRACK_RUN_DIR.migrate-$PID.doubt"
	is_here
}

# Before anybody is stopped by it, there is nobody to be told of.
nothing_to_be_recorded_in() {
	begin 2 --children 1
	mkdir "$WPTRACK_RUN_DIR.migrate-$PID.doubt.new"
	move
	rmdir "$WPTRACK_RUN_DIR.migrate-$PID.doubt.new"
	ends_with 1
	says "it cannot be recorded that the program is stopped"
	is_here
}

run_test a_guard_that_is_killed_leaves_one_copy_there guard_killed_and_it_runs_there
run_test a_guard_that_is_killed_leaves_one_copy_here guard_killed_and_it_does_not_run_there
run_test in_doubt_without_a_guard_it_is_discarded_when_it_runs_there guard_killed_in_doubt_and_it_runs_there
run_test in_doubt_without_a_guard_it_is_resumed_when_it_does_not guard_killed_in_doubt_and_it_does_not_run_there
run_test a_source_and_its_guard_that_are_killed_leave_one_copy source_and_guard_killed
run_test a_guard_that_is_killed_there_changes_nothing guard_killed_there
run_test a_guard_that_is_killed_before_it_stops_the_first_changes_nothing guard_killed_before_it_stops_the_first
run_test a_guard_that_is_killed_before_it_stops_the_second_changes_nothing guard_killed_before_it_stops_the_second
run_test a_guard_that_is_killed_before_it_says_so_changes_nothing guard_killed_before_it_says_so
run_test killed_with_one_process_stopped_it_is_resumed killed_before_the_second_is_stopped
run_test killed_before_it_is_said_that_it_is_stopped_it_is_resumed killed_before_it_is_said
run_test a_stop_that_cannot_be_recorded_changes_nothing nothing_to_be_recorded_in
run_test what_is_no_record_is_refused no_record
finish
