#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A program that keeps writing its memory is dumped in rounds, each of which
# writes what the program wrote; then it is restored and checks every page.
#
#   WORKLOAD=asan|msan|tsan|plain
#                         sanitizer that the program is built with; plain is
#                         also restored by an unpatched criu
#   MIB=256 ROUNDS=3      size of the program, number of pre-dumps
#   KEEP=1                leave images and logs behind
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# shellcheck source=workload.sh
. "$(dirname "$0")/workload.sh"
MIB=${MIB:-256}
ROUNDS=${ROUNDS:-3}
# A round takes its time, in which the program goes on: on a slow machine it is to write no more than on another.
RATE=$((1000 / TIME_SCALE))
[ "$RATE" -ge 100 ] || RATE=100
PAGES_BETWEEN=1000
# Page tables may grow this much through being tracked, in percent.
PTE_GROWTH_PERCENT=1
# The third round may write this much of the first, in percent.
THIRD_ROUND_PERCENT=5

# With a page of its own the program dirties the sanitizer's shadow of it: as
# much again with MemorySanitizer, four times as much with ThreadSanitizer.
case $WORKLOAD in
msan) PAGES_PER_PAGE=2 ;;
tsan) PAGES_PER_PAGE=5 ;;
*) PAGES_PER_PAGE=1 ;;
esac
exec_under_reaper "$@"
export WPTRACK_RUN_DIR=${WPTRACK_RUN_DIR:-/run/criu-wptrack}
HAD_KEEPER=$(keeper_pid)

# status_kb FIELD: of the program's /proc status.
status_kb() {
	awk -v field="$1:" '$1 == field { print $2 }' "/proc/$PID/status"
}

# images_bytes DIR: bytes of page data.
images_bytes() {
	local f sum=0

	for f in "$1"/pages-*.img; do
		[ ! -f "$f" ] || sum=$((sum + $(stat -c %s "$f")))
	done
	echo "$sum"
}

print_head() {
	echo "demo: $PROGRAM, $MIB MiB of data, $RATE pages written per second, process $PID"
	printf '%5s  %-8s %10s %9s %9s %12s %11s  %s\n' \
		round kind populated written clean bytes "stopped ms" "written by the program, at most"
}

# row KIND POPULATED: print and check the round just done. Sets WRITTEN.
row() {
	local kind=$1 populated=$2 clean frozen bound own="-"

	WRITTEN=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	clean=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	frozen=$(stat_of "$DIR" frozen_time) || die "round $ROUND: the stopped time is missing"
	if [ "$ROUND" -gt 1 ]; then
		own=$(ctl dirtied $((EPOCH - 3)) $((EPOCH - 1))) || die "control file"
		own=$((own * PAGES_PER_PAGE))
	fi
	printf '%5d  %-8s %10d %9d %9d %12d %7d.%03d  %s\n' "$ROUND" "$kind" "$populated" "$WRITTEN" "$clean" \
		"$(images_bytes "$DIR")" $((frozen / 1000)) $((frozen % 1000)) "$own"
	[ "$frozen" -gt 0 ] || die "round $ROUND: the stopped time is missing"
	if [ "$ROUND" -gt 1 ]; then
		bound=$((own + own * SLACK_PERCENT / 100 + SLACK_PAGES))
		[ "$clean" -gt 0 ] || die "round $ROUND left nothing to its parent"
		[ "$WRITTEN" -le "$bound" ] || die "round $ROUND wrote $WRITTEN pages, more than $bound"
	fi
}

populated_pages() {
	echo $(($(status_kb RssAnon) / 4))
}

pre_dumps() {
	local first=0 populated

	while [ "$ROUND" -lt "$ROUNDS" ]; do
		populated=$(populated_pages)
		pre_dump
		row pre-dump "$populated"
		[ "$ROUND" != 1 ] || first=$WRITTEN
		if [ "$ROUND" = 3 ] && [ $((WRITTEN * 100)) -ge $((first * THIRD_ROUND_PERCENT)) ]; then
			die "the third round wrote $WRITTEN pages, not under $THIRD_ROUND_PERCENT % of the first's $first"
		fi
		write_pages "$PAGES_BETWEEN"
	done
}

check_page_tables() {
	local before=$1 after=$2

	echo "demo: page tables: $before kB before the first pre-dump, $after kB after the last"
	if [ "$WORKLOAD" != plain ] && [ $(((after - before) * 100)) -ge $((before * PTE_GROWTH_PERCENT)) ]; then
		die "page tables grew from $before to $after kB, not under $PTE_GROWTH_PERCENT %"
	fi
}

# restored_by NAME CRIU: restore the last round, let the program check itself and go on.
restored_by() {
	local checked

	CRIU_BIN=$2 restore
	checked=$(ctl verify 60) || die "restored by $1: $checked"
	write_pages "$PAGES_BETWEEN"
	verify_program "restored by $1, after more writes"
	echo "demo: restored by $1: $checked, writing on"
	quit_program
}

keeper_as_before() {
	if [ -n "$HAD_KEEPER" ]; then
		! "$WPTRACK" status | awk -v pid="$PID" '$1 == pid { found = 1 } END { exit !found }'
	else
		keeper_is_gone
	fi
}

check_nothing_left() {
	session_is_gone "$PID" || die "processes are left: $(session_pids "$PID" | tr '\n' ' ')"
	wait_for 10 keeper_as_before || die "a keeper or $WPTRACK_RUN_DIR is left"
	[ -n "${KEEP:-}" ] || rm -rf "$T" || die "files are left in $T"
	echo "demo: no process, socket or file is left"
}

at_exit() {
	local rc=$? log

	if [ "$rc" != 0 ]; then
		for log in "$T"/*/*.log; do
			[ -f "$log" ] || continue
			echo "---- ${log#"$T"/}"
			tail -n 5 "$log"
		done
		end_sessions || echo "demo: processes are left"
		echo "demo: FAILED: $(cat "$T.why" 2>/dev/null || echo "status $rc")"
	fi
	[ -n "${KEEP:-}" ] || rm -rf "$T"
	rm -f "$T.why"
	exit "$rc"
}

main() {
	local before populated lacks

	lacks=$(kernel_lacks)
	if [ -n "$lacks" ]; then
		echo "demo: there is nothing to show: $lacks"
		exit 77
	fi

	T=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-demo.XXXXXX") || exit 1
	trap at_exit EXIT
	trap 'exit 143' TERM INT
	start_tracked "$PROGRAM" 1 --mib "$MIB" --rate "$RATE"
	print_head
	write_pages "$PAGES_BETWEEN"
	before=$(status_kb VmPTE)
	pre_dumps
	check_page_tables "$before" "$(status_kb VmPTE)"
	populated=$(populated_pages)
	final_dump
	row dump "$populated"
	restored_by "the patched criu" "$CRIU"
	if [ "$WORKLOAD" = plain ]; then
		restored_by "an unpatched criu" "$STOCK_CRIU"
	fi
	check_nothing_left
	[ -z "${KEEP:-}" ] || echo "demo: images are kept in $T"
	echo "demo: OK: $ROUNDS pre-dumps and a dump of $PROGRAM ($MIB MiB), restored, every page right"
}

main
