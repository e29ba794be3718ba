#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Large reservations with few pages in them, without any sanitizer.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Were something to go through all that is reserved, page by page, criu would
# not be done before the time-out of lib.sh.

one_step() {
	ctl step 30 || die "a step failed: $(tail -n 3 "$T/program.log")"
	verify_sparse "after a step"
}

verify_sparse() {
	local out

	out=$(ctl verify 30) || die "$1: $out"
}

# sparse PROCESSES SKIPPED OPTION...: two pre-dumps and a dump; each later round
# leaves at least SKIPPED pages to its parent.
sparse() {
	local processes=$1 skipped=$2

	shift 2
	start_tracked sparse "$processes" "$@"
	pre_dump
	assert_full "there is no parent"
	one_step
	pre_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -ge "$skipped" ] || die "round 2 left too little to its parent"
	one_step
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -ge "$skipped" ] || die "the dump left too little to its parent"
	restore
	verify_sparse "after the restore"
	one_step
	quit_program
}

private_64_tib() {
	sparse 1 2000 --tib 64
}

forked_64_tib() {
	sparse 2 4000 --tib 64 --fork
}

private_1_tib() {
	sparse 2 4000 --tib 1 --fork
}

# percent_shared PID: of the pages in its mappings of more than 1 TiB, how many others map as well.
percent_shared() {
	awk '/^Size:/ { giant = $2 > 2 ^ 30 } giant && /^Rss:/ { rss += $2 } giant && /^Shared_/ { shared += $2 }
		END { print rss ? int(shared * 100 / rss) : 0 }' "/proc/$1/smaps"
}

# open_2_tib PAGES PERCENT: a forked reservation with pages in a row, most of them in the parent images, of which at least
# so many are shared after the restore.
open_2_tib() {
	local pid percent

	start_tracked sparse 2 --tib 2 --open --dense "$1" --fork
	pre_dump
	one_step
	final_dump
	restore
	for pid in $(ctl pids); do
		percent=$(percent_shared "$pid") || die "smaps"
		[ "$percent" -ge "$2" ] || die "process $pid shares $percent % of its pages"
	done
	verify_sparse "after the restore"
	one_step
	quit_program
}

# 1/16384 of the reservation is 32768 pages.
open_2_tib_full_enough() {
	open_2_tib 34000 90
}

open_2_tib_with_few_pages() {
	open_2_tib 2000 0
}

# Shared memory is not tracked, so nothing of it is left to the parent.
shared_64_tib() {
	sparse 1 0 --tib 64 --shared
}

forked_shared_64_tib() {
	sparse 2 0 --tib 64 --shared --fork
}

# More than there is room for in a row.
private_100_tib() {
	sparse 1 2000 --tib 100 --parts 8
}

# kinds PROCESSES KIND OPTION...: spots all over 64 TiB that are written, toggled,
# guarded, punched and dropped between rounds.
kinds() {
	local processes=$1 kind=$2 i

	shift 2
	start_tracked sparse-kinds "$processes" --kind "$kind" "$@"
	for i in 1 2; do
		pre_dump
		one_step
	done
	[ "$kind" = shared ] || [ "$(stat_of "$DIR" pages_skipped_parent)" -gt 1000 ] ||
		die "round $ROUND left too little to its parent"
	final_dump
	restore
	verify_sparse "after the restore"
	one_step
	one_step
	quit_program
}

closed_kind() {
	kinds 1 closed
}

open_kind() {
	kinds 1 open
}

shared_kind() {
	kinds 1 shared
}

closed_kind_forked() {
	kinds 2 closed --child
}

open_kind_forked() {
	kinds 2 open --child
}

shared_kind_forked() {
	kinds 2 shared --child
}

run_test spots_in_inaccessible_memory_survive_all_that_is_done_to_them closed_kind
run_test spots_in_accessible_memory_survive_all_that_is_done_to_them open_kind
run_test spots_in_shared_memory_survive_all_that_is_done_to_them shared_kind
run_test spots_in_inaccessible_memory_of_two_processes_survive closed_kind_forked
run_test spots_in_accessible_memory_of_two_processes_survive open_kind_forked
run_test spots_in_shared_memory_of_two_processes_survive shared_kind_forked
run_test a_reservation_of_64_tib_goes_in_rounds private_64_tib
run_test reservations_of_100_tib_go_in_rounds private_100_tib
run_test a_forked_reservation_of_64_tib_goes_in_rounds forked_64_tib
run_test a_forked_reservation_of_1_tib_goes_in_rounds private_1_tib
run_test an_inherited_mapping_of_2_tib_that_is_in_use_stays_shared open_2_tib_full_enough
run_test an_inherited_mapping_of_2_tib_with_few_pages_is_right open_2_tib_with_few_pages
run_test shared_memory_of_64_tib_goes_in_rounds shared_64_tib
run_test forked_shared_memory_of_64_tib_goes_in_rounds forked_shared_64_tib
finish
