#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What a restored program has its memory in.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# with_huge_pages MIB ROUNDS: what was in huge pages is in huge pages again.
with_huge_pages() {
	local round huge rss

	start_with_huge_pages "$1"
	for ((round = 0; round < $2; round++)); do
		pre_dump --pre-dump-mode live
		write_pages 300
	done
	# What the rounds have split is not to be had again.
	huge=$(rollup "$PID" AnonHugePages) rss=$(rollup "$PID" Rss)
	final_dump
	restore
	has_huge "$((huge * 9 / 10))" || die "huge pages: $huge kB before, $(rollup "$PID" AnonHugePages) kB after the restore"
	[ "$(rollup "$PID" Rss)" -le $((rss + rss / 50 + 1024)) ] || die "resident: $rss kB before, $(rollup "$PID" Rss) kB after the restore"
	verify_program "after the restore"
	write_pages 500
	verify_program "after the restore and more writes"
	quit_program
}

huge_of_one_image() {
	with_huge_pages 64 0
}

huge_of_a_chain() {
	with_huge_pages 64 2
}

# spoiled_end ROUNDS: pages images that have not been copied to their end. It must not be tried for ever.
spoiled_end() {
	local round pages

	start_tracked pagekeeper 1 --mib 16 --rate 1000
	for ((round = 0; round < $1; round++)); do
		pre_dump --pre-dump-mode live
		write_pages 300
	done
	final_dump
	pages=$(echo "$T"/1/pages-*.img)
	cp "$pages" "$T/pages" && truncate -s 8192 "$pages" || die "truncate"
	CRIU_TIMEOUT=30 criu_cmd restore.log restore -D "$DIR" --restore-detached
	[ $? = 1 ] || die "the restore does not fail by itself"
	grep -q 'Pages image ends at' "$DIR/restore.log" || die "$(log_errors "$DIR/restore.log")"
	wait_for 10 session_is_gone "$PID" || die "something of the program is there"
	cp "$T/pages" "$pages" || die "cp"
	restore_and_verify
	quit_program
}

one_image_ends_early() {
	spoiled_end 0
}

an_image_of_a_chain_ends_early() {
	spoiled_end 1
}

run_test a_pages_image_that_ends_too_early_is_refused one_image_ends_early
run_test a_pages_image_of_a_chain_that_ends_too_early_is_refused an_image_of_a_chain_ends_early
run_test huge_pages_of_a_program_are_huge_again huge_of_one_image
run_test huge_pages_of_a_chain_are_huge_again huge_of_a_chain
finish
