#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack migrate --to: to another host, which is pid, mount and network namespaces here.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../hosts.sh
. "$(dirname "$0")/../hosts.sh"
# shellcheck source=../moves.sh
. "$(dirname "$0")/../moves.sh"
exec_under_reaper "$@"

# ---------------------------------------------------------------- behaviours

moves() {
	VERIFY=1
	begin "$@"
	echo "verbosity 4" >"$T/there.conf"
	hook none :
	move
	ends_with 0
	says "moved to host:$T/there/images: away for"
	[ "$(tr '\n' ' ' <"$T/events")" = "stopped restore run gone " ] || die "the hook heard $(tr '\n' ' ' <"$T/events")"
	[ "$(cd "$T/there/images" && echo *)" = "1 dump held running" ] || die "there is $(cd "$T/there/images" && echo *)"
	grep -q 'mappings are in memory' "$T/there/images/dump/restore.log" ||
		die "nothing was in memory: $(grep -i -e memory -e pre-restore "$T/err" "$T/there/images/dump/restore.log" | head -n 5)"
	is_there
}

one_process() {
	moves 1
}

a_tree() {
	moves 3 --children 2 --threads 2
}

a_stopped_program() {
	begin 1
	stop_program
	move
	ends_with 0
	wait_for 10 session_is_gone "$PID" || die "it is still here"
	wait_for 10 every_thread T "$(program_there)" || die "it is not stopped there"
	kill -CONT "$(program_there)"
	is_there
}

verdict() {
	begin 1
	move --json
	ends_with 0
	/usr/bin/python3 - "$T/out" <<-'E' || die "the verdict is $(tail -n 1 "$T/out")"
		import json, sys
		verdict = json.loads(open(sys.argv[1]).readlines()[-1])
		assert verdict["verdict"] == "moved", verdict
		assert 0 < verdict["away_at_destination_us"] < verdict["away_us"], verdict
		assert 0 < verdict["restored_us"] < verdict["away_us"], verdict
		assert 0 < verdict["sent_us"] < verdict["away_us"], verdict
	E
	is_there
}

# refused WHAT [OPTION...]: with a message, before anything is stopped or made.
refused() {
	move "${@:2}"
	ends_with 1
	says "$1"
	! grep -q ROUND "$T/err" || die "a round was made"
}

obstacles() {
	begin 1
	mkdir "$T/there/images" && touch "$T/there/images/file"
	refused "at host: $T/there/images is no empty directory here"
	rm -r "$T/there/images"
	refused "at host: there is no program $T/criu here" --remote-criu "$T/criu"
	refused "at host: $STOCK_CRIU is not the patched criu" --remote-criu "$STOCK_CRIU"
	refused "does not run: can you log in, and is it installed there" --remote-wptrack "$T/wptrack"
	refused "--rsh is no command" --rsh "'"
	refused "criu's --leave-stopped does not go with --to" -- -s
	refused "does not run: can you log in" --rsh "$T/none"
	on_host mount --bind /dev/null "$TEST_BIN/pagekeeper"
	on_host sh -c "umount '$TEST_BIN/pagekeeper'; mount --bind '$TEST_BIN/sparse' '$TEST_BIN/pagekeeper'"
	refused "at host: $TEST_BIN/pagekeeper is another file here"
	on_host umount "$TEST_BIN/pagekeeper"
	on_host sh -c "echo $((PID - 1)) >/proc/sys/kernel/ns_last_pid; sleep 60; :" &
	wait_for 10 number_is_taken || die "the number cannot be taken"
	refused "at host: the number $PID is taken by another process here (sleep)"
	pkill -P "$(pids_there | head -n 1)" -x sleep
	wait_for 10 nobody_there || die "the other process stays"
	is_here
}

number_is_taken() {
	local pid

	for pid in $(pids_there); do
		! grep -q "^NSpid:.*[[:space:]]$PID\$" "/proc/$pid/status" || [ "$(cat "/proc/$pid/comm")" != sleep ] || return 0
	done
	return 1
}

