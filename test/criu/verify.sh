#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack verify: a chain of images against the memory of a stopped process.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# verify STATUS [ARG...]: run it, expect the exit status; output in $T/out.
verify() {
	local want=$1 status=0

	shift
	timeout -k 5 120 "$WPTRACK" verify "$@" >"$T/out" 2>&1 || status=$?
	[ "$status" = "$want" ] ||
		die "wptrack verify ${*/#"$T"\//}: status $status, not $want: $(head -n 5 "$T/out" | tr '\n' ' ')"
}

# count NAME: pages that the last verify has counted.
count() {
	sed -n "s/^$1: *\([0-9]*\) pages.*/\1/p" "$T/out"
}

clean_count() {
	sed -n 's/^same: .* \([0-9]*\) of them clean/\1/p' "$T/out"
}

# refused ARG...: no verdict, and one line that says why.
refused() {
	verify 2 "$@"
	[ "$(wc -l <"$T/out")" = 1 ] || die "not one line: $(cat "$T/out")"
}

said() {
	grep -q "$1" "$T/out" || die "nothing like '$1': $(head -n 5 "$T/out" | tr '\n' ' ')"
}

# three_rounds PROGRAM PROCESSES [OPTION...]
three_rounds() {
	local round

	start_tracked "$@"
	for round in 1 2 3; do
		[ "$round" = 1 ] || write_pages 300
		pre_dump
	done
	assert_incremental
}

# all_is_right PID LEAST: as many clean pages at least are the same, and nothing is wrong.
all_is_right() {
	verify 0 "$1" "$DIR"
	[ "$(clean_count)" -ge "$2" ] || die "only $(clean_count) pages are compared and clean, not $2: $(cat "$T/out")"
	[ "$(count wrong)" = 0 ] || die "$(count wrong) pages are wrong"
}

