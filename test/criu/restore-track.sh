#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# criu restore --track-mem: the first round after a restore writes what was written since.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# restore_tracked [OPTION...]: the last round, with tracking from the first instruction on.
restore_tracked() {
	restore_images "$DIR" --track-mem "$@"
	[ -e "/proc/$PID" ] || die "restored, but process $PID is not there"
}

# tracked_from GENERATION: what the log of the restore says.
is_tracked() {
	[ "$(grep -c 'wptrack: .* restored from generation .* (tracked)' "$DIR/restore.log")" = "$PROCESSES" ] ||
		die "not all are tracked after the restore: $(grep -E 'wptrack|mem-track' "$DIR/restore.log" | tail -n 5)"
}

# all_as_in_images: each page of each process is as the images have it, or is called written. Nobody runs.
all_as_in_images() {
	local pid

	for pid in $(ctl pids); do
		timeout -k 5 120 "$WPTRACK" verify "$pid" "$DIR" >"$T/out" 2>&1 || die "verify $pid: $(head -n 5 "$T/out" | tr '\n' ' ')"
		[ "$(sed -n 's/^same: .* \([0-9]*\) of them clean/\1/p' "$T/out")" -ge "$1" ] || die "too little is called clean: $(cat "$T/out")"
	done
}

# goes_on MODE...: rounds on top of the restored images. The first one is incremental, too.
goes_on() {
	local mode

	for mode in "$@"; do
		write_pages 300
		if [ "$mode" = dump ]; then
			final_dump
		else
			pre_dump --pre-dump-mode "$mode"
		fi
		assert_incremental
	done
}

# dumped PROGRAM PROCESSES [OPTION...]: a chain of three.
dumped() {
	start_tracked "$@"
	pre_dump
	write_pages 300
	pre_dump
	write_pages 300
	final_dump
	assert_incremental
}

# runs [OPTION...]: restored, tracked, and going on.
runs() {
	restore_tracked "$@"
	is_tracked
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
}

# round_trips N PROGRAM PROCESSES [OPTION...]: as often restored, tracked, pre-dumped, dumped.
round_trips() {
	local n=$1 i

	shift
	dumped "$@"
	for ((i = 0; i < n; i++)); do
		runs
		verify_program "after restore $i"
		if [ $((i % 2)) = 0 ]; then
			goes_on splice live dump
		else
			goes_on dump
		fi
	done
	restore_and_verify
	quit_program
}

once() {
	round_trips 1 pagekeeper 1 --mib 64
}

ping_pong() {
	round_trips 5 pagekeeper 1 --mib 32
}

tree() {
	round_trips 2 pagekeeper 4 --mib 32 --threads 2 --children 3
}

sanitized_tree() {
	round_trips 2 pagekeeper-asan 3 --mib 32 --children 2
}

# Nobody has run yet: what is called clean is in the images as it is in memory, each page of it.
each_page() {
	dumped "$1" "$2" "${@:4}"
	restore_tracked --leave-stopped
	is_tracked
	all_as_in_images "$3"
	continue_program
	ctl ready "$PROCESSES" || die "the program does not run"
	write_pages 300
	stop_program
	all_as_in_images $(($3 / 2))
	continue_program
	goes_on dump
	restore_and_verify
	quit_program
}

each_page_of_one() {
	each_page pagekeeper 1 8000 --mib 32 --threads 4
}

each_page_of_a_tree() {
	each_page pagekeeper 4 3000 --mib 16 --threads 2 --children 3
}

each_page_sanitized() {
	each_page pagekeeper-asan 1 6000 --mib 32
}

# sanitized COMPILER-SANITIZER: their shadows are written with the memory, so there is no bound.
sanitized() {
	start_tracked "pagekeeper-$1" 1 --mib 32
	pre_dump
	write_pages 300
	final_dump
	# To verify its memory would have it write to its shadow.
	runs
	write_pages 300
	pre_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt $((2 * $(stat_of "$DIR" pages_written))) ] ||
		die "round $ROUND wrote $(stat_of "$DIR" pages_written) pages, and left $(stat_of "$DIR" pages_skipped_parent) to its parent"
	write_pages 300
	final_dump
	restore_and_verify
	quit_program
}

sanitized_msan() {
	sanitized clang-msan
}

sanitized_tsan() {
	sanitized clang-tsan
}

