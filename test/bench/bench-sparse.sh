#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What dump and restore of sanitized programs cost, against the same program
# without a sanitizer, in one run and in turns. Writes build/bench-sparse.json
# and a table; WRITE_DOCS=1 writes docs/sparse.md as well.
#
#   MIB=256 TURNS=5
#   TMPDIR=/dev/shm       where images go: a disk is not what is measured
set -u
export TMPDIR=${TMPDIR:-/dev/shm}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

MIB=${MIB:-256}
TURNS=${TURNS:-5}
BUILDS="plain asan msan tsan"
HERE=$(cd "$(dirname "$0")" && pwd)
RECORDS=$BUILD/bench-sparse.records

program_of() {
	case $1 in
	plain) echo pagekeeper ;;
	asan) echo pagekeeper-asan ;;
	*) echo "pagekeeper-clang-$1" ;;
	esac
}

record() {
	echo "$BENCHED $1 $2" >>"$RECORDS"
}

# status_kb FIELD: of the program's /proc status.
status_kb() {
	awk -v field="$1:" '$1 == field { print $2 }' "/proc/$PID/status"
}

# measured KIND LOG ARG...: a run of criu, whose figures are recorded under KIND.
measured() {
	local kind=$1 log=$2 key value

	shift 2
	timeout -k 5 "$CRIU_TIMEOUT" "$TEST_BIN/measure" "$T/figures" "$CRIU" "$@" -L "$PLUGINS" -v1 -o "$log" \
		</dev/null >/dev/null 2>&1 || die "$kind failed: $(log_errors "$DIR/$log")"
	while read -r key value; do
		record "$kind.$key" "$value"
	done <"$T/figures"
}

# measured_restore KIND: restore the last round stopped, record what it holds, let it run on and verify.
measured_restore() {
	measured "$1" restore.log restore -D "$DIR" --restore-detached --leave-stopped
	record "$1.pages" $(($(status_kb RssAnon) / 4))
	record "$1.pte_kb" "$(status_kb VmPTE)"
	kill -CONT "$PID" || die "the restored program is gone"
	ctl ready 1 || die "restored, but the program does not run"
	verify_program "after $1"
}

# measured_dump KIND [OPTION...]: the dump that ends the program, and what it held.
measured_dump() {
	local kind=$1

	shift
	record "$kind.pte_kb" "$(status_kb VmPTE)"
	new_round
	measured "$kind" dump.log dump -t "$PID" -D "$DIR" "$@"
	record "$kind.pages" $(($(stat_of "$DIR" pages_written) + $(stat_of "$DIR" pages_skipped_parent)))
	record "$kind.frozen_us" "$(stat_of "$DIR" frozen_time)"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

# warm_up: a dump that does not count. Memory that a virtual machine has to be
# given first takes several times as long to fill, the more the larger images are.
warm_up() {
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --leave-running || die "dump failed: $(log_errors "$DIR/dump.log")"
	rm -rf "$DIR"
	ROUND=0
}

turn() {
	start_tracked "$(program_of "$BENCHED")" 1 --mib "$MIB" --rate 1000
	write_pages 1000
	warm_up
	measured_dump full_dump
	measured_restore full_restore
	ROUND=0
	rm -rf "$T"/[0-9]*
	pre_dump
	write_pages 1000
	pre_dump
	write_pages 1000
	measured_dump chain_dump --track-mem --prev-images-dir "../$ROUND"
	measured_restore chain_restore
	quit_program
}

: >"$RECORDS"
for ((i = 1; i <= TURNS; i++)); do
	for BENCHED in $BUILDS; do
		run_test "turn_${i}_$BENCHED" turn || exit 1
	done
done
[ "$FAILED" = 0 ] || finish
MIB=$MIB TURNS=$TURNS /usr/bin/python3 "$HERE/bench-sparse.py" "$RECORDS" "$BUILD/bench-sparse.json" \
	${WRITE_DOCS:+"$HERE/../../docs/sparse.md"}
