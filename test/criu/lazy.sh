#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Lazy restore of sparse programs: it works, or it is refused and nothing is lost.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

start_lazy_pages() {
	timeout -k 5 60 "$CRIU" lazy-pages -D "$DIR" -v4 -o lazy-pages.log </dev/null >/dev/null 2>&1 &
	LAZY=$!
	wait_for 10 test -S "$DIR/lazy-pages.socket" || die "lazy-pages does not listen"
}

lazily() {
	criu_cmd lazy.log restore -D "$DIR" --restore-detached --lazy-pages
}

dumped() {
	start_tracked "$1" 1 --mib 16
	write_pages 200
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	start_lazy_pages
}

works() {
	dumped "$1"
	lazily || die "lazy restore failed: $(log_errors "$DIR/lazy.log")"
	verify_program "after a lazy restore"
	write_pages 200
	verify_program "after a lazy restore and more writes"
	wait "$LAZY" || die "lazy-pages failed: $(log_errors "$DIR/lazy-pages.log")"
	quit_program
}

is_refused() {
	dumped "$1"
	! lazily || die "the lazy restore was not refused"
	grep -q "Restore it without --lazy-pages" "$DIR/lazy.log" || die "no clear error: $(log_errors "$DIR/lazy.log")"
	# Fails, as its restore has gone.
	wait "$LAZY"
	restore_and_verify
	quit_program
}

plain() {
	works pagekeeper
}

asan() {
	works pagekeeper-asan
}

msan() {
	is_refused pagekeeper-clang-msan
}

tsan() {
	is_refused pagekeeper-clang-tsan
}

# pages WHAT START END: how many pages of the range are that in the images.
pages() {
	"$TEST_BIN/criu-pagemap" "$DIR" "$PID" "$2" "$3" | awk -v what="$1" '$1 == what { print $2 }'
}

# Whoever resumes a thread needs its stack at once.
stack() {
	local sp page end

	start_program /bin/sleep 600
	wait_for 10 grep -q '^[0-9]' "/proc/$PID/syscall" || die "it does not sleep"
	sp=$(awk '{ print $8 }' "/proc/$PID/syscall")
	printf -v page %x $((sp & ~4095))
	printf -v end %x $(((sp & ~4095) + 4096))
	DIR=$T/1
	mkdir "$DIR" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	[ "$(pages lazy 0 7ffffffff000)" -gt 0 ] || die "nothing at all may be fetched later"
	[ "$(pages present "$page" "$end")" = 1 ] || die "the page at $page is not in the images"
	[ "$(pages lazy "$page" "$end")" = 0 ] || die "the page that the stack pointer is in may be fetched later"
}

run_anywhere the_page_that_a_stack_pointer_is_in_is_not_left_to_be_fetched_later stack
run_test a_plain_program_is_restored_lazily plain
run_test an_address_sanitized_program_is_restored_lazily asan
run_test lazy_restore_of_a_memory_sanitized_program_is_refused msan
run_test lazy_restore_of_a_thread_sanitized_program_is_refused tsan
finish
