#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# torture.sh: dump a program that does everything to its memory, in rounds, and
# restore it, for DURATION seconds. Each life of the program has a seed of its
# own: SEED, SEED + 1, ... The first one runs even if there is no time.
#
# After each round the pages written are compared with what the program did
# (torture-check), after each restore all of its memory with what it must hold.
# In every other life CRIU compares what is left to the parent images, too. In
# two of three criu is held up for a moment now and then before a call about the
# program, which goes on meanwhile.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

DURATION=${DURATION:-60}
SEED=${SEED:-1}
# Pages dumped though neither written nor disturbed: percent of those judged clean or extra.
EXTRA_PERCENT=2
# What the program does between two rounds: so many operations, and up to so many more.
MIN_OPERATIONS=500
MORE_OPERATIONS=1500

TOTALS=$(mktemp "${TMPDIR:-/tmp}/wptrack-torture.XXXXXX")
trap 'rm -f "$TOTALS"' EXIT

# dice N: a number below N; the sequence is the life's own.
dice() {
	DICE=$(((DICE * 1103515245 + 12345) & 0x7fffffff))
	REPLY=$(((DICE >> 12) % $1))
}

count() {
	echo "$1 $2" >>"$TOTALS"
}

total() {
	awk -v name="$1" '$1 == name { sum += $2 } END { printf "%d", sum }' "$TOTALS"
}

