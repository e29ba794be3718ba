#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What cannot be dumped is refused, with what is the matter; what can be is dumped without a word about errors.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Without a tracker there are no pre-dumps.
MODES="splice read live dump"
check_tracker "$PLUGINS" >/dev/null || MODES=dump

# errors_of LOG: what criu calls errors, but the one that says that it has failed.
errors_of() {
	grep -a 'Error' "$1" | grep -vE 'Pre-dumping FAILED|Dumping FAILED'
}

# refused PID TEXT [MODE...]: in each mode there is, or those named. Afterwards the task is as it was.
refused() {
	local pid=$1 text=$2 mode command

	shift 2
	for mode in ${*:-$MODES}; do
		mkdir -p "$T/$mode"
		command=(pre-dump --pre-dump-mode "$mode")
		[ "$mode" != dump ] || command=(dump --leave-running)
		if criu_cmd log "${command[@]}" -t "$pid" -D "$T/$mode"; then
			die "$mode: it succeeds"
		fi
		# Its own limit is another matter (a_success_has_no_errors).
		errors_of "$T/$mode/log" | grep -v RLIMIT_NOFILE >"$T/errors"
		grep -qE -- "$text" "$T/errors" || die "$mode: it does not say '$text', but: $(cat "$T/errors")"
		[ "$(head -n 1 "$T/errors" | grep -cE -- "$text")" = 1 ] || die "$mode: it says before: $(cat "$T/errors")"
	done
}

is_zombie() {
	grep -qs '^State:.Z' "/proc/$1/status"
}

zombie() {
	local pid

	start_program /usr/bin/python3 -c 'import os, signal, sys
pid = os.fork() or os._exit(0)
open(sys.argv[1], "w").write(str(pid))
signal.pause()' "$T/zombie"
	wait_for 5 test -s "$T/zombie" || die "it does not start"
	pid=$(cat "$T/zombie")
	wait_for 5 is_zombie "$pid" || die "no zombie"
	refused "$pid" "$pid .* is a zombie: it has ended, and its parent $PID has not"
}

kernel_thread() {
	[ "$(cat /proc/2/comm 2>/dev/null)" = kthreadd ] || skip "this pid namespace has no kernel threads"
	refused 2 '2 \(kthreadd\) is a kernel thread'
}

nobody() {
	# The largest there can be, so that it is nobody's for some time.
	refused "$(($(cat /proc/sys/kernel/pid_max) - 1))" 'There is no process'
}

# trace TID: have the task traced by somebody. Sets TRACER.
trace() {
	setsid /usr/bin/python3 -c 'import ctypes, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, int(sys.argv[1]), None, None): sys.exit(ctypes.get_errno())
while True: signal.pause()' "$1" &
	TRACER=$!
	echo "$TRACER" >>"$T/sessions"
	wait_for 5 is_traced_by "$1" || die "it cannot be traced"
}

is_traced_by() {
	grep -qs "^TracerPid:.$TRACER$" "/proc/$1/status"
}

end_trace() {
	kill -9 "$TRACER"
	wait "$TRACER" 2>/dev/null
}

traced() {
	local child thread

	start_tracked pagekeeper 2 --mib 8 --children 1 --threads 2
	child=$(pgrep -P "$PID")
	trace "$PID"
	refused "$PID" "$PID is traced by $TRACER \(python3\)"
	end_trace
	verify_program "after it was refused"
	trace "$child"
	refused "$PID" "$child is traced by $TRACER \(python3\)|Unseizable non-zombie $child"
	grep -qE "$child is traced by $TRACER" "$T/splice/log" || die "it is not said who traces the child"
	end_trace
	thread=$(find "/proc/$PID/task" -mindepth 1 -maxdepth 1 ! -name "$PID" -printf '%f\n' | head -n 1)
	trace "$thread"
	# The rounds that failed know the parent by now, so that a live one need not stop it.
	refused "$PID" "$thread is traced by $TRACER \(python3\)" splice read dump
	end_trace
	verify_program "after it was refused"
	quit_program
}

# Nobody has to be stopped any more.
traced_and_tracked() {
	start_tracked pagekeeper 1 --mib 8
	pre_dump --pre-dump-mode live
	write_pages 300
	trace "$PID"
	pre_dump --pre-dump-mode live
	assert_incremental
	end_trace
	final_dump
	restore_and_verify
	quit_program
}

# no_free_descriptor PID: its limit is what it has open, until it is raised again.
no_free_descriptor() {
	local used

	used=$(find "/proc/$1/fd" -mindepth 1 -printf '%f\n' | sort -n | awk '$1 == NR - 1 { n = NR } END { print n }')
	prlimit --pid "$1" --nofile="$used:" || die "prlimit"
}

