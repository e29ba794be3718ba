#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Whatever fails or is killed at whatever point of a (pre-)dump: the program runs on unharmed, nothing of
# ours stays in it, and the next round is right. The points are calls that test/faults/inject.c counts.
# FAULTS_ALL=1 goes through all of them, else it is every so many, and of these every FAULTS_EVERYth.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

INJECT_SO=$TEST_BIN/inject.so
FAULTS_EVERY=${FAULTS_EVERY:-1}
# Points, and of these rounds that failed, for the last line.
POINTS=$(mktemp "${TMPDIR:-/tmp}/wptrack-points.XXXXXX")
trap 'rm -f "$POINTS"' EXIT

# Pages a second; half of the 1024 are never written again, so that some are left however long a round takes.
RATE=$((500 / (TIME_SCALE < 5 ? TIME_SCALE : 5)))

# plain_round NAME [OPTION...]: a pre-dump into a directory of that name.
plain_round() {
	local name=$1

	shift
	rm -rf "${T:?}/$name"
	mkdir "$T/$name" || die "mkdir"
	DIR=$T/$name
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "$@"
}

# what_it_has [KILLED]: the program's descriptors and mappings. A CRIU that was killed may leave its
# parasite behind, as a stock one does: then only descriptors.
what_it_has() {
	find "/proc/$PID/fd" -type l -printf '%f %l\n' | sort
	[ -n "${1:-}" ] || awk '{ print $1, $2, $6 }' "/proc/$PID/maps"
}

# nothing_left POINT [KILLED]
nothing_left() {
	local state left

	state=$(what_it_has "${2:-}")
	[ "$state" = "$BEFORE" ] || {
		left=$(diff <(echo "$BEFORE") <(echo "$state") | grep '^[<>]' | head -n 3 | tr '\n' ' ')
		die "$1: something is left in the program: $left"
	}
}

# unharmed POINT [KILLED]: it runs, and all of its memory is right.
unharmed() {
	wait_for 5 runs || die "$1: the program does not run: $(grep -E 'State|TracerPid' "/proc/$PID/status" | tr '\n' ' ')"
	verify_program "$1"
	# A userfaultfd that was just being made stays until the next round.
	[ -n "${2:-}" ] || nothing_left "$1"
}

runs() {
	grep -q '^TracerPid:[[:space:]]*0$' "/proc/$PID/status" && ! grep -q '^State:[[:space:]]*[Tt]' "/proc/$PID/status"
}

# right_after POINT PARENT: the next round upon it succeeds, and leaves nothing to its parent that differs.
right_after() {
	export CRIU_VERIFY_PARENT=1
	plain_round next --prev-images-dir "../$2" || die "$1: the next round failed: $(log_errors "$DIR/pre-dump.log")"
	unset CRIU_VERIFY_PARENT
	if grep -q 'verify:.*not what the parent' "$DIR/pre-dump.log"; then
		die "$1: the next round was wrong: $(grep -m 1 'verify:.*not what' "$DIR/pre-dump.log")"
	fi
	verify_program "$1, after the next round"
}

# whole_way POINT: the chain ends here, in a dump and a restore; the restored program goes on.
whole_way() {
	mkdir -p "$T/last"
	criu_cmd dump.log dump -t "$PID" -D "$T/last" --track-mem --prev-images-dir ../next ||
		die "$1: the dump failed: $(log_errors "$T/last/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "$1: the dumped program is still there"
	restore "$T/last"
	verify_program "$1, after the restore"
	rm -rf "$T/last"
}

# no_keeper: the next round starts one.
no_keeper() {
	local pid

	pid=$(keeper_pid)
	[ -z "$pid" ] || kill -9 "$pid"
	wait_for 10 no_keeper_listens || die "the keeper does not go"
}

no_keeper_listens() {
	[ -z "$(keeper_pid)" ]
}

