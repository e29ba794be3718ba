#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs test programs, shows what they print and counts it.
#
#   run-checks.sh [--timeout=SECONDS] [--no-skip|--may-skip] [--beside|--alone|--outside] [--shards=N] PROGRAM...
#
# Options hold for the programs after them. A program prints a line
# "PASS name", "FAIL name: why" or "SKIP name: why" for each of its tests. One
# that ends otherwise than it says, in time and with at least one line, is a
# failure itself; after --no-skip, so is a skipped test.
#
# Programs run in pid, mount, IPC and network namespaces of their own, with a /run and a /tmp of their own, where we may.
# Those after --beside run $JOBS at a time, and what each prints comes when it ends. Those after --alone (the default)
# have the machine for themselves, when all before them have ended; after --outside, without the namespaces, too. After
# --shards=N each program is run N times, with SHARD=1/N to SHARD=N/N in its environment: each runs its share of its
# tests (test/lib.sh).
#
# The last line counts; the exit code is 0 only if something passed and nothing failed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
passed=0 failed=0 skipped=0
limit=600 skip_ok=yes shards=1
JOBS=${JOBS:-$((2 * $(nproc)))}
# Time limits are for a machine of usual speed.
TIME_SCALE=${TIME_SCALE:-$("$here/time-scale.sh")}
export TIME_SCALE

# What runs beside others: by pid, the program, its log, whether it may skip, and when it began.
declare -A program_of=() log_of=() skip_of=() began_of=()
logs=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-checks.XXXXXX")

stop()
{
	local pid

	# timeout(1) passes it on to the program's process group.
	for pid in "${!program_of[@]}"; do
		pkill -TERM -P "$pid"
	done
	exit 130
}
trap 'rm -rf "$logs"' EXIT
trap stop INT TERM HUP

fail()
{
	printf 'FAIL %s: %s\n' "$1" "$2"
	failed=$((failed + 1))
}

# How to run something in namespaces of its own; empty where that can't be done. A /run on tmpfs is where criu keeps
# what it knows of the kernel, which it otherwise finds out in every run.
apart=()
if unshare --pid --fork --mount --ipc --net --mount-proc true 2>/dev/null; then
	apart=(unshare --pid --fork --kill-child --mount --ipc --net --mount-proc "$here/apart.sh")
fi

# start LIMIT SCALE COMMAND...: sets PID. Output goes through a file: a pipe would stay open for as long as anything
# the program left running.
start()
{
	local time=$1 scale=$2 program=${*: -1}

	shift 2
	LOG=$logs/$((++started))
	: >"$LOG"
	mkdir "$LOG.tmp" && chmod 1777 "$LOG.tmp"
	{
		export SHARD=$shard/$shards APART_TMP=$LOG.tmp
		# stop() ends the program, and with it this.
		trap : INT TERM HUP
		# What time(1) would say, for the program and what it waited for; a command after it would change the exit code.
		TIMEFORMAT='%U + %S'
		time TIME_SCALE=$scale timeout --kill-after=10 "$time" "$@" </dev/null >"$LOG" 2>&1
	} 2>"$LOG.cpu" &
	PID=$!
	[ "$shards" = 1 ] || program="$program, shard $shard of $shards"
	program_of[$PID]=$program log_of[$PID]=$LOG skip_of[$PID]=$skip_ok began_of[$PID]=$SECONDS
}
started=0

lines()
{
	grep -c "^$1 " "$2"
}

# cpu_of LOG: seconds that the program and those it waited for had a processor.
cpu_of()
{
	awk '{ s = $1 + $3 } END { printf "%.0f", s }' "$1.cpu"
}

# judge PID STATUS: count what a program has printed that has ended.
judge()
{
	local log=${log_of[$1]} name=${program_of[$1]##*/} rc=$2 pass fail skip

	pass=$(lines PASS "$log") fail=$(lines FAIL "$log") skip=$(lines SKIP "$log")
	passed=$((passed + pass))
	failed=$((failed + fail))
	skipped=$((skipped + skip))
	[ -z "$(tail -c 1 "$log")" ] || echo
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		fail "$name" "not done in time"
	elif [ "$rc" = 125 ]; then
		fail "$name" "it left processes behind"
	elif [ "$rc" != 0 ] && [ "$fail" = 0 ]; then
		fail "$name" "exit code $rc, but no test failed"
	elif [ "$rc" = 0 ] && [ "$fail" != 0 ]; then
		fail "$name" "exit code 0, but a test failed"
	elif [ $((pass + fail + skip)) = 0 ]; then
		fail "$name" "no test ran"
	fi
	if [ "$skip" != 0 ] && [ "${skip_of[$1]}" = no ]; then
		fail "$name" "$skip tests skipped that run everywhere"
	fi
	echo "$name: $((SECONDS - ${began_of[$1]})) s, of the processors $(cpu_of "$log") s"
	rm -rf "$log.tmp"
	unset "program_of[$1]" "log_of[$1]" "skip_of[$1]" "began_of[$1]"
}

# wait_until N: until no more than N run.
wait_until()
{
	local pid rc

	while [ ${#program_of[@]} -gt "$1" ]; do
		wait -n -p pid "${!program_of[@]}"
		rc=$?
		[ -n "${pid:-}" ] || return
		cat "${log_of[$pid]}"
		judge "$pid" "$rc"
	done
}

run_beside()
{
	wait_until $((JOBS - 1))
	# It shares the cores with the others.
	start $((limit * TIME_SCALE * 2)) $((TIME_SCALE * 2)) "${apart[@]}" "$1"
}

# run_alone PROGRAM [WRAPPER...]
run_alone()
{
	local rc tail

	wait_until 0
	start $((limit * TIME_SCALE)) "$TIME_SCALE" "${@:2}" "$1"
	tail -n +1 -f -s 0.1 --pid="$PID" "$LOG" &
	tail=$!
	wait "$PID"
	rc=$?
	wait "$tail"
	judge "$PID" "$rc"
}

run_apart()
{
	run_alone "$1" "${apart[@]}"
}

how=run_apart
for arg; do
	case $arg in
	--timeout=*) limit=${arg#*=} ;;
	--no-skip) skip_ok=no ;;
	--may-skip) skip_ok=yes ;;
	--beside) how=run_beside ;;
	--alone) how=run_apart ;;
	--outside) how=run_alone ;;
	--shards=*) shards=${arg#*=} ;;
	*) for ((shard = 1; shard <= shards; shard++)); do "$how" "$arg"; done ;;
	esac
done
wait_until 0
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