without_descriptors() {
	start_tracked pagekeeper 1 --mib 8
	no_free_descriptor "$PID"
	refused "$PID" 'Too many open files'
	# The last was a dump, which has a parasite to bring in.
	! grep -q mprotect "$T/errors" || die "it goes on without what it could not make: $(cat "$T/errors")"
	prlimit --pid "$PID" --nofile=1024: || die "prlimit"
	pre_dump --pre-dump-mode live
	write_pages 300
	final_dump
	restore_and_verify
	quit_program
}

child_without_descriptors() {
	local child

	start_tracked pagekeeper 2 --mib 8 --children 1
	child=$(pgrep -P "$PID")
	no_free_descriptor "$child"
	pre_dump --pre-dump-mode live
	grep -qa "$child can't be tracked (Too many open files)" "$DIR/pre-dump.log" || die "the child is not named"
	grep -qa '1 of 2 processes are not in this pre-dump' "$DIR/pre-dump.log" || die "it is not said that one is missing"
	[ -z "$(errors_of "$DIR/pre-dump.log")" ] || die "a success with: $(errors_of "$DIR/pre-dump.log")"
	prlimit --pid "$child" --nofile=1024: || die "prlimit"
	write_pages 300
	final_dump
	restore_and_verify
	quit_program
}

restore_of_a_pre_dump() {
	local mode

	start_tracked pagekeeper 1 --mib 8
	for mode in splice read live; do
		pre_dump --pre-dump-mode "$mode"
		if criu_cmd restore.log restore -D "$DIR" -d; then
			die "$mode: it succeeds"
		fi
		errors_of "$DIR/restore.log" | head -n 1 | grep -q 'are the images of a pre-dump' ||
			die "$mode: $(errors_of "$DIR/restore.log")"
	done
	quit_program
}

has_children() {
	[ "$(pgrep -c -P "$PID")" = "$1" ]
}

# New children are not in the images of their parent, and a machine may not let criu raise its limit of files.
no_errors_on_success() {
	local kind

	start_program bash -c 'trap "sleep 1000 &" USR1; sleep 1000 & while :; do wait; done'
	ROUND=0
	for kind in pre-dump "pre-dump --live" "dump --leave-running" "dump --before-stop --leave-running"; do
		wait_for 5 has_children $((ROUND + 1)) || die "no child"
		new_round
		# shellcheck disable=SC2086 # words
		CRIU_LIBS_DIR=$PLUGINS timeout "$CRIU_TIMEOUT" setpriv --bounding-set -sys_resource "$TEST_BIN/criu-rpc" "$CRIU" ${kind%% *} "$PID" "$DIR" \
			${PREV:+--parent "${PREV[1]}"} $(grep -o -- '--.*' <<<"$kind") >"$T/out" 2>&1 || die "$kind: $(tail -n 2 "$T/out")"
		[ -z "$(errors_of "$DIR/criu.log")" ] || die "$kind, a success with: $(errors_of "$DIR/criu.log")"
		kill -USR1 "$PID"
	done
}

# A parent that is named, and options that are refused: nothing is left behind.
no_link_left() {
	local refusal

	start_tracked pagekeeper 1 --mib 8
	pre_dump
	mkdir "$T/none" "$T/2" || die "mkdir"
	for refusal in "--pre-dump-before-stop --page-server --address 127.0.0.1 --port 1" "--track-mem -L $T/none"; do
		# shellcheck disable=SC2086 # words
		if timeout "$CRIU_TIMEOUT" "$CRIU" dump -t "$PID" -D "$T/2" --prev-images-dir ../1 -L "$PLUGINS" -o log $refusal \
			>"$T/out" 2>&1; then
			die "$refusal: it succeeds"
		fi
		[ ! -L "$T/2/parent" ] || die "$refusal: the link to the parent is left behind"
	done
	# What was there before stays.
	ln -s ../1 "$T/2/parent"
	if timeout "$CRIU_TIMEOUT" "$CRIU" dump -t "$PID" -D "$T/2" --prev-images-dir ../1 -L "$T/none" --track-mem -o log >"$T/out" 2>&1; then
		die "it succeeds without a plugin"
	fi
	[ -L "$T/2/parent" ] || die "a link that was there before is gone"
	quit_program
}

run_test a_zombie_is_refused_as_one zombie
run_test a_kernel_thread_is_refused_as_one kernel_thread
run_test a_process_that_is_not_there_is_refused_as_such nobody
run_test what_is_traced_is_refused_with_its_tracer traced
run_test a_tracer_does_not_hinder_live_rounds_of_a_tracked_process traced_and_tracked
run_test a_process_without_a_free_descriptor_is_refused without_descriptors
run_test a_child_without_a_free_descriptor_is_told child_without_descriptors
run_test a_restore_of_a_pre_dump_is_refused_as_such restore_of_a_pre_dump
run_test a_success_has_no_errors no_errors_on_success
run_test refused_options_leave_no_link no_link_left
finish