# ---- faults: at each arrow of the protocol, either side is killed, stopped for a while, or cut off. What is done at an
# event is done by the hook, before wptrack goes on.

# On the host, where the hook runs at restore and run.
KILL_RECEIVER='pkill -KILL -f "^[^ ]*wptrack receive"'
KILL_CRIU='pkill -KILL -x criu'
STOP_RECEIVER='pkill -STOP -f "^[^ ]*wptrack receive [^-]"'

# stays EVENT COMMAND [OPTION...]: done on the host at that event; the program runs on here.
stays() {
	begin 2 --children 1
	hook "$1" "$2"
	move "${@:3}"
	ends_with 1
	is_here
}

# Nobody is left to remove images there.
receiver_killed_before_the_restore() {
	MESS=1 stays restore "$KILL_RECEIVER"
}

receiver_killed_before_it_runs() {
	stays run "$KILL_RECEIVER"
}

criu_killed_before_the_restore() {
	stays restore "$KILL_CRIU"
}

criu_killed_before_it_runs() {
	stays run "$KILL_CRIU"
}

hook_fails_there() {
	stays restore "exit 1"
	says "the hook has failed before the restore"
}

hook_fails_before_it_runs() {
	stays run "exit 1"
}

hook_fails_here() {
	stays stopped "exit 1"
	says "the hook has failed when the program was stopped"
}

receiver_sleeps_too_long() {
	begin 1
	hook restore "$STOP_RECEIVER"
	move --timeout 2
	ends_with 1
	says "the destination has not restored it in time"
	on_host pkill -CONT -f "wptrack receive"
	is_here
}

receiver_sleeps_when_it_is_to_run() {
	begin 2 --children 1
	hook run "$STOP_RECEIVER"
	move
	ends_with 0
	says "has not answered: asking again"
	on_host pkill -CONT -f "wptrack receive"
	is_there
}

# cut_at EVENT
cut_at() {
	begin 2 --children 1
	wait_here "$1"
	start_move
	at_that_time cut
	the_end
}

cut_off_when_stopped() {
	cut_at stopped
	ends_with 1
	says "the connection to the destination has ended"
	is_here
}

cut_off_before_the_restore() {
	cut_at restore
	ends_with 1
	is_here
}

cut_off_before_it_runs() {
	cut_at run
	ends_with 0
	says "has not answered: asking again"
	is_there
}

cut_off_in_a_round() {
	begin 1
	start_move --downtime 1 --max-rounds 10
	wait_for 30 test -e "$T/there/images/1/inventory.img" || die "no round comes"
	cut
	the_end
	ends_with 1
	is_here
}

in_doubt_and_it_runs_there() {
	in_doubt cut_for_ever
	is_discarded
}

in_doubt_and_it_does_not_run_there() {
	in_doubt cut_for_ever_and_dead
	on_host "$WPTRACK" receive --abort "$T/there/images" >"$T/abort" || die "not given up there: $(cat "$T/abort")"
	is_resumed
	MESS=1 is_here
}

no_doubt() {
	begin 1
	[ "$(wptrack_of_doubt --resume)" = 1 ] || die "resumed"
	grep -q "no migration of process $PID is in doubt" "$T/doubt" || die "it says $(cat "$T/doubt")"
	is_here
}

# source_killed_at EVENT
source_killed_at() {
	begin 2 --children 1
	wait_here "$1"
	start_move
	at_that_time source_signal KILL
	the_end
	ends_with 137
}

source_killed_when_stopped() {
	source_killed_at stopped
	after_a_killed_source
	is_here
}

no_dump_here() {
	! pgrep -f "^$CRIU dump" >/dev/null
}

after_a_killed_source() {
	# shellcheck disable=SC2046 # numbers
	wait_for 10 runs $(session_pids "$PID") || die "it does not run here"
	# Nobody waits for it any more.
	wait_for 10 no_dump_here || die "criu does not end"
	rm -r "$T"/wptrack-migrate.*
	for pid in $(session_pids "$PID"); do
		"$WPTRACK" release "$pid" >/dev/null || die "process $pid cannot be released"
	done
}

