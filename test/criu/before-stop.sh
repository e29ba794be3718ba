#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Dumps that make a live pre-dump right before they stop the program.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# written DIR, skipped DIR
written() {
	stat_of "$1" pages_written
}

skipped() {
	stat_of "$1" pages_skipped_parent
}

# assert_split PAGES: the pre-dump took these pages at least, the dump what little was written meanwhile.
assert_split() {
	[ "$(written "$DIR/pre-dump")" -ge "$1" ] || die "the pre-dump wrote $(written "$DIR/pre-dump") pages, not $1"
	[ "$(skipped "$DIR")" -ge $(($1 * 3 / 4)) ] || die "the dump left $(skipped "$DIR") pages to the pre-dump, which has $1"
	[ "$(written "$DIR")" -lt $(($(skipped "$DIR") / 4)) ] || die "the dump wrote $(written "$DIR") pages itself"
	[ "$(readlink "$DIR/parent")" = pre-dump ] || die "the parent is $(readlink "$DIR/parent")"
}

alone() {
	start_tracked pagekeeper 1 --mib 64
	final_dump --pre-dump-before-stop
	assert_split 16384
	[ ! -e "$DIR/pre-dump/parent" ] || die "the pre-dump has a parent"
	restore_and_verify
	quit_program
}

after_others() {
	start_tracked pagekeeper 3 --mib 64 --children 2
	pre_dump --pre-dump-mode splice
	write_pages 300
	pre_dump --pre-dump-mode live
	write_pages 1000
	final_dump --pre-dump-before-stop
	[ "$(readlink "$DIR/pre-dump/parent")" = ../../2 ] || die "the parent is $(readlink "$DIR/pre-dump/parent")"
	[ "$(stat_of "$DIR/pre-dump" frozen_time)" = 0 ] || die "the pre-dump has stopped the program"
	[ "$(skipped "$DIR/pre-dump")" -gt 10000 ] || die "the pre-dump left $(skipped "$DIR/pre-dump") pages to its parent"
	assert_split 1000
	restore_and_verify
	quit_program
}

sanitized() {
	start_tracked pagekeeper-asan 1 --mib 48
	pre_dump --pre-dump-mode live
	write_pages 1000
	final_dump --pre-dump-before-stop
	assert_split 1000
	restore_and_verify
	quit_program
}

