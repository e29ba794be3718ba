#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Programs built with sanitizers, in all the shapes processes take: their
# memory survives, and the sanitizer still finds errors after the restore.
#
#   BUILDS="gcc-asan ..." SHAPES="fork ..." ASLR="random fixed" CHAINS="plain rounds"
#   choose some.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

BUILDS=${BUILDS:-gcc-asan clang-asan clang-msan gcc-tsan clang-tsan}
SHAPES=${SHAPES:-single threads fork fork-between grandchild exec}
ASLR=${ASLR:-random fixed}
CHAINS=${CHAINS:-plain rounds}
# Pages of a restored program may differ this much from those dumped: what the
# kernel and the C library do on the way.
RSS_PERCENT=1
RSS_PAGES=64

# What the sanitizer says of the error the program makes.
report_of() {
	case $1 in
	*-asan) echo heap-buffer-overflow ;;
	*-msan) echo use-of-uninitialized-value ;;
	*-tsan) echo "data race" ;;
	esac
}

# What the exec shape executes: a program of the other compiler, if there is one.
executed_by() {
	case $1 in
	gcc-*) echo "sanitized-clang-${1#gcc-}" ;;
	clang-msan) echo sanitized-clang-msan ;;
	clang-*) echo "sanitized-gcc-${1#clang-}" ;;
	esac
}

processes_at_start() {
	case $1 in
	fork) echo 2 ;;
	grandchild) echo 3 ;;
	*) echo 1 ;;
	esac
}

processes_after_step() {
	case $1 in
	fork-between) echo 2 ;;
	*) processes_at_start "$1" ;;
	esac
}

# start_sanitized BUILD SHAPE ASLR: like start_tracked, with the sanitizer's options.
start_sanitized() {
	local run=() symbolize=1

	[ "$3" = random ] || run=(setarch -R)
	CTL=$T/control
	"$TEST_BIN/pkctl" "$CTL" create || die "cannot create the control file"
	# To find the lines of a report in the sources takes seconds: one shape is enough.
	[ "$2" = single ] || symbolize=0
	export ASAN_OPTIONS="log_path=$T/report:symbolize=$symbolize:detect_leaks=0"
	export MSAN_OPTIONS="log_path=$T/report:symbolize=$symbolize"
	export TSAN_OPTIONS="log_path=$T/report:symbolize=$symbolize"
	start_program "${run[@]}" "$TEST_BIN/sanitized-$1" --control "$CTL" --shape "$2" \
		--exec "$TEST_BIN/$(executed_by "$1")"
	PROCESSES=$(processes_at_start "$2")
	ROUND=0
	EPOCH=1
	ctl ready "$PROCESSES" 60 || die "the program did not get ready: $(tail -n 3 "$T/program.log")"
	ctl epoch 1 || die "control file"
}

# one_step: pages are written; a fork or exec happens in the first one.
one_step() {
	ctl step 60 || die "a step failed: $(tail -n 3 "$T/program.log")"
	PROCESSES=$(processes_after_step "$1")
	ctl ready "$PROCESSES" 60 || die "a process is missing after a step"
	verify_program "after a step, before a dump"
}

populated_pages() {
	local pid kib sum=0

	for pid in $(session_pids "$PID"); do
		kib=$(awk '$1 == "RssAnon:" { print $2 }' "/proc/$pid/status") || die "process $pid is gone"
		sum=$((sum + kib))
	done
	echo $((sum * 1024 / $(getconf PAGESIZE)))
}

# restore_and_count: restore stopped, so that nothing has been written yet; as
# many pages are populated as the last round dealt with.
restore_and_count() {
	local before now slack pid

	before=$(($(stat_of "$DIR" pages_written) + $(stat_of "$DIR" pages_skipped_parent)))
	restore_images "$DIR" --leave-stopped
	now=$(populated_pages)
	slack=$((before * RSS_PERCENT / 100 + RSS_PAGES * PROCESSES))
	[ "$now" -le $((before + slack)) ] && [ "$now" -ge $((before - slack)) ] ||
		die "$before pages were populated at the dump, $now are after the restore"
	for pid in $(session_pids "$PID"); do
		kill -CONT "$pid" || die "process $pid is gone"
	done
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
}

# assert_skipped: pages nobody wrote were left to the parent.
assert_skipped() {
	local skipped

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	[ "$skipped" -gt 1000 ] || die "round $ROUND left only $skipped pages to its parent"
}

rounds() {
	pre_dump
	assert_full "there is no parent"
	one_step "$1"
	pre_dump
	# What has just executed another program is new.
	[ "$1" = exec ] || assert_skipped
	one_step "$1"
	final_dump
	assert_skipped
}

plain() {
	one_step "$1"
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

# The error is made once, by every process that is left.
assert_reports() {
	local want

	want=$(report_of "$1")
	: >"$CTL.error"
	ctl step 60 || die "the program could not make an error"
	grep -qsF "$want" "$T"/report.* || die "the sanitizer does not report the $want"
	[ "$2" != single ] || grep -qsF sanitized.c: "$T"/report.* || die "the sanitizer does not find where the $want is"
}

sanitized() {
	local build=$1 shape=$2 chain=$3 aslr=$4

	# Huge pages where there were none would be counted.
	machine_stays
	start_sanitized "$build" "$shape" "$aslr"
	"$chain" "$shape"
	restore_and_count
	verify_program "after the restore"
	ctl step 60 || die "a step after the restore failed"
	verify_program "after a step of the restored program"
	! ls "$T"/report.* >/dev/null 2>&1 || die "the sanitizer found an error: $(head -n 3 "$T"/report.* | tr '\n' ' ')"
	assert_reports "$build" "$shape"
	rm -f "$CTL.error"
	quit_program
}

for build in $BUILDS; do
	for shape in $SHAPES; do
		for chain in $CHAINS; do
			for aslr in $ASLR; do
				current() { sanitized "$build" "$shape" "$chain" "$aslr"; }
				run_test "${build}_${shape}_${chain}_$aslr" current
			done
		done
	done
done
finish
