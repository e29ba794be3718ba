#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# run.sh [SECONDS]: run each fuzzer for a third of SECONDS ($DURATION, or 60), from a copy of its corpus. What makes
# one fail is kept in $BUILD/fuzz-crashes; `$BUILD/test/fuzz_NAME FILE` runs it again.
# run.sh --merge DIR: add to the corpus what it takes of DIR/NAME to reach all that they reach.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BUILD=${BUILD:-$(cd "$HERE/../.." && pwd)/build}
OPTIONS=(-timeout=20 -rss_limit_mb=2048 -max_len=1024)

declare -A finds=(
	[record]=whatever_lies_in_a_session_record_does_no_harm
	[keeper]=whatever_is_sent_to_the_keeper_does_no_harm
	[wire]=whatever_a_keeper_answers_does_no_harm
)

FAILED=0
TMP=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-fuzz.XXXXXX") || exit 1
child=''
trap 'rm -rf "$TMP"' EXIT
trap '[ -z "$child" ] || kill "$child"; exit 130' INT TERM HUP

if [ "${1:-}" = --merge ]; then
	for name in record keeper wire; do
		"$BUILD/test/fuzz_$name" "${OPTIONS[@]}" -set_cover_merge=1 -use_counters=0 "$HERE/corpus/$name" "$2/$name" 2>&1 |
			tail -n 1
	done
	exit
fi

SECONDS_EACH=$((${1:-${DURATION:-60}} / 3))

fail() {
	echo "FAIL $1: $2"
	FAILED=1
}

# fuzz NAME: all of its corpus, and what follows from that; any report, leak, excess of memory or hang is a failure.
fuzz() {
	local name=$1 behaviour=${finds[$1]} runs saved log=$TMP/$1.log rc

	mkdir -p "$TMP/$name" "$BUILD/fuzz-crashes"
	if ! cp -r "$HERE/corpus/$name/." "$TMP/$name/"; then
		fail "$behaviour" "no corpus"
		return
	fi
	TMPDIR=$TMP timeout -k 10 $((SECONDS_EACH + 120)) "$BUILD/test/fuzz_$name" "${OPTIONS[@]}" \
		-max_total_time=$((SECONDS_EACH > 0 ? SECONDS_EACH : 1)) -print_final_stats=1 \
		-artifact_prefix="$BUILD/fuzz-crashes/$name-" "$TMP/$name" </dev/null >"$log" 2>&1 &
	child=$!
	wait "$child"
	rc=$?
	child=''
	runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
	echo "$name: ${runs:-0} inputs, $(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)" >&2
	if [ "$rc" != 0 ]; then
		saved=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
		fail "$behaviour" "$(grep -m 1 -E 'not so:|ERROR: |runtime error:' "$log" || echo "ended with $rc"); ${saved:-no input saved}"
	elif [ "${runs:-0}" -lt 1000 ]; then
		fail "$behaviour" "only ${runs:-0} inputs were run"
	else
		echo "PASS $behaviour"
	fi
}

for name in record keeper wire; do
	fuzz "$name"
done
exit "$FAILED"
