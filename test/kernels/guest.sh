#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# guest.sh TEST: what scripts/kernels.sh runs in a guest. TEST is
#
#   kernel               test/kernel
#   demo-WORKLOAD        the demo, as one test
#   bench                the section of the benchmark that needs a kernel with soft-dirty bits
#   facts                what the kernel is like, a line "name: value" each
#   NAME, NAME:REGEXP    test/criu/NAME.sh; the behaviours that match
#
# All but facts print PASS, FAIL and SKIP lines.
set -u

HERE=$(cd "$(dirname "$0")/.." && pwd)
export BUILD=${BUILD:-$HERE/../build}
TIME_SCALE=$("$HERE/../scripts/time-scale.sh")
export TIME_SCALE
# It has hundreds of points, and takes hours of an emulated processor.
export FAULTS_EVERY=${FAULTS_EVERY:-3}
# Nothing runs beside, and what the guest shares can't be locked.
export MACHINE_LOCK=/tmp/machine.lock

kernel()
{
	local program rc=0

	# Each test in there has its own time limit.
	for program in "$BUILD"/test/kernel/*; do
		[ ! -f "$program" ] || [ ! -x "$program" ] || "$program" || rc=1
	done
	return "$rc"
}

demo()
{
	local log rc

	log=$(mktemp)
	WORKLOAD=$1 bash "$HERE/demo/demo.sh" >"$log" 2>&1
	rc=$?
	case $rc in
	0) echo "PASS demo_of_a_program_with_$1" ;;
	77) echo "SKIP demo_of_a_program_with_$1: $(sed -n 's/^demo: there is nothing to show: //p' "$log")" ;;
	*) echo "FAIL demo_of_a_program_with_$1: $(grep -m 1 FAILED "$log" || echo "it did not end by itself")" ;;
	esac
	cat "$log"
	[ "$rc" = 0 ] || [ "$rc" = 77 ]
}

# chosen FILE: the word in brackets.
chosen()
{
	sed -n 's/.*\[\(.*\)\].*/\1/p' "$1" 2>/dev/null || echo none
}

# tracker PLUGINS: who tracks memory, as criu has it.
tracker()
{
	(cd /tmp && "$BUILD/bin/criu" check --feature mem_dirty_track -L "$1" 2>&1) |
		sed -n 's/^Memory tracking is done by \(.*\)\.$/\1/p; s/.*Dirty tracking is OFF.*/nobody/p'
}

facts()
{
	echo "release: $(uname -r)"
	echo "tracker: $(tracker "$BUILD/plugins")"
	echo "without the plugin: $(tracker /tmp)"
	echo "huge pages: $(chosen /sys/kernel/mm/transparent_hugepage/enabled)"
	"$BUILD/test/kernel/written" holes_are_no_written_bytes | sed -n 's/^NOTE //p'
	echo "slower than usual: $TIME_SCALE times"
}

# It is the ratios that count: emulation changes all times alike, or nearly so.
bench()
{
	if BENCH=8 TURNS=${TURNS:-3} BENCH_JSON=/tmp/bench.json /usr/bin/python3 "$HERE/bench/bench.py"; then
		echo "PASS bench"
	else
		echo "FAIL bench: a section has failed"
		return 1
	fi
}

case $1 in
bench) bench ;;
facts) facts ;;
kernel) kernel ;;
demo-*) demo "${1#demo-}" ;;
*:*) ONLY=${1#*:} bash "$HERE/criu/${1%%:*}.sh" ;;
*) bash "$HERE/criu/$1.sh" ;;
esac
