#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs test programs one after another, shows what they print and counts it.
#
#   run-checks.sh [--timeout=SECONDS] [--no-skip|--may-skip] PROGRAM...
#
# Options hold for the programs after them. A program prints a line
# "PASS name", "FAIL name: why" or "SKIP name: why" for each of its tests. One
# that ends otherwise than it says, in time and with at least one line, is a
# failure itself; after --no-skip, so is a skipped test.
#
# The last line counts; the exit code is 0 only if something passed and nothing failed.
set -uo pipefail

passed=0 failed=0 skipped=0
limit=600 skip_ok=yes
child='' log=$(mktemp)
# Time limits are for a machine of usual speed.
TIME_SCALE=${TIME_SCALE:-$("$(dirname "${BASH_SOURCE[0]}")/time-scale.sh")}
export TIME_SCALE

stop()
{
	# timeout(1) passes it on to the program's process group.
	[ -z "$child" ] || kill -TERM "$child" 2>/dev/null
	exit 130
}
trap 'rm -f "$log"' EXIT
trap stop INT TERM HUP

lines()
{
	grep -c "^$1 " "$log"
}

fail()
{
	printf 'FAIL %s: %s\n' "$1" "$2"
	failed=$((failed + 1))
}

# Output goes through a file: a pipe would stay open for as long as anything
# the program left running.
run()
{
	local program=$1 name=${1##*/} rc pass fail skip

	: >"$log"
	timeout --kill-after=10 "$limit" "$program" </dev/null >"$log" &
	child=$!
	tail -n +1 -f -s 0.1 --pid="$child" "$log"
	wait "$child"
	rc=$?
	child=''
	if [ -n "$(tail -c 1 "$log")" ]; then
		echo
	fi

	pass=$(lines PASS) fail=$(lines FAIL) skip=$(lines SKIP)
	passed=$((passed + pass))
	failed=$((failed + fail))
	skipped=$((skipped + skip))
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		fail "$name" "not done after $limit s"
	elif [ "$rc" != 0 ] && [ "$fail" = 0 ]; then
		fail "$name" "exit code $rc, but no test failed"
	elif [ "$rc" = 0 ] && [ "$fail" != 0 ]; then
		fail "$name" "exit code 0, but a test failed"
	elif [ $((pass + fail + skip)) = 0 ]; then
		fail "$name" "no test ran"
	fi
	if [ "$skip" != 0 ] && [ "$skip_ok" = no ]; then
		fail "$name" "$skip tests skipped that run everywhere"
	fi
}

for arg; do
	case $arg in
	--timeout=*) limit=$((${arg#*=} * TIME_SCALE)) ;;
	--no-skip) skip_ok=no ;;
	--may-skip) skip_ok=yes ;;
	*) run "$arg" ;;
	esac
done
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
