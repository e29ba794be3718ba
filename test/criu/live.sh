#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Pre-dumps that leave the program running.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# spin_switches: how often the thread that never gives its processor up has done so, which is when it was stopped.
spin_switches() {
	local task

	for task in /proc/"$PID"/task/*; do
		if [ "$(cat "$task/comm")" = spin ]; then
			awk '/^voluntary_ctxt_switches:/ { print $2 }' "$task/status"
			return
		fi
	done
}

# watched COMMAND...: run it while all threads of the program are looked at. Sets STOPPED, TRACED, SWITCHES.
watched() {
	local watcher out before

	before=$(spin_switches)
	"$TEST_BIN/watch-stops" "$PID" >"$T/watched" &
	watcher=$!
	wait_for 10 grep -q watching "$T/watched" || die "the program is not looked at"
	"$@"
	kill "$watcher"
	wait "$watcher" || die "the program could not be looked at"
	out=$(tail -n 1 "$T/watched")
	SWITCHES=$(($(spin_switches) - before))
	# looks N stopped N traced N
	read -r _ LOOKS _ STOPPED _ TRACED <<<"$out"
	[ "$LOOKS" -gt 100 ] || die "it was hardly looked at: $out"
}

live_round() {
	pre_dump --pre-dump-mode live "$@"
}

# Seen from outside: no thread is ever stopped or traced, and the one that never sleeps goes on doing so.
nobody_is_stopped() {
	local beats i

	start_tracked pagekeeper 1 --mib 128 --threads 2 --spin
	watched live_round
	[ "$SWITCHES" -gt 0 ] || die "the first round has to stop the program, and nothing was seen of it"
	for ((i = 0; i < 5; i++)); do
		write_pages 300
		beats=$(ctl beats)
		watched live_round
		[ "$SWITCHES" = 0 ] || die "round $ROUND: a thread that never sleeps was stopped $SWITCHES times"
		[ "$STOPPED" = 0 ] && [ "$TRACED" = 0 ] || die "round $ROUND: a thread was seen stopped or traced: $(cat "$T/watched")"
		[ "$(ctl beats)" -gt "$beats" ] || die "round $ROUND: the program's heart stood still"
		assert_no_stop
		assert_incremental
	done
	# The same look at a round that does stop it.
	watched pre_dump --pre-dump-mode splice
	[ "$SWITCHES" -gt 0 ] && [ "$TRACED" -gt 0 ] || die "a stop is not seen: $SWITCHES switches, $(cat "$T/watched")"
	final_dump
	restore_and_verify
	quit_program
}

# chain PROGRAM PROCESSES MODE... -- [OPTION...]
chain() {
	dumped_chain "$@"
	# The restored program is tracked anew.
	ROUND=0 T=$T/again
	mkdir "$T" || die "mkdir"
	live_round
	assert_full "there is no parent"
	write_pages 300
	live_round
	assert_incremental
	T=${T%/again}
	quit_program
}

live_chain() {
	chain pagekeeper 1 live live live live -- --mib 64
}

mixed_chain() {
	chain pagekeeper 1 splice live read live splice read live live -- --mib 48
}

tree_chain() {
	chain pagekeeper 4 live live splice live -- --mib 48 --threads 3 --children 3
}

asan_chain() {
	chain pagekeeper-asan 3 live live read live -- --mib 48 --children 2
}

msan_chain() {
	sanitized_chain clang-msan 2
}

tsan_chain() {
	sanitized_chain clang-tsan 5
}

# sanitized_chain BUILD TIMES: with each page so many are written, as there is shadow memory of it.
sanitized_chain() {
	local own

	[ -x "$TEST_BIN/pagekeeper-$1" ] || die "pagekeeper-$1 is missing: build it first (make)"
	start_tracked "pagekeeper-$1" 1 --mib 32
	live_round
	write_pages 300
	live_round
	assert_no_stop
	own=$(($(round_bound) * $2))
	[ "$(stat_of "$DIR" pages_written)" -le "$own" ] ||
		die "round $ROUND wrote $(stat_of "$DIR" pages_written) pages, the program dirtied at most $own"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "round $ROUND left nothing to its parent"
	write_pages 300
	final_dump
	restore_and_verify
	quit_program
}

# Only the process that is new is stopped.
new_child() {
	start_tracked pagekeeper 2 --mib 32 --children 1 --spin
	live_round
	write_pages 300
	"$WPTRACK" release "$(child_of "$PID")" >/dev/null || die "wptrack release"
	watched live_round
	[ "$SWITCHES" = 0 ] && [ "$TRACED" = 0 ] || die "the parent was stopped for its child: $(cat "$T/watched")"
	[ "$(stat_of "$DIR" frozen_time)" -gt 0 ] || die "the child was not stopped, though it is new"
	write_pages 300
	live_round
	assert_no_stop
	assert_incremental
	final_dump
	restore_and_verify
	quit_program
}

child_of() {
	cat "/proc/$1/task/$1/children" | awk '{ print $1 }'
}

# Processes that are gone at each step of a round are nobody's failure.
forking() {
	local parent=()

	start_program /usr/bin/python3 -c '
import os
while True:
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        os._exit(0)
    os.waitpid(pid, 0)'
	for ((ROUND = 1; ROUND <= 30; ROUND++)); do
		mkdir "$T/$ROUND" || die "mkdir"
		criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/$ROUND" --pre-dump-mode live "${parent[@]}" ||
			die "round $ROUND: $(log_errors "$T/$ROUND/pre-dump.log")"
		[ -f "$T/$ROUND/wptrack.img" ] || die "round $ROUND is no base: $(grep Warn "$T/$ROUND/pre-dump.log" | tail -n 3)"
		parent=(--prev-images-dir "../$ROUND")
	done
	kill "$PID"
	wait_for 5 session_is_gone "$PID" || die "it does not end"
}

# A child that still is in its parent's memory would be stopped alone, and be tracked in place of the parent.
guest() {
	local child

	mkfifo "$T/fifo" || die "mkfifo"
	start_program /usr/bin/python3 -c '
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
signal.sigwait([signal.SIGUSR1])
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 9, sys.argv[1], os.O_RDONLY, 0)]), 0)
print("done", flush=True)
time.sleep(600)' "$T/fifo"
	wait_for 20 grep -q ready "$T/program.log" || die "it does not get ready"
	mkdir "$T/1" "$T/2" "$T/3"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/1" --pre-dump-mode live || die "$(log_errors "$T/1/pre-dump.log")"
	kill -USR1 "$PID"
	wait_for 5 eval 'child=$(pgrep -P "$PID")' || die "it has no child"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/2" --prev-images-dir ../1 --pre-dump-mode live ||
		die "$(log_errors "$T/2/pre-dump.log")"
	grep -q "$child is in the memory of $PID" "$T/2/pre-dump.log" || die "it was not noticed"
	[ "$(stat_of "$T/2" frozen_time)" = 0 ] || die "somebody was stopped"
	: >"$T/fifo"
	wait_for 5 grep -q "done" "$T/program.log" || die "the child does not end: $(cat "$T/program.log")"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/3" --prev-images-dir ../2 --pre-dump-mode live ||
		die "$(log_errors "$T/3/pre-dump.log")"
	[ "$(stat_of "$T/3" pages_skipped_parent)" -gt 0 ] || die "the round after is full"
	kill "$PID"
	wait_for 5 session_is_gone "$PID" || die "it does not end"
}

# A device that writes to pages while they are collected is not seen.
direct_io() {
	local log

	: >"$T/direct"
	start_tracked pagekeeper 1 --mib 32 --direct "$T/direct"
	wait_for 5 has_direct || die "the program does not open its file"
	live_round
	write_pages 300
	live_round
	log=$DIR/pre-dump.log
	grep -q 'is stopped while it is collected' "$log" || die "O_DIRECT was not noticed"
	[ "$(stat_of "$DIR" frozen_time)" -gt 0 ] || die "it was not stopped"
	assert_incremental
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

# So may a server, into the pages of who reads without O_DIRECT.
fuse() {
	mount_fuse
	start_program /usr/bin/python3 -c '
import sys, time
open_file = open(sys.argv[1] + "/mnt/file", "rb", buffering=0)
assert open_file.read(4096) == b"F" * 4096
print("ready", flush=True)
time.sleep(600)' "$T"
	wait_for 20 grep -q ready "$T/program.log" || die "it does not get ready: $(cat "$T/program.log")"
	for ROUND in 1 2; do
		mkdir "$T/$ROUND"
		criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/$ROUND" --pre-dump-mode live \
			$([ "$ROUND" = 1 ] || echo --prev-images-dir ../1) || die "$(log_errors "$T/$ROUND/pre-dump.log")"
	done
	grep -q 'is stopped while it is collected' "$T/2/pre-dump.log" || die "a file that a server fills was not noticed"
	[ "$(stat_of "$T/2" frozen_time)" -gt 0 ] || die "it was not stopped"
	[ "$(stat_of "$T/2" pages_skipped_parent)" -gt 0 ] || die "nothing was left to the parent"
	kill "$PID"
	wait_for 5 session_is_gone "$PID" || die "it does not end"
}

# mount_fuse [PROGRAM]: its server's one file is $T/mnt/file. Sets SERVER.
mount_fuse() {
	local rc

	mkdir "$T/mnt" || die "mkdir"
	"$TEST_BIN/fuse-file" "$T/mnt" "$@" >"$T/fuse.out" 2>&1 &
	SERVER=$!
	wait_for 5 eval 'grep -q ready "$T/fuse.out" || [ ! -e "/proc/$SERVER" ]'
	if ! grep -q ready "$T/fuse.out"; then
		wait "$SERVER"
		rc=$?
		[ "$rc" = 3 ] || die "no filesystem ($rc): $(cat "$T/fuse.out")"
		skip "no FUSE here"
	fi
	echo "$T/mnt" >>"$T/mounts"
}

# Who serves the executable of a tracked program may hang: nobody of ours asks it.
hanging_server() {
	local rc

	mount_fuse /bin/sleep
	start_program "$T/mnt/file" 600
	mkdir "$T/1" || die "mkdir"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/1" --track-mem --pre-dump-mode live ||
		die "$(log_errors "$T/1/pre-dump.log")"
	kill -STOP "$SERVER" || die "the server has gone"
	DIR=$T/2
	mkdir "$DIR"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --pre-dump-mode live --prev-images-dir ../1
	rc=$?
	kill -CONT "$SERVER"
	[ "$rc" = 0 ] || die "with a server that hangs the round ends with $rc: $(log_errors "$DIR/pre-dump.log")"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "nothing was left to the parent"
	kill "$PID"
	wait_for 5 session_is_gone "$PID" || die "it does not end"
}

open_direct() {
	: >"$T/direct"
	wait_for 10 has_direct || die "the program does not open its file"
}

has_direct() {
	find "/proc/$PID/fd" -lname "$T/direct" | grep -q .
}

# It was not seen before the round, which therefore is no base for another.
direct_io_meanwhile() {
	start_tracked pagekeeper 1 --mib 16 --direct "$T/direct"
	live_round
	write_pages 300
	CLASS=mem paused_round 1 open_direct || die "nothing was copied"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "round $ROUND is full already"
	grep -q 'begun to use O_DIRECT' "$DIR/pre-dump.log" || die "round $ROUND does not say what has begun"
	live_round
	assert_full "O_DIRECT was opened while the round before went on"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

page_server() {
	local kind

	start_tracked pagekeeper 2 --mib 32 --children 1
	for kind in pre-dump pre-dump pre-dump dump; do
		new_round
		mkdir -p "$T/server/$ROUND" || die "mkdir"
		start_page_server "$T/server/$ROUND" ${PREV:+"../$((ROUND - 1))"}
		epoch_next
		criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" --pre-dump-mode live \
			--page-server --address 127.0.0.1 --port "$PORT" ||
			die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
		epoch_next
		wait "$SERVER" || die "the page server failed: $(log_errors "$T/server/$ROUND/page-server.log")"
		[ "$ROUND" = 1 ] || assert_incremental
		[ "$kind" = dump ] || write_pages 300
	done
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	find "$DIR" -name '*.img' -exec cp -n {} "$T/server/$ROUND/" \;
	restore_and_verify "$T/server/$ROUND"
	quit_program
}

blocks() {
	find "$1" -name 'pages-*.img' -printf '%b\n' | awk '{ sum += $1 } END { print sum + 0 }'
}

dedup() {
	local before

	start_tracked pagekeeper 1 --mib 32 --rate 20000
	live_round --auto-dedup
	before=$(blocks "$T/1")
	write_pages 4000
	live_round --auto-dedup
	[ "$(blocks "$T/1")" -lt "$before" ] || die "nothing was punched out of the parent"
	final_dump --auto-dedup
	restore_and_verify
	quit_program
}

# 32 MiB at 64 MiB/s; it cannot be faster, and criu's own memory stays what it is.
rate_and_memory() {
	local begin took rss

	start_tracked pagekeeper 1 --mib 32 --rate 100
	new_round
	epoch_next
	begin=${EPOCHREALTIME/./}
	timeout -k 5 "$CRIU_TIMEOUT" "$TEST_BIN/measure" "$T/cost" "$CRIU" pre-dump -t "$PID" -D "$DIR" --track-mem \
		--pre-dump-mode live --pre-dump-rate 64M -L "$PLUGINS" -v4 -o pre-dump.log ||
		die "pre-dump: $(log_errors "$DIR/pre-dump.log")"
	took=$((${EPOCHREALTIME/./} - begin))
	[ "$took" -ge 480000 ] || die "32 MiB at 64 MiB/s took $took us"
	rss=$(awk '$1 == "peak_rss_kb" { print $2 }' "$T/cost")
	[ "$rss" -lt 24576 ] || die "criu's peak RSS was $rss KiB"
	quit_program
}

refused_without_plugin() {
	mkdir "$T/none" "$T/1" || die "mkdir"
	start_tracked pagekeeper 1 --mib 4
	if timeout "$CRIU_TIMEOUT" "$CRIU" pre-dump -t "$PID" -D "$T/1" --pre-dump-mode live -L "$T/none" -o log >"$T/out" 2>&1; then
		die "a live pre-dump without a plugin succeeds"
	fi
	cat "$T/1/log" >>"$T/out" 2>/dev/null
	grep -qE 'needs (memory tracking|a plugin that tracks memory)' "$T/out" || die "what is missing is not told: $(cat "$T/out")"
	grep -q 'there is none in the directory' "$T/out" || die "which plugin is missing is not told: $(cat "$T/out")"
	verify_program "after the refusal"
	quit_program
}

no_such_process() {
	local pid

	mkdir "$T/1" || die "mkdir"
	bash -c 'echo $BASHPID' >"$T/pid"
	pid=$(cat "$T/pid")
	if criu_cmd log pre-dump -t "$pid" -D "$T/1" --track-mem --pre-dump-mode live; then
		die "a process that is not there was pre-dumped"
	fi
	grep -q "There is no process $pid" "$T/1/log" || die "it is not told: $(log_errors "$T/1/log")"
}

# A stopped one is collected as it is, and stays stopped.
stopped_program() {
	start_tracked pagekeeper 1 --mib 16
	live_round
	write_pages 300
	kill -STOP "$PID"
	wait_for 5 grep -q '^State:[[:space:]]*T' "/proc/$PID/status" || die "it does not stop"
	live_round
	assert_no_stop
	grep -q '^State:[[:space:]]*T' "/proc/$PID/status" || die "the program was woken up"
	kill -CONT "$PID"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

run_test a_live_round_stops_nobody nobody_is_stopped
run_test live_rounds_are_incremental_and_right live_chain
run_test live_rounds_mix_with_others_in_any_order mixed_chain
run_test live_rounds_of_a_tree tree_chain
run_test live_rounds_of_a_sanitized_tree asan_chain
run_test live_rounds_under_msan msan_chain
run_test live_rounds_under_tsan tsan_chain
run_test only_a_new_process_is_stopped new_child
run_test a_tree_that_forks_all_the_time_can_be_pre_dumped forking
run_test a_child_in_the_memory_of_its_parent_is_left_out guest
run_test a_process_with_direct_io_is_stopped direct_io
run_test a_process_that_a_server_writes_to_is_stopped fuse
run_test a_server_of_an_executable_that_hangs_is_not_waited_for hanging_server
run_test direct_io_that_begins_in_a_round_makes_the_next_one_full direct_io_meanwhile
run_test live_rounds_to_a_page_server page_server
run_test live_rounds_take_pages_out_of_their_parents dedup
run_test a_live_round_keeps_to_its_rate_and_memory rate_and_memory
run_anywhere a_live_round_needs_a_plugin refused_without_plugin
run_test a_live_round_needs_a_process no_such_process
run_test a_live_round_of_a_stopped_program stopped_program
finish
