#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# How many times as slow as a common machine this one is at the moment, as a
# whole number from 1 on: what time limits are multiplied by. Measured by what
# tests do most: starting programs, and running scripts. An emulated machine is
# some twenty times as slow; a time limit is for what hangs, and not for that.
set -u

# What 40 programs, and 40000 turns of a loop, take at most on a machine of 2020, in us.
USUAL_US=100000
LONGEST=60

if [ -n "${TIME_SCALE:-}" ]; then
	echo "$TIME_SCALE"
	exit 0
fi

# took_us FUNCTION
took_us()
{
	local begin=${EPOCHREALTIME/[.,]/}

	"$1"
	echo $((${EPOCHREALTIME/[.,]/} - begin))
}

programs()
{
	local i

	for ((i = 0; i < 40; i++)); do
		/bin/true
	done
}

turns()
{
	local i

	for ((i = 0; i < 40000; i++)); do
		:
	done
}

a=$(took_us programs)
b=$(took_us turns)
scale=$(((a > b ? a : b) / USUAL_US))
[ "$scale" -ge 1 ] || scale=1
[ "$scale" -le "$LONGEST" ] || scale=$LONGEST
echo "$scale"