# What khugepaged or the restore put into memory beside what the images have is no page of a parent's.
huge_pages() {
	start_with_huge_pages 64
	pre_dump
	write_pages 300
	final_dump
	runs
	goes_on splice live dump
	restore_and_verify
	quit_program
}

proxied_vdso() {
	dumped pagekeeper 1 --mib 16
	export CRIU_FAULT=127
	runs
	unset CRIU_FAULT
	grep -q 'generate proxy' "$DIR/restore.log" || die "the restore has made no vDSO proxy"
	goes_on splice dump
	restore_and_verify
	quit_program
}

filtered() {
	local CONFINE=seccomp

	dumped pagekeeper 1 --mib 16
	runs
	goes_on splice dump
	restore_and_verify
	quit_program
}

# ends_right [WHY]: the round that has just been made is full, and the next one is not.
ends_right() {
	assert_full "$@"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

# One program, restored twice: each copy has a session of its own, and neither goes on from what the other has made.
twice() {
	local first second

	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	pre_dump
	assert_incremental
	first=$("$WPTRACK" show "$DIR" | head -n 5) || die "no record"
	write_pages 300
	kill_program

	# Another one of the same images. Its page numbers go back.
	runs_again 3
	write_pages 300
	PREV=()
	pre_dump --prev-images-dir "../4"
	assert_full "these are the other copy's"
	second=$("$WPTRACK" show "$DIR" | head -n 5) || die "no record"
	[ "$(grep session <<<"$first")" != "$(grep session <<<"$second")" ] || die "both are one session: $first"
	kill_program

	runs_again 3
	write_pages 300
	pre_dump --prev-images-dir "../3"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "the third copy is full"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

# inside HOLDER COMMAND...: in its pid namespace.
inside() {
	local holder=$1

	shift
	nsenter -t "$holder" --pid --mount timeout -k 5 "$CRIU_TIMEOUT" "$@" </dev/null >/dev/null 2>&1
}

# copy_round HOLDER NAME PREV: a pre-dump of the copy in there.
copy_round() {
	mkdir "$T/$2" || die "mkdir"
	inside "$1" "$CRIU" pre-dump -t "$PID" -D "$T/$2" --prev-images-dir "../$3" -L "$PLUGINS" -v4 -o pre-dump.log ||
		die "$2: $(log_errors "$T/$2/pre-dump.log")"
}

# Two copies that run at the same time, each in a pid namespace, with one keeper. Both have the same number.
# Private pages of libraries are dumped in each round.
at_the_same_time() {
	local holders=() program i

	start_program /usr/bin/python3 -S -c 'import time; b = bytearray(b"x") * (16 << 20); time.sleep(1000)'
	sleep 1
	ROUND=0
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem || die "dump: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	program=$PID
	for i in a b; do
		start_program unshare --pid --fork --kill-child --mount --mount-proc sleep 300
		wait_for 10 has_child "$PID" || die "no pid namespace"
		holders+=("$(pgrep -P "$PID")")
		PID=$program
		inside "${holders[-1]}" "$CRIU" restore -D "$DIR" -d --track-mem -L "$PLUGINS" -v4 -o "restore-$i.log" ||
			die "restore: $(log_errors "$DIR/restore-$i.log")"
		grep -q 'restored from generation .* (tracked)' "$DIR/restore-$i.log" || die "copy $i is not tracked"
	done
	copy_round "${holders[0]}" a1 1
	copy_round "${holders[1]}" b1 1
	copy_round "${holders[0]}" a2 a1
	copy_round "${holders[1]}" b2 a1
	for i in a1 b1 a2; do
		[ "$(stat_of "$T/$i" pages_skipped_parent)" -ge 4000 ] || die "$i left nothing to its parent"
		[ "$(stat_of "$T/$i" pages_written)" -le 600 ] || die "$i wrote $(stat_of "$T/$i" pages_written) pages"
	done
	[ "$(stat_of "$T/b2" pages_skipped_parent)" = 0 ] || die "b2 goes on from the other copy"
}

has_child() {
	pgrep -P "$1" >/dev/null
}

kill_program() {
	kill_session "$PID"
	wait_for 10 session_is_gone "$PID" || die "the program does not go"
}

# runs_again ROUND: from images of before.
runs_again() {
	DIR=$T/$1
	runs
}

# changed COMMAND...: something is done to the images after the restore, in $T.
changed() {
	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	(cd "$T" && "$@") || die "$*"
	pre_dump
	ends_right "$*"
}

# The same bytes once more: who could tell?
rewrite() {
	cp "$1" copy && cat copy >"$1"
}

images_changed() {
	changed rewrite 3/pages-1.img
}

first_images_changed() {
	changed rewrite 1/pages-1.img
}

# rewrite_dump: somebody else's dump comes into the directory, by a criu that leaves the session record alone.
other_dump_in_there() {
	local ours own=$PROCESSES

	mkdir no && cp 3/wptrack.img . || return 1
	ours=$PID
	start_program "$TEST_BIN/pagekeeper" --control "$(other_control)" --mib 32
	timeout -k 5 60 "$CRIU" dump -t "$PID" -D 3 -L "$T/no" -v4 -o other.log </dev/null >/dev/null 2>&1 || return 1
	PID=$ours PROCESSES=$own
	mv wptrack.img 3/
}

other_control() {
	"$TEST_BIN/pkctl" "$T/other" create && echo "$T/other"
}

replaced_images() {
	changed other_dump_in_there
}

record_gone() {
	changed rm 3/wptrack.img
}

# Not the directory that it has been restored from, though one of its chain.
other_directory() {
	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	pre_dump --prev-images-dir "../2"
	ends_right "the parent is an older one"
}

no_directory() {
	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	PREV=()
	ROUND=0
	mv "$T/1" "$T/a" && mv "$T/2" "$T/b" && mv "$T/3" "$T/c" || die "mv"
	pre_dump
	assert_full "there is no parent"
	quit_program
}

keeper_killed() {
	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	kill -9 "$(keeper_pid)" || die "kill"
	wait_for 10 is_nobody_listening || die "the keeper is there"
	pre_dump
	ends_right "the keeper has been killed"
}

is_nobody_listening() {
	[ -z "$(keeper_pid)" ]
}

# A round that came to nothing: the next one must not go on from the images that were restored.
interrupted() {
	dumped pagekeeper 1 --mib 32
	runs
	write_pages 300
	# It has collected, and has nowhere to write.
	new_round
	mkdir "$DIR/stats-dump" "$DIR/inventory.img" || die "mkdir"
	! criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" || die "it did not fail"
	grep -q 'restored\|generation' "$DIR/pre-dump.log" || die "it had not begun: $(log_errors "$DIR/pre-dump.log")"
	write_pages 300
	pre_dump --prev-images-dir "../3"
	ends_right "the round before failed"
}

# not_tracked PATTERN [OPTION...]: the program is restored all the same, a message says why it is not tracked.
not_tracked() {
	local pattern=$1

	shift
	restore_tracked "$@"
	grep -q "Warn.*$pattern" "$DIR/restore.log" || die "no message: $(grep -E 'wptrack|mem-track' "$DIR/restore.log" | tail -n 5)"
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
	verify_program "after the restore"
}

no_record() {
	start_tracked pagekeeper 1 --mib 32
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "the dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	not_tracked "there is none"
	write_pages 300
	pre_dump
	ends_right "there was no record"
}

deduplicated() {
	dumped pagekeeper 1 --mib 32
	not_tracked "auto-dedup" --auto-dedup
	quit_program
}

no_plugin() {
	mkdir "$T/none" || die "mkdir"
	dumped pagekeeper 1 --mib 32
	PLUGINS=$T/none not_tracked "Memory is not tracked from the restore on"
	write_pages 300
	pre_dump
	ends_right "there was no plugin"
}

no_keeper() {
	dumped pagekeeper 1 --mib 32
	wait_for 10 keeper_is_gone || die "the keeper stays"
	# It lies beside the plugin.
	mkdir "$T/plugins" && cp "$PLUGINS/wptrack_plugin.so" "$T/plugins" || die "cp"
	PLUGINS=$T/plugins not_tracked "it will be dumped in full"
	write_pages 300
	pre_dump
	ends_right "there was no keeper"
}

# Memory that is read later is not armed.
lazy() {
	dumped pagekeeper 1 --mib 16
	timeout -k 5 60 "$CRIU" lazy-pages -D "$DIR" -v4 -o lazy-pages.log </dev/null >/dev/null 2>&1 &
	wait_for 10 test -S "$DIR/lazy-pages.socket" || die "lazy-pages does not listen"
	not_tracked "lazy-pages" --lazy-pages
	wait $! || die "lazy-pages failed: $(log_errors "$DIR/lazy-pages.log")"
	write_pages 300
	pre_dump
	ends_right "it was restored lazily"
}

over_rpc() {
	local out

	dumped pagekeeper 1 --mib 32
	out=$(CRIU_LIBS_DIR=$PLUGINS timeout "$CRIU_TIMEOUT" "$TEST_BIN/criu-rpc" "$CRIU" restore "$DIR" 2>&1) ||
		die "$out $(log_errors "$DIR/criu.log")"
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
	goes_on splice dump
	restore_and_verify
	quit_program
}

by_configuration() {
	dumped pagekeeper 1 --mib 32
	echo track-mem >"$T/config"
	restore_images "$DIR" --config "$T/config"
	is_tracked
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
	goes_on splice dump
	restore_and_verify
	quit_program
}

# A restore that fails leaves no keeper behind, and the images as they were.
failed_restore() {
	dumped pagekeeper 1 --mib 16
	printf '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n' >"$T/script" && chmod +x "$T/script"
	! criu_cmd restore.log restore -D "$DIR" --restore-detached --track-mem --action-script "$T/script" ||
		die "the restore has not failed"
	wait_for 10 session_is_gone "$PID" || die "the program is there"
	wait_for 10 keeper_is_gone || die "the keeper is there"
	runs
	goes_on dump
	restore_and_verify
	quit_program
}

aio() {
	start_tracked aioring 1
	pre_dump
	final_dump
	restore_tracked
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
	pre_dump
	assert_full "asynchronous I/O"
	ctl quit
	wait_for 10 session_is_gone "$PID" || die "the program does not go"
}

# Without the option a restore is what it was.
without() {
	dumped pagekeeper 1 --mib 16
	restore
	wait_for 10 keeper_is_gone || die "there is a keeper"
	! grep -q 'wptrack: .*restored' "$DIR/restore.log" || die "it is tracked"
	write_pages 300
	pre_dump
	ends_right "it was not tracked"
}

run_test the_first_round_after_a_restore_is_incremental once
run_test a_program_goes_to_and_fro ping_pong
run_test a_tree_goes_on_from_the_restore tree
run_test a_sanitized_tree_goes_on_from_the_restore sanitized_tree
run_test a_program_with_msan_goes_on_from_the_restore sanitized_msan
run_test a_program_with_tsan_goes_on_from_the_restore sanitized_tsan
run_test each_page_is_as_in_the_images_when_a_restored_program_is_armed each_page_of_one
run_test each_page_of_a_tree_is_as_in_the_images_when_it_is_armed each_page_of_a_tree
run_test each_page_of_a_sanitized_program_is_as_in_the_images_when_it_is_armed each_page_sanitized
run_test huge_pages_go_on_from_the_restore huge_pages
run_test a_program_with_a_vdso_proxy_goes_on_from_the_restore proxied_vdso
run_test a_program_whose_filter_kills_userfaultfd_goes_on_from_the_restore filtered
run_test two_copies_of_one_program_do_not_mix twice
run_test two_copies_that_run_at_the_same_time_do_not_mix at_the_same_time
run_test images_that_are_written_to_after_the_restore_are_no_parent images_changed
run_test a_chain_that_is_written_to_after_the_restore_is_no_parent first_images_changed
run_test images_that_are_replaced_after_the_restore_are_no_parent replaced_images
run_test images_whose_record_is_lost_are_no_parent record_gone
run_test another_directory_of_the_chain_is_no_parent other_directory
run_test without_a_parent_the_round_after_a_restore_is_full no_directory
run_test a_keeper_that_is_killed_after_the_restore_makes_the_round_full keeper_killed
run_test a_round_after_a_restore_that_failed_makes_the_next_full interrupted
run_test images_without_a_record_are_restored_and_not_tracked no_record
run_test a_lazy_restore_is_not_tracked lazy
run_test over_rpc_a_program_goes_on_from_the_restore over_rpc
run_test a_configuration_file_can_have_restored_programs_tracked by_configuration
run_test a_restore_that_deduplicates_is_not_tracked deduplicated
run_test without_a_plugin_the_restore_succeeds no_plugin
run_test without_a_keeper_the_restore_succeeds no_keeper
run_test a_restore_that_fails_leaves_nothing_tracked failed_restore
run_test asynchronous_io_is_dumped_in_full_after_a_restore aio
run_test without_the_option_a_restore_tracks_nothing without
finish