source_killed_before_the_restore() {
	source_killed_at restore
	after_a_killed_source
	is_here
}

source_killed_when_it_is_held() {
	begin 2 --children 1
	wait_here restore
	start_move
	at_that_time source_signal STOP
	wait_for 20 test -e "$T/there/images/guard" || die "it is not held"
	source_signal KILL
	the_end
	after_a_killed_source
	is_here
}

source_killed_before_it_runs() {
	source_killed_at run
	runs_there_undecided
}

# Its processes run on here from then on.
dumping_criu_killed() {
	begin 2 --children 1
	wait_here restore
	start_move
	at_that_time pkill -KILL -f "^$CRIU dump"
	the_end
	ends_with 1
	says "criu was killed while it held the program"
	is_here
}

cancelled() {
	begin 2 --children 1
	wait_here restore
	start_move
	at_that_time source_signal INT
	the_end
	ends_with 130
	says "cancelled by Interrupt"
	is_here
}

source_sleeps() {
	begin 2 --children 1
	wait_here restore
	start_move
	at_that_time source_signal STOP
	wait_for 20 test -e "$T/there/images/guard" || die "it is not held"
	! runs "$(program_there | head -n 1)" || [ ! -e "$T/there/images/running" ] || die "it runs there"
	source_signal CONT
	the_end
	ends_with 0
	is_there
}

run_test a_process_moves_to_another_host one_process
run_test a_tree_moves_to_another_host a_tree
run_test a_stopped_program_moves_stopped a_stopped_program
run_test how_long_it_was_away_is_told_by_both_sides verdict
run_test what_is_in_the_way_there_is_said_before_the_first_round obstacles
run_test a_receiver_that_is_killed_before_the_restore_changes_nothing receiver_killed_before_the_restore
run_test a_receiver_that_is_killed_before_it_runs_changes_nothing receiver_killed_before_it_runs
run_test a_criu_that_is_killed_before_the_restore_changes_nothing criu_killed_before_the_restore
run_test a_criu_that_is_killed_before_it_runs_changes_nothing criu_killed_before_it_runs
run_test a_hook_that_fails_there_changes_nothing hook_fails_there
run_test a_hook_that_fails_before_it_runs_changes_nothing hook_fails_before_it_runs
run_test a_hook_that_fails_here_changes_nothing hook_fails_here
run_test a_receiver_that_sleeps_too_long_changes_nothing receiver_sleeps_too_long
run_test a_receiver_that_sleeps_when_it_is_to_run_is_asked_once_more receiver_sleeps_when_it_is_to_run
run_test a_connection_that_ends_in_a_round_changes_nothing cut_off_in_a_round
run_test a_connection_that_ends_when_it_is_stopped_changes_nothing cut_off_when_stopped
run_test a_connection_that_ends_before_the_restore_changes_nothing cut_off_before_the_restore
run_test a_connection_that_ends_before_it_runs_is_made_once_more cut_off_before_it_runs
run_test in_doubt_it_stays_stopped_and_is_discarded_when_it_runs_there in_doubt_and_it_runs_there
run_test in_doubt_it_stays_stopped_and_is_resumed_when_it_does_not in_doubt_and_it_does_not_run_there
run_test without_a_doubt_nothing_is_decided no_doubt
run_test a_source_that_is_killed_when_it_is_stopped_changes_nothing source_killed_when_stopped
run_test a_source_that_is_killed_before_the_restore_changes_nothing source_killed_before_the_restore
run_test a_source_that_is_killed_when_it_is_held_changes_nothing source_killed_when_it_is_held
run_test a_source_that_is_killed_before_it_runs_leaves_one_copy source_killed_before_it_runs
run_test a_dumping_criu_that_is_killed_leaves_one_copy dumping_criu_killed
run_test cancelled_it_runs_on_here cancelled
run_test a_source_that_sleeps_is_waited_for source_sleeps
finish
