#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# run.sh: run each fuzzer for a third of DURATION seconds (60), from a copy of its corpus. What makes one
# fail is kept in $BUILD/fuzz-crashes. test/fuzz/run.sh --merge DIR: add what is new in DIR/NAME to the corpus.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BUILD=${BUILD:-$(cd "$HERE/../.." && pwd)/build}
DURATION=${DURATION:-60}

declare -A finds=(
	[record]=whatever_lies_in_a_session_record_does_no_harm
	[keeper]=whatever_is_sent_to_the_keeper_does_no_harm
	[wire]=whatever_a_keeper_answers_does_no_harm
)

if [ "${1:-}" = --merge ]; then
	for name in record keeper wire; do
		mkdir -p "$HERE/corpus/$name"
		"$BUILD/test/fuzz_$name" -merge=1 -use_counters=0 -max_len=2048 "$HERE/corpus/$name" "$2/$name" 2>&1 | tail -n 1
	done
	exit
fi

FAILED=0
TMP=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-fuzz.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

# fuzz NAME: from all of its corpus on; fails on any report, leak, excess of memory or hang.
fuzz() {
	local name=$1 behaviour=${finds[$1]} runs why

	mkdir -p "$TMP/$name" "$BUILD/fuzz-crashes"
	if ! timeout -k 10 $((DURATION / 3 + 60)) "$BUILD/test/fuzz_$name" -max_total_time=$((DURATION / 3)) \
		-max_len=2048 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$BUILD/fuzz-crashes/$name-" "$TMP/$name" "$HERE/corpus/$name" >"$TMP/log" 2>&1; then
		why=$(grep -m 1 -E 'not so:|ERROR: |runtime error' "$TMP/log")
		echo "FAIL $behaviour: ${why:-ended with an error}; $(grep -m 1 'Test unit written' "$TMP/log")"
		FAILED=1
		return
	fi
	runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$TMP/log")
	if [ "${runs:-0}" -lt 1000 ]; then
		echo "FAIL $behaviour: only ${runs:-0} inputs were run"
		FAILED=1
		return
	fi
	echo "$name: $runs inputs, $(grep -oE 'cov: [0-9]+' "$TMP/log" | tail -n 1)" >&2
	echo "PASS $behaviour"
}

fuzz record
fuzz keeper
fuzz wire
exit "$FAILED"