# right_chain PROGRAM: and the verification leaves the tracking as it was.
right_chain() {
	local first

	three_rounds "$1" 1 --mib 32
	write_pages 100
	stop_program
	all_is_right "$PID" 6000
	first=$(count 'changed since')
	[ "$first" -ge 80 ] || die "the program wrote 100 pages, $first have changed"
	said "^images: .* in 3 directories"
	continue_program
	write_pages 2000
	stop_program
	all_is_right "$PID" 4000
	[ "$(count 'changed since')" -ge $((first + 1000)) ] ||
		die "the program wrote 2000 pages more, $first pages have become $(count 'changed since')"
	continue_program
	verify_program "after the verification"
	pre_dump
	assert_incremental
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

plain() {
	right_chain pagekeeper
}

sanitized() {
	right_chain pagekeeper-asan
}

threads() {
	three_rounds pagekeeper 1 --mib 32 --threads 4
	stop_program
	all_is_right "$PID" 6000
	continue_program
	quit_program
}

tree() {
	local pid nr=0

	three_rounds pagekeeper-asan 3 --mib 16 --children 2
	stop_program
	for pid in $(ctl pids); do
		all_is_right "$pid" 3000
		nr=$((nr + 1))
	done
	[ "$nr" = 3 ] || die "$nr processes verified"
	refused "$PID" "$DIR" --image-id 1
	continue_program
	quit_program
}

# Holes have been punched where a later round has the page.
deduplicated() {
	start_tracked pagekeeper 1 --mib 32
	pre_dump --auto-dedup
	write_pages 1000
	pre_dump --auto-dedup
	write_pages 1000
	pre_dump --auto-dedup
	[ "$(stat -c '%b * %B < %s' "$T/1/pages-1.img" | tr -d '\n' | xargs -I{} awk 'BEGIN { print({}) }')" = 1 ] ||
		die "nothing has been punched out of the first round's images"
	stop_program
	all_is_right "$PID" 6000
	continue_program
	quit_program
}

# still_program [OPTION...]: three rounds of a program that does not write any more.
still_program() {
	start_tracked pagekeeper 1 --mib 32 "$@"
	ctl pause || die "the program does not pause"
	pre_dump
	pre_dump
	pre_dump
	stop_program
}

spoil() {
	/usr/bin/python3 "$TEST_DIR/criu/spoil-page.py" "$@" 2>"$T/err" || die "$(tail -n 1 "$T/err")"
}

spoilt_parent() {
	local addr

	still_program
	all_is_right "$PID" 8000
	addr=$(spoil flip "$PID" "$T/3" "$T/2" "$T/1") || exit 1
	verify 1 "$PID" "$DIR"
	[ "$(count wrong)" = 1 ] || die "one page was spoilt, $(count wrong) are wrong"
	said "^WRONG $addr-$(printf '%x' $((0x$addr + 4096))): clean, but differs ($T/1)\$"
	verify 1 "$PID" "$DIR" --json
	/usr/bin/python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["wrong"] == 1 and [r["start"] for r in d["ranges"]] == [int(sys.argv[2], 16)], d
assert d["ranges"][0]["directory"] == sys.argv[3] and d["pid"] == int(sys.argv[4]), d' \
		"$T/out" "$addr" "$T/1" "$PID" 2>"$T/err" || die "$(tail -n 1 "$T/err")"
	continue_program
	quit_program
}

dropped_entry() {
	local addr

	still_program
	addr=$(spoil drop "$PID" "$T/3" "$T/2" "$T/1") || exit 1
	verify 1 "$PID" "$DIR"
	[ "$(count wrong)" = 1 ] || die "one page was forgotten, $(count wrong) are wrong"
	said "^WRONG $addr-$(printf '%x' $((0x$addr + 4096))): clean, but in no image\$"
	continue_program
	quit_program
}

# A page that has been written since may differ in any way.
spoilt_but_written() {
	still_program --rate 40000
	spoil flip "$PID" "$T/3" "$T/2" "$T/1" >/dev/null
	continue_program
	ctl resume || die "the program does not resume"
	# Each page some ten times.
	write_pages 80000
	stop_program
	verify 0 "$PID" "$DIR"
	[ "$(count 'changed since')" -ge 7000 ] || die "only $(count 'changed since') pages have changed"
	continue_program
	quit_program
}

# A frozen process is as good as a stopped one.
frozen() {
	local group=/sys/fs/cgroup/freezer/wptrack-verify-$$ file=freezer.state frozen=FROZEN thawed=THAWED refused=""

	if [ ! -e /sys/fs/cgroup/freezer/cgroup.procs ]; then
		group=/sys/fs/cgroup/wptrack-verify-$$ file=cgroup.freeze frozen=1 thawed=0
	fi
	three_rounds pagekeeper 1 --mib 16 --threads 2
	mkdir "$group" 2>/dev/null || skip "no cgroup with a freezer can be made"
	if echo "$PID" >"$group/cgroup.procs" && echo "$frozen" >"$group/$file"; then
		wait_for 10 grep -Eqs 'FROZEN|frozen 1' "$group/freezer.state" "$group/cgroup.events" ||
			refused="it does not freeze"
		"$WPTRACK" verify "$PID" "$DIR" >"$T/out" 2>&1 || refused=$(cat "$T/out")
	else
		refused="the cgroup does not take it"
	fi
	echo "$thawed" >"$group/$file"
	echo "$PID" >"${group%/*}/cgroup.procs"
	wait_for 10 rmdir "$group" 2>/dev/null || die "the cgroup stays"
	[ -z "$refused" ] || die "$refused"
	[ "$(clean_count)" -ge 3000 ] || die "only $(clean_count) pages are compared and clean"
	quit_program
}

# left_stopped PROGRAM PROCESSES [OPTION...]
left_stopped() {
	local pid

	start_tracked "$@"
	pre_dump
	write_pages 500
	dump_round --leave-stopped
	assert_incremental
	for pid in $(ctl pids); do
		verify 0 "$pid" "$DIR" --exact
		[ "$(count same)" -ge 3000 ] || die "only $(count same) pages are the same"
		for name in 'changed since' 'new since' 'gone since' wrong; do
			[ "$(count "$name")" = 0 ] || die "$name: $(count "$name") pages"
		done
		all_is_right "$pid" 3000
	done
}

exact() {
	left_stopped pagekeeper 3 --mib 16 --children 2
	spoil flip "$PID" "$T/2" >/dev/null
	verify 1 "$PID" "$DIR" --exact
	[ "$(count wrong)" = 1 ] || die "one page was spoilt, $(count wrong) are wrong"
	continue_program
	write_pages 500
	stop_program
	verify 1 "$PID" "$DIR" --exact
	[ "$(count wrong)" -ge 50 ] || die "the program has written, and only $(count wrong) pages differ"
	continue_program
	quit_program
}

exact_sanitized() {
	left_stopped pagekeeper-asan 1 --mib 32
	continue_program
	quit_program
}

# Without tracking nothing is known to be clean: only --exact is possible.
exact_untracked() {
	start_tracked pagekeeper 1 --mib 16
	mkdir "$T/1" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$T/1" --leave-stopped || die "dump: $(log_errors "$T/1/dump.log")"
	verify 0 "$PID" "$T/1" --exact
	refused "$PID" "$T/1"
	said 'only --exact'
	continue_program
	quit_program
}

# has_opened PID FILE
has_opened() {
	[[ $(readlink "/proc/$1/fd/"* 2>/dev/null) == *"$2"* ]]
}

# A signal takes effect a moment after kill(1) has returned.
a_late_stop() {
	local verifier

	three_rounds pagekeeper 1 --mib 8
	timeout -k 5 60 "$WPTRACK" verify "$PID" "$DIR" >"$T/out" 2>&1 &
	verifier=$!
	wait_for 10 has_opened "$(pgrep -P "$verifier")" "/proc/$PID/mem" || die "the process was not opened"
	stop_program
	wait "$verifier" || die "stopped while it was waited for: $(cat "$T/out")"
	continue_program
	quit_program
}

refusals() {
	three_rounds pagekeeper 1 --mib 8 --threads 2
	refused "$PID" "$DIR"
	said "stop it first (kill -STOP $PID)"
	refused "$PID" "$DIR" --exact
	stop_program
	refused "$PID" "$T/2"
	said 'not the round committed last'
	refused 0 "$DIR"
	refused "$PID"
	refused
	refused "$PID" "$DIR" more
	refused "$PID" "$DIR" --all
	refused "$PID" "$DIR" --image-id
	refused "$PID" "$DIR" --image-id 0
	refused 4194305 "$DIR"
	mv "$DIR/wptrack.img" "$T/record" || die "mv"
	refused "$PID" "$DIR"
	said 'only --exact'
	mv "$T/record" "$DIR/wptrack.img" || die "mv"
	verify 0 "$PID" "$DIR"
	"$WPTRACK" release "$PID" >"$T/out" 2>&1 || die "$(cat "$T/out")"
	refused "$PID" "$DIR"
	said 'is not tracked'
	continue_program
	quit_program
}

# Nobody sees what is written into the ring.
asynchronous_io() {
	start_tracked aioring 1
	pre_dump
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
	pre_dump
	stop_program
	refused "$PID" "$DIR"
	said 'written to unseen'
	continue_program
	quit_program
}

has_child() {
	session_pids "$1" | grep -qvx "$1"
}

# CRIU names images by the pid in the process's own namespace.
pid_namespace() {
	local inner

	start_program unshare --pid --fork --kill-child sleep 1000
	wait_for 10 has_child "$PID" || die "nothing runs in the namespace"
	inner=$(session_pids "$PID" | grep -vx "$PID")
	kill -STOP "$inner" || die "kill"
	wait_for 10 every_thread T "$inner" || die "$inner does not stop"
	mkdir "$T/1" || die "mkdir"
	refused "$inner" "$T/1" --exact
	said "$T/1/pagemap-1.img: No such file"
	refused "$inner" "$T/1" --exact --image-id 17
	said "$T/1/pagemap-17.img: No such file"
}

# damaged_by CMD...: with the chain in that state there is no verdict; then it is put back.
damaged_by() {
	cp -a "$T/1" "$T/2" "$T/3" "$T/kept" || die "cp"
	"$@" >/dev/null || die "$*: failed"
	refused "$PID" "$DIR"
	rm -rf "$T/1" "$T/2" "$T/3" || die "rm"
	mv "$T/kept"/* "$T" || die "mv"
}

damaged_images() {
	local name

	still_program
	mkdir "$T/kept" || die "mkdir"
	refused "$PID" "$T/nowhere"
	damaged_by rm "$T/3/pagemap-$PID.img"
	damaged_by rm "$T/2/pages-1.img"
	damaged_by truncate -s -4096 "$T/1/pages-1.img"
	said "$T/1/pagemap-$PID.img is damaged: its pages image is too short"
	damaged_by truncate -s -1 "$T/3/pagemap-$PID.img"
	damaged_by truncate -s 7 "$T/2/pagemap-$PID.img"
	damaged_by spoil drop "$PID" "$T/2" "$T/1"
	said 'which does not have it'
	damaged_by rm "$T/2/parent"
	damaged_by ln -sfn ../3 "$T/2/parent"
	said 'lead back'
	for name in 0 6 8 12 18; do
		damaged_by dd if=/dev/zero of="$T/3/pagemap-$PID.img" bs=1 seek="$name" count=1 conv=notrunc status=none
	done
	all_is_right "$PID" 8000
	continue_program
	quit_program
}

run_test a_chain_is_what_the_process_has plain
run_test a_sanitized_chain_is_what_the_process_has sanitized
run_test a_chain_is_what_a_threaded_process_has threads
run_test each_process_of_a_tree_has_its_own_images tree
run_test punched_parents_are_not_read deduplicated
run_test a_spoilt_page_of_an_old_round_is_found spoilt_parent
run_test a_page_that_the_images_forgot_is_found dropped_entry
run_test a_page_written_since_may_differ spoilt_but_written
run_test a_frozen_process_is_accepted frozen
run_test a_stopped_process_is_what_was_dumped exact
run_test a_stopped_sanitized_process_is_what_was_dumped exact_sanitized
run_test without_tracking_there_is_no_verdict_but_an_exact_one exact_untracked
run_test a_stop_may_take_a_moment a_late_stop
run_test what_cannot_be_judged_is_refused refusals
run_test writes_that_nobody_sees_are_not_judged asynchronous_io
run_test images_are_those_of_the_pid_in_the_namespace pid_namespace
run_test damaged_images_are_refused damaged_images
finish
