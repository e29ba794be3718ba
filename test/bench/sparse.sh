#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What it costs to dump and restore a program built with a sanitizer, compared
# with the same program without, holding the same data: once in one dump, once in
# a chain of two pre-dumps and a dump. The programs take turns, so that whatever
# else the machine does meets all of them.
#
#   MIB=256 ROUNDS=5      size of the programs, how often each is measured
#   WORKLOADS="plain ..." choose some; plain is what the others are compared with
#   RESULT=FILE           where the JSON goes, build/bench-sparse.json otherwise
#   WRITE_DOCS=1          write docs/sparse.md, too
#
# Images are put into TMPDIR, /dev/shm if that is not set: a disk is not what is
# measured. That takes about 8 times MIB of memory, and the programs as much.
set -u
export TMPDIR=${TMPDIR:-/dev/shm}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

MIB=${MIB:-256}
ROUNDS=${ROUNDS:-5}
WORKLOADS=${WORKLOADS:-plain gcc-asan clang-msan clang-tsan}
RESULT=${RESULT:-$BUILD/bench-sparse.json}
RATE=1000
PAGES_BETWEEN=1000
DOCS=$TEST_DIR/../docs/sparse.md
SAMPLES=$(mktemp "$TMPDIR/wptrack-bench.XXXXXX") || exit 1
trap 'rm -f "$SAMPLES"' EXIT

# program_of WORKLOAD: what the demo runs, too.
program_of() {
	case $1 in
	plain) echo pagekeeper ;;
	gcc-asan) echo pagekeeper-asan ;;
	*) echo "pagekeeper-$1" ;;
	esac
}

# sample FIELD VALUE: note a figure of the program, kind and round under way.
sample() {
	printf '%s\t%s\t%s\t%s\t%s\n' "$WORKLOAD" "$KIND" "$TURN" "$1" "$2" >>"$SAMPLES"
}

status_kb() {
	awk -v field="$1:" '$1 == field { print $2 }' "/proc/$PID/status"
}

# measured NAME LOG ARG...: run criu, note its time and memory under that name. It
# logs no more than it does by itself.
measured() {
	local name=$1 log=$2 field value

	shift 2
	timeout -k 5 "$CRIU_TIMEOUT" "$TEST_BIN/measure" "$T/measured" \
		"$CRIU" "$@" -L "$PLUGINS" -o "$log" </dev/null >/dev/null 2>&1 ||
		die "criu $1 failed: $(log_errors "$DIR/$log")"
	while read -r field value; do
		sample "${name}_$field" "$value"
	done <"$T/measured"
}

# note_memory WHEN: what the program holds. It is paused.
note_memory() {
	sample "populated_kb_$1" "$(status_kb RssAnon)"
	sample "pte_kb_$1" "$(status_kb VmPTE)"
}

note_dump() {
	local field

	for field in frozen_time memdump_time memwrite_time pages_written pages_skipped_parent; do
		sample "dump_$field" "$(stat_of "$DIR" "$field")"
	done
}

pre_dumps() {
	local i

	for i in 1 2; do
		new_round
		measured "pre_dump_$i" pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}"
		write_pages "$PAGES_BETWEEN"
	done
}

last_dump() {
	local options=()

	new_round
	[ "$KIND" = single ] || options=(--track-mem "${PREV[@]}")
	ctl pause 60 || die "the program does not pause"
	note_memory before
	measured dump dump.log dump -t "$PID" -D "$DIR" "${options[@]}"
	note_dump
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

measured_restore() {
	local hwm rss

	measured restore restore.log restore -D "$DIR" --restore-detached
	sample restore_restore_time "$("$TEST_BIN/criu-stats" "$DIR/stats-restore" restore_time)"
	note_memory after
	# The restored program began as a part of criu: what it had more than it has now, criu needed.
	hwm=$(status_kb VmHWM) rss=$(status_kb VmRSS)
	sample restore_task_extra_kb $((hwm - rss))
	ctl resume 60 || die "the restored program does not go on"
	verify_program "after the restore"
}

one_turn() {
	start_tracked "$(program_of "$WORKLOAD")" 1 --mib "$MIB" --rate "$RATE"
	# What is printed while it is dumped goes nowhere: the log is outside of the images.
	write_pages "$PAGES_BETWEEN"
	[ "$KIND" = single ] || pre_dumps
	last_dump
	measured_restore
	quit_program
}

for WORKLOAD in $WORKLOADS; do
	if [ ! -x "$TEST_BIN/$(program_of "$WORKLOAD")" ]; then
		echo "SKIP $WORKLOAD: $(program_of "$WORKLOAD") is not built"
		WORKLOADS=${WORKLOADS/$WORKLOAD/}
	fi
done
for TURN in $(seq "$ROUNDS"); do
	for WORKLOAD in $WORKLOADS; do
		for KIND in single chain; do
			run_test "${WORKLOAD}_${KIND}_$TURN" one_turn
		done
	done
done
if [ "$FAILED" = 0 ]; then
	/usr/bin/python3 "$TEST_DIR/bench/sparse-report.py" --mib "$MIB" --rounds "$ROUNDS" --json "$RESULT" \
		${WRITE_DOCS:+--docs "$DOCS"} "$SAMPLES" || FAILED=1
fi
finish