# at_each PHASE CLASS ACTION STRIDE: PHASE is start (the keeper is started, and is where it happens), first (the
# program is not tracked yet), later, read (the same in read mode), live (the same while the program runs),
# live-first or dump (--leave-running).
at_each() {
	local phase=$1 class=$2 action=$3 stride=$4 n point failed=0 hit=0 rc killed=""

	[ -f "$INJECT_SO" ] || die "$INJECT_SO is missing: build it first (make)"
	[ -z "${FAULTS_ALL:-}" ] || stride=1
	stride=$((stride * FAULTS_EVERY))
	[ "$action" != kill ] || killed=yes
	start_tracked pagekeeper 1 --mib 4 --working-set 2 --rate "$RATE"
	wait_for 5 runs
	plain_round base || die "pre-dump: $(log_errors "$DIR/pre-dump.log")"
	BEFORE=$(what_it_has "$killed")
	for ((n = 1; ; n += stride)); do
		point="$phase, $class call $n, $action"
		if [ "$phase" = start ]; then
			no_keeper
		elif [[ $phase == *first ]]; then
			"$WPTRACK" release --all >/dev/null 2>&1
		else
			plain_round base || die "$point: no base: $(log_errors "$DIR/pre-dump.log")"
		fi
		write_pages 50
		rm -rf "$T/hit" "$T/faulty"
		mkdir "$T/faulty" || die "mkdir"
		(
			export LD_PRELOAD=$INJECT_SO INJECT=$class:$n:$action INJECT_HIT=$T/hit INJECT_DIR=$T/faulty INJECT_PID=$PID
			[ "$phase" != start ] || export INJECT_COMM=wptrack-keeper
			case $phase in
			start | first) criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem ;;
			later) criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem --prev-images-dir ../base ;;
			read) criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem --prev-images-dir ../base \
				--pre-dump-mode read ;;
			live) criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem --prev-images-dir ../base \
				--pre-dump-mode live ;;
			live-first) criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem --pre-dump-mode live ;;
			dump) criu_cmd dump.log dump -t "$PID" -D "$T/faulty" --track-mem --prev-images-dir ../base --leave-running ;;
			esac
		) 2>/dev/null
		rc=$?
		[ -e "$T/hit" ] || break
		hit=$((hit + 1))
		unharmed "$point" "$killed"
		if [ "$rc" = 0 ]; then
			right_after "$point" faulty
		else
			failed=$((failed + 1))
			if [[ $phase == *first ]] || [ "$phase" = start ]; then
				plain_round base || die "$point: the next round failed: $(log_errors "$DIR/pre-dump.log")"
			fi
			right_after "$point" base
		fi
		nothing_left "$point, after the next round" "$killed"
		if [ $((hit % 16)) = 1 ]; then
			whole_way "$point"
			plain_round base || die "$point: no base: $(log_errors "$DIR/pre-dump.log")"
			BEFORE=$(what_it_has "$killed")
		fi
	done
	[ "$rc" = 0 ] || die "$point: failed without a fault"
	[[ $phase == *first ]] || [ "$phase" = start ] || [ "$(stat_of "$T/faulty" pages_skipped_parent)" -gt 100 ] ||
		die "without a fault, the round leaves nothing to its parent"
	[ $((hit * FAULTS_EVERY)) -ge "${5:-3}" ] || die "only $hit points were hit"
	echo "$hit $failed" >>"$POINTS"
	quit_program
}

# killed_attach COMMAND [OPTION...]: a first round of that kind is killed at each of its attach's calls, and what
# comes next is the dump that ends the program, with these options.
killed_attach() {
	local command=$1 n point left=""

	shift
	[ -f "$INJECT_SO" ] || die "$INJECT_SO is missing: build it first (make)"
	start_tracked pagekeeper 1 --mib 4
	wait_for 5 runs
	BEFORE=$(what_it_has killed)
	# The first mapping is registered when nothing can be left any more; the plugin's probe has done so before that.
	for ((n = 1; ; n++)); do
		point="$command, track call $n"
		rm -rf "$T/hit" "$T/faulty" "$T/next"
		mkdir "$T/faulty" "$T/next" || die "mkdir"
		(
			export LD_PRELOAD=$INJECT_SO INJECT=track:$n:kill INJECT_HIT=$T/hit
			criu_cmd "$command.log" "$command" -t "$PID" -D "$T/faulty" --track-mem
		) 2>/dev/null
		[ -e "$T/hit" ] || die "$point: there is none, and no descriptor has been left by those before"
		unharmed "$point" killed
		[ "$(what_it_has killed)" = "$BEFORE" ] || left=yes
		[ -n "$left" ] || continue
		criu_cmd dump.log dump -t "$PID" -D "$T/next" "$@" || die "$point: the dump failed: $(log_errors "$T/next/dump.log")"
		wait_for 10 session_is_gone "$PID" || die "$point: the dumped program is still there"
		restore "$T/next"
		verify_program "$point, after the restore"
		nothing_left "$point, after the restore" killed
		[ -z "$left" ] || ! grep -q UFFDIO_REGISTER "$T/hit" || break
	done
	quit_program
}

killed_pre_dump_then_dump() {
	killed_attach pre-dump --track-mem
}

killed_dump_then_dump() {
	killed_attach dump --track-mem
}

killed_pre_dump_then_plain_dump() {
	killed_attach pre-dump
}

# case_of PHASE CLASS ACTION STRIDE [POINTS]: so many points at least are to be hit, 3 if not told.
case_of() {
	local name

	eval "case_now() { at_each $*; }"
	name="$3_at_${2}_calls_of_a_${1}_round"
	run_test "${name//-/_}" case_now
}