# A restore from the middle of such a chain, too.
snapshots() {
	start_tracked pagekeeper 1 --mib 32
	dump_round --leave-running --pre-dump-before-stop
	assert_split 8000
	write_pages 1000
	dump_round --leave-running --pre-dump-before-stop
	assert_split 1000
	[ "$(skipped "$DIR/pre-dump")" -gt 4000 ] || die "the pre-dump left $(skipped "$DIR/pre-dump") pages to its parent"
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

over_rpc() {
	local out

	start_tracked pagekeeper 1 --mib 32
	pre_dump
	write_pages 1000
	new_round
	out=$(CRIU_LIBS_DIR=$PLUGINS timeout "$CRIU_TIMEOUT" "$TEST_BIN/criu-rpc" "$CRIU" dump "$PID" "$DIR" --parent ../1 \
		--before-stop 2>&1) || die "$out $(log_errors "$DIR/criu.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	assert_split 1000
	restore_and_verify
	quit_program
}

# refused TEXT COMMAND [OPTION...]: with that text, and the program runs on unharmed.
refused() {
	local text=$1 command=$2

	shift 2
	mkdir -p "$T/1" || die "mkdir"
	if criu_cmd log "$command" -t "$PID" -D "$T/1" --pre-dump-before-stop "$@" >"$T/out" 2>&1; then
		die "$command $* has succeeded"
	fi
	cat "$T/1/log" >>"$T/out" 2>/dev/null
	grep -qF -- "$text" "$T/out" || die "$command $* does not say '$text': $(cat "$T/out")"
	[ ! -e "$T/1/inventory.img" ] || die "$command $* has dumped"
	verify_program "after $command $*"
}

refusals() {
	start_tracked pagekeeper 1 --mib 16
	refused 'Use pre-dump and dump instead' dump --page-server --address 127.0.0.1 --port 1
	[ ! -e "$T/1/pre-dump" ] || die "a refused dump has made a directory"
	: >"$T/1/pre-dump"
	refused 'What is called pre-dump is no directory' dump
	rm "$T/1/pre-dump"
	mkdir "$T/elsewhere" && ln -s ../elsewhere "$T/1/pre-dump" || die "mkdir"
	refused 'What is called pre-dump is no directory' dump
	[ -z "$(ls "$T/elsewhere")" ] || die "a link was followed"
	rm -r "$T/1"
	mkdir "$T/1" "$T/none" || die "mkdir"
	if timeout "$CRIU_TIMEOUT" "$CRIU" dump -t "$PID" -D "$T/1" --pre-dump-before-stop -L "$T/none" -o log >"$T/out" 2>&1; then
		die "it succeeds without a plugin"
	fi
	cat "$T/1/log" >>"$T/out" 2>/dev/null
	grep -qE 'Tracking memory is not available|needs a plugin that tracks memory' "$T/out" || die "what is missing is not told: $(cat "$T/out")"
	verify_program "after the refusal"
	quit_program
}

# again NAME [OPTION...]: one more dump into the directory $T/NAME, which may have images already.
again() {
	DIR=$T/$1
	shift
	mkdir -p "$DIR" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --pre-dump-before-stop "$@" || die "dump: $(log_errors "$DIR/dump.log")"
}

used_again() {
	start_tracked pagekeeper 1 --mib 32
	again used --leave-running
	write_pages 1000
	again used --leave-running
	assert_split 8000
	[ "$(skipped "$DIR/pre-dump")" = 0 ] || die "the pre-dump has left pages to what it overwrites"
	# With a parent, and then without it.
	write_pages 300
	again other --leave-running
	write_pages 300
	again used --leave-running --prev-images-dir ../other
	[ "$(readlink "$DIR/pre-dump/parent")" = ../../other ] || die "the parent is $(readlink "$DIR/pre-dump/parent")"
	[ "$(skipped "$DIR/pre-dump")" -gt 4000 ] || die "the pre-dump left $(skipped "$DIR/pre-dump") pages to its parent"
	write_pages 300
	again used --leave-running
	[ ! -L "$DIR/pre-dump/parent" ] || die "the pre-dump has the parent of an earlier one"
	[ "$(skipped "$DIR/pre-dump")" = 0 ] || die "the pre-dump has left pages to nobody"
	if criu_cmd refused.log dump -t "$PID" -D "$DIR" --pre-dump-before-stop --leave-running --prev-images-dir pre-dump; then
		die "a pre-dump is its own parent"
	fi
	grep -qa 'which a pre-dump before the dump would overwrite' "$DIR/refused.log" || die "$(log_errors "$DIR/refused.log")"
	write_pages 300
	again used
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	assert_split 8000
	restore_and_verify
	quit_program
}

# As from a configuration file, which is read by all commands.
of_no_effect() {
	start_tracked pagekeeper 1 --mib 16
	pre_dump --pre-dump-before-stop
	[ ! -e "$DIR/pre-dump" ] || die "a pre-dump makes a pre-dump first"
	write_pages 300
	final_dump --pre-dump-before-stop
	restore_images "$DIR" --pre-dump-before-stop
	ctl ready 1 || die "restored, but the program does not run"
	verify_program "after the restore"
	quit_program
}

pre_dumping() {
	pgrep -P "$CRIU_PID" >/dev/null && grep -q 'hook 66' "$DIR/dump.log"
}

# Who kills criu ends its pre-dump, too, and the next dump is right.
killed() {
	local child

	start_tracked pagekeeper 1 --mib 64
	pre_dump --pre-dump-mode live
	write_pages 300
	new_round
	"$CRIU" dump -t "$PID" -D "$DIR" "${PREV[@]}" --pre-dump-before-stop --pre-dump-rate 64K -L "$PLUGINS" -v4 -o dump.log \
		</dev/null >/dev/null 2>&1 &
	CRIU_PID=$!
	wait_for 10 pre_dumping || die "the pre-dump does not begin: $(log_errors "$DIR/dump.log")"
	child=$(pgrep -P "$CRIU_PID")
	kill -9 "$CRIU_PID"
	wait "$CRIU_PID" 2>/dev/null
	wait_for 5 eval "! [ -e /proc/$child ]" || die "the pre-dump goes on"
	verify_program "after the kill"
	new_round
	PREV=()
	epoch_next
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --pre-dump-before-stop || die "the next dump: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	assert_full_pre_dump
	restore_and_verify
	quit_program
}

# There is no room for the pages: nobody has been stopped, and the next dump is right.
no_room() {
	start_tracked pagekeeper 1 --mib 32 --spin
	pre_dump --pre-dump-mode live
	write_pages 3000
	mkdir "$T/small" && mount -t tmpfs -o size=4m none "$T/small" || die "mount"
	echo "$T/small" >>"$T/mounts"
	if criu_cmd ../dump.log dump -t "$PID" -D "$T/small" --pre-dump-before-stop --prev-images-dir ../1; then
		die "a dump without room has succeeded"
	fi
	grep -q 'The pre-dump before the dump failed, nobody is stopped' "$T/dump.log" || die "it is not told"
	! grep -q 'Seized task' "$T/dump.log" || die "the program was seized"
	verify_program "after the failure"
	write_pages 300
	final_dump --pre-dump-before-stop
	assert_full_pre_dump
	restore_and_verify
	quit_program
}

# A failed round is no base for another.
assert_full_pre_dump() {
	[ "$(skipped "$DIR/pre-dump")" = 0 ] || die "the pre-dump has left $(skipped "$DIR/pre-dump") pages to its parent"
}

run_test a_dump_makes_its_own_pre_dump alone
run_test a_dump_of_a_tree_makes_one_more_pre_dump after_others
run_test a_dump_of_a_sanitized_program_makes_one_more_pre_dump sanitized
run_test snapshots_make_their_own_pre_dumps snapshots
run_test a_dump_over_rpc_makes_one_more_pre_dump over_rpc
run_test where_there_can_be_no_pre_dump_it_is_refused refusals
run_test a_directory_can_be_used_again used_again
run_test other_commands_do_not_mind of_no_effect
run_test a_pre_dump_ends_with_its_dump killed
run_test a_pre_dump_that_fails_stops_nobody no_room
finish