# verified_by_criu MODE: CRIU has found nothing wrong with the parent images, if it has looked.
verified_by_criu() {
	local why

	why=$(grep -h 'verify: .*not what the parent images have' "$DIR"/*.log | head -n 3)
	[ -z "$why" ] || die "seed $LIFE, round $ROUND ($1): $why"
}

# judge MODE: the round just made against the program's journal and CRIU's own verification.
judge() {
	local out

	verified_by_criu "$1"
	out=$("$TEST_BIN/torture-check" "$T/oracle" "$DIR" $((EPOCH - 1)) "$1" 2>"$T/missing") ||
		die "seed $LIFE, round $ROUND ($1): $out; $(head -n 3 "$T/missing" | tr '\n' ' ')"
	# dumped N parent N missing N extra N judged N later N
	read -r _ DUMPED _ PARENT _ _ _ EXTRA _ JUDGED _ LATER <<<"$out"
	[ "$DUMPED" -gt 0 ] || die "seed $LIFE, round $ROUND: no page of a window is in the images"
	count rounds 1
	count judged "$JUDGED"
	count parent "$PARENT"
	count dumped "$DUMPED"
	count later "$LATER"
	# Full, or nothing to compare with: dumping everything is what is expected.
	[ "$PARENT" != 0 ] || return 0
	count extra "$EXTRA"
	[ $((EXTRA * 100)) -le $(((PARENT + EXTRA) * EXTRA_PERCENT + 6400)) ] ||
		die "seed $LIFE, round $ROUND ($1): $EXTRA pages dumped without reason, $PARENT left to the parent"
}

operations() {
	"$TEST_BIN/torture-check" "$T/oracle" operations
}

has_done() {
	[ "$(operations)" -ge "$1" ]
}

# goes_on N: wait until the program has done so much more to its memory.
goes_on() {
	local so_far

	so_far=$(operations) || die "seed $LIFE: the journal can't be read"
	wait_for 30 has_done $((so_far + $1)) || die "seed $LIFE, round $ROUND: the program does nothing any more"
}

# one_round: a pre-dump, or now and then a dump that lets the program run on.
one_round() {
	local mode

	goes_on $((MIN_OPERATIONS + RANDOM % MORE_OPERATIONS))
	dice 8
	if [ "$REPLY" = 0 ]; then
		dump_round --leave-running
		judge dump
		return
	fi
	dice 6
	case $REPLY in
	0) mode=splice ;;
	1) mode=read ;;
	*) mode=live ;;
	esac
	dice 10
	if [ "$REPLY" = 0 ] && [ "$ROUND" -ge 2 ]; then
		# Not the last round: full, and right all the same.
		pre_dump --pre-dump-mode "$mode" --prev-images-dir "../$((ROUND - 1))"
		judge "$mode"
		[ "$PARENT" = 0 ] || die "seed $LIFE, round $ROUND: $PARENT pages left to a parent that is not the last round"
		count broken 1
		return
	fi
	pre_dump --pre-dump-mode "$mode"
	judge "$mode"
}

# end_chain: dump, restore, compare everything before the program goes on.
end_chain() {
	local out verifier

	dice 3
	if [ "$REPLY" = 0 ]; then
		# Two rounds in one: nobody can tell the program when the first one ends, so the journal doesn't help.
		final_dump --pre-dump-before-stop
		verified_by_criu dump
		count double 1
	else
		final_dump
		judge dump
	fi
	ctl verify 60 >"$T/verified" 2>&1 &
	verifier=$!
	restore
	wait "$verifier" || die "seed $LIFE, after restore: $(cat "$T/verified") $(tail -n 5 "$T/program.log" | tr '\n' ' ')"
	out=$(cat "$T/verified")
	[[ $out =~ checked=([0-9]+) ]] || die "seed $LIFE: nothing was compared: $out"
	count compared "${BASH_REMATCH[1]}"
	count restores 1
	grep -q '^torture:' "$T/program.log" && die "seed $LIFE: $(grep -m 3 '^torture:' "$T/program.log" | tr '\n' ' ')"
	return 0
}

new_chain() {
	local mode

	dice 2
	mode=$([ "$REPLY" = 0 ] && echo splice || echo live)
	ROUND=$((ROUND + 1))
	mkdir "$T/$ROUND" || die "mkdir"
	PREV=()
	DIR=$T/$ROUND
	epoch_next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --pre-dump-mode "$mode" ||
		die "pre-dump: $(log_errors "$DIR/pre-dump.log")"
	epoch_next
	judge "$mode"
	assert_full "a chain begins"
}

life() {
	local processes rounds i

	DICE=$LIFE
	[ $((LIFE % 2)) = 0 ] || export CRIU_VERIFY_PARENT=1
	dice 3
	processes=$((REPLY + 1))
	if [ $((LIFE % 3)) != 0 ]; then
		export INJECT=any:0:nap INJECT_SEED=$LIFE
		CRIU_PRELOAD=$TEST_BIN/inject.so
	fi
	start_tracked torture "$processes" --oracle "$T/oracle" --data "$T/data" --seed "$LIFE" --threads 2 \
		--processes "$processes"
	goes_on "$MIN_OPERATIONS"
	new_chain
	dice 5
	rounds=$((REPLY + 2))
	for ((i = 0; i < rounds; i++)); do
		one_round
	done
	end_chain
	dice 2
	if [ "$REPLY" = 0 ]; then
		new_chain
		one_round
		end_chain
	fi
	out=$(ctl verify 60) || die "seed $LIFE, in the end: $out $(tail -n 5 "$T/program.log" | tr '\n' ' ')"
	count operations "$(operations)"
	count moves "$("$TEST_BIN/torture-check" "$T/oracle" moves)"
	quit_program
}

while :; do
	LIFE=$SEED
	run_test "torture_with_seed_$LIFE" life
	SEED=$((SEED + 1))
	# What can't be tracked is skipped, once.
	[ -z "${LACKS:-}" ] || break
	[ "$SECONDS" -lt "$DURATION" ] || break
done

echo "torture: $(total operations) operations, $(total rounds) rounds ($(total broken) on a wrong parent)," \
	"$(total double) dumps with a pre-dump of their own," \
	"$(total restores) restores, $(total compared) pages compared in memory, $(total judged) with the journal:" \
	"$(total dumped) dumped, $(total parent) left to the parent, $(total extra) of the dumped without reason, $(total later) left for later;" \
	"$(total moves) mremap() failed half-way with EFAULT"
finish