run_test a_dump_after_a_pre_dump_killed_while_attaching killed_pre_dump_then_dump
run_test a_dump_after_a_dump_killed_while_attaching killed_dump_then_dump
run_test a_plain_dump_after_a_pre_dump_killed_while_attaching killed_pre_dump_then_plain_dump
case_of start keeper kill 2
case_of start keeper ECONNRESET 3
case_of start keeper ENOMEM 3
case_of first keeper kill 3
case_of first keeper keeper 3
case_of first keeper ECONNRESET 3
case_of later keeper kill 3
case_of later keeper keeper 3
case_of later keeper ECONNRESET 3
case_of dump keeper keeper 4
case_of first track kill 13
case_of later track kill 13
case_of first track EPERM 13
case_of first track ENOMEM 13
case_of later track EPERM 13
case_of later track ENOMEM 13
case_of later track late-EPERM 11
case_of later collect late-EPERM 1
case_of later track keeper 17
case_of read track late-EPERM 13
case_of dump track late-EPERM 17
case_of dump track EPERM 17
case_of later image EIO 13
case_of later image ENOSPC 17
case_of later image short 13
case_of later image kill 19
case_of read image EIO 17
case_of read copy short 1 2
case_of read copy EFAULT 1 2
case_of live-first track kill 13
case_of live-first track ENOMEM 13
case_of live track kill 13
case_of live track EPERM 13
case_of live track ENOMEM 13
case_of live track late-EPERM 11
case_of live track keeper 17
case_of live image kill 19
case_of live image EIO 17
case_of live image short 17
case_of live mem EIO 3 2
case_of live mem short 3 2
case_of later record EIO 1 1
case_of later record short 1 1
case_of dump image EIO 29
case_of dump image short 29

# old_marks_at CLASS ACTION: a mapping has lost its registration to a merge, was written, and holds marks from before
# (kinds' moved_back_between_neighbours). The round that registers it again is stopped at each such call of CLASS, so
# that marks may stay although it is registered. What is written later must be seen none the less.
old_marks_at() {
	local class=$1 action=$2 n rc parent

	for ((n = 1; ; n++)); do
		rm -rf "$T"/hit "$T"/[0-9] "$T/faulty" "$T/next" "$T/last"
		start_tracked kinds 1 --group main --only moved_back_between_neighbours
		pre_dump
		ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
		pre_dump
		ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
		mkdir "$T/faulty" || die "mkdir"
		(
			export LD_PRELOAD=$INJECT_SO INJECT=$class:$n:$action INJECT_HIT=$T/hit
			criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem --prev-images-dir "../$ROUND"
		) 2>/dev/null
		rc=$?
		[ -e "$T/hit" ] || break
		parent=faulty
		if [ "$rc" != 0 ]; then
			wait_for 5 runs || die "$class call $n: the program does not run"
			plain_round next --prev-images-dir "../$ROUND" ||
				die "$class call $n: the next round failed: $(log_errors "$DIR/pre-dump.log")"
			parent=next
		fi
		ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
		mkdir "$T/last" || die "mkdir"
		criu_cmd dump.log dump -t "$PID" -D "$T/last" --track-mem --prev-images-dir "../$parent" ||
			die "$class call $n: the dump failed: $(log_errors "$T/last/dump.log")"
		wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
		restore "$T/last"
		verify_program "$action at $class call $n, after the restore"
		quit_program
	done
	[ "$n" -gt 2 ] || die "no call was hit"
	echo "$((n - 1)) 0" >>"$POINTS"
	quit_program
}

kill_with_old_marks_left() {
	old_marks_at unprotect kill
}

failing_unprotect_with_old_marks_left() {
	old_marks_at unprotect EPERM
}

failing_register_with_old_marks_left() {
	old_marks_at register late-EPERM
}

# A CRIU that is killed at pidfd_getfd has left a userfaultfd in the program, which no CRIU can dump.
dump_after_interrupted_attach() {
	local n

	start_tracked pagekeeper 1 --mib 4
	# The first calls try the mechanism on criu itself.
	for ((n = 1; ; n++)); do
		rm -rf "$T/hit" "$T/faulty"
		mkdir "$T/faulty" || die "mkdir"
		(
			export LD_PRELOAD=$INJECT_SO INJECT=getfd:$n:kill INJECT_HIT=$T/hit
			criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/faulty" --track-mem
		) 2>/dev/null
		[ -e "$T/hit" ] || die "nothing is ever left in the program"
		wait_for 5 runs || die "the program does not run"
		! what_it_has killed | grep -q userfaultfd || break
	done
	mkdir "$T/last" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$T/last" || die "the dump failed: $(log_errors "$T/last/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore "$T/last"
	verify_program "after the restore"
	quit_program
}

run_test a_dump_without_tracking_removes_what_an_interrupted_attach_has_left dump_after_interrupted_attach
run_test killed_before_old_marks_are_gone_loses_no_later_write kill_with_old_marks_left
run_test old_marks_that_could_not_be_removed_lose_no_later_write failing_unprotect_with_old_marks_left
run_test a_registration_that_seems_to_have_failed_loses_no_later_write failing_register_with_old_marks_left

awk '{ points += $1; failed += $2 } END { printf "interrupted: %d faults injected, %d rounds failed for it\n", points, failed }' \
	"$POINTS" >&2
finish
