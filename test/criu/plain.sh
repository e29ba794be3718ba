#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Dumps and restores that need no tracker: what the first fixes of the series are for. A CRIU that has nothing but these
# passes, too, so no plugin is asked for. What has large mappings takes a kernel that need not look at each page of them.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# plain_dump [OPTION...]
plain_dump() {
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" "$@" || die "dump failed: $(log_errors "$DIR/dump.log")"
}

# plain_final_dump: one that ends the program.
plain_final_dump() {
	plain_dump
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

# comes_back: the program is restored with all that it had.
comes_back() {
	restore
	verify_program "after the restore"
	ctl step 30 || die "a step failed after the restore"
	verify_program "after the restore and a step"
	quit_program
}

# here_and_back PROGRAM PROCESSES OPTION...
here_and_back() {
	start_tracked "$@"
	plain_final_dump
	comes_back
}

# protections: of all anonymous mappings of all processes, with where they are. Those of a file's may be merged.
protections() {
	local pid

	for pid in $(ctl pids); do
		awk -v pid="$pid" 'NF == 5 { print pid, $1, $2 }' "/proc/$pid/maps" || die "/proc/$pid/maps"
	done
}

more_than_in_a_row() {
	here_and_back sparse 1 --tib 100 --parts 8
}

vast() {
	here_and_back layout 2 vast
}

forked_64_tib() {
	here_and_back sparse 2 --tib 64 --fork
}

# work_of TIB: how long criu computes to dump that much shared memory with next to nothing in it, in ms.
work_of() {
	local TIMEFORMAT=%3U

	start_tracked sparse 1 --tib "$1" --parts 8 --shared
	{ time plain_dump --leave-running; } 2>"$T/time" || exit
	quit_program
	rm -r "$CTL" "$DIR"
	sed 's/[.,]//; s/^0*\(.\)/\1/' "$T/time"
}

# To look at each page takes a hundred times as long.
shared() {
	local few many

	few=$(work_of 1) && many=$(work_of 96) || exit
	[ "$many" -lt $((8 * few + 1000)) ] || die "$many ms for 96 TiB, and $few ms for one"
}

# There is room for what is done in the program, but not for something as long as its page table.
no_address_space() {
	local size

	start_tracked sparse 1 --tib 16
	size=$(awk '/^VmSize:/ { print $2 }' "/proc/$PID/status")
	prlimit --pid "$PID" --as=$(((size + 64 * 1024) * 1024)): || die "prlimit"
	plain_dump --leave-running
	verify_program "after a dump"
	quit_program
}

locked() {
	local size

	start_tracked layout 1 locked
	! grep -q 'no guard pages' "$T/program.log" || skip "$(cat "$T/program.log")"
	size=$(grep ^VmLck "/proc/$PID/status")
	plain_final_dump
	restore
	verify_program "after the restore"
	[ "$(grep ^VmLck "/proc/$PID/status")" = "$size" ] || die "it is not locked as it was: $(grep ^VmLck "/proc/$PID/status")"
	quit_program
}

inherited() {
	start_tracked layout 2 inherited
	protections >"$T/before"
	plain_final_dump
	restore
	protections | diff "$T/before" - >"$T/diff" || die "another protection: $(tr '\n' ' ' <"$T/diff")"
	verify_program "after the restore"
	quit_program
}

no_huge_pages() {
	set_machine /sys/kernel/mm/transparent_hugepage/enabled always
	start_tracked layout 1 few
	[ "$(rollup "$PID" AnonHugePages)" = 0 ] || die "it has huge pages before"
	plain_final_dump
	restore
	[ "$(rollup "$PID" AnonHugePages)" = 0 ] || die "$(rollup "$PID" AnonHugePages) kB are in huge pages after the restore"
	verify_program "after the restore"
	quit_program
}

# Somebody has left a link to images of which nothing is needed.
damaged_parent() {
	local file

	start_tracked pagekeeper 1 --mib 8
	plain_final_dump
	mkdir "$T/damaged" && cp "$DIR"/*.img "$T/damaged" && ln -s ../damaged "$DIR/parent" || die "cp"
	for file in "$T/damaged"/pagemap-*.img; do
		truncate -s 11 "$file" || die "truncate"
	done
	restore_and_verify
	quit_program
}

images_of() {
	find "$1" -name '*.img' -printf '%p %i %n %s %T@\n' | sort
}

ring() {
	local before

	start_tracked pagekeeper 1 --mib 8
	plain_dump --leave-running
	mkdir "$T/2" && ln -s ../1 "$T/2/parent" || die "ln"
	before=$(images_of "$T/1")
	! criu_cmd ring.log dump -t "$PID" -D "$T/1" --leave-running --prev-images-dir ../2 || die "a dump into its own parents is not refused"
	[ "$(images_of "$T/1")" = "$before" ] || die "its images have been touched"
	quit_program
}

# What is no plugin is an error where it is found.
relative_plugins() {
	start_tracked pagekeeper 1 --mib 8
	mkdir -p "$T/start/here" "$T/images" && echo "no plugin" >"$T/start/here/broken.so" && cd "$T/start" || die "mkdir"
	! timeout -k 5 "$CRIU_TIMEOUT" "$CRIU" dump -t "$PID" -D "$T/images" -L here -o dump.log </dev/null >"$T/out" 2>&1 ||
		die "the directory of plugins is not found"
	grep -q 'broken.so' "$T/out" "$T/images/dump.log" || die "it is not what is in the directory: $(cat "$T/out")"
	verify_program "after a refusal"
	quit_program
}

run_test more_reservations_than_fit_in_a_row_are_restored more_than_in_a_row
run_test a_forked_mapping_of_12_tib_is_restored vast
run_test a_forked_reservation_of_64_tib_is_restored forked_64_tib
run_anywhere damaged_parents_that_are_not_needed_are_not_read damaged_parent
run_test holes_of_shared_memory_cost_nothing shared
run_test a_program_without_more_address_space_is_dumped no_address_space
run_anywhere a_locked_mapping_with_guard_pages_is_restored locked
run_anywhere inherited_mappings_have_their_own_protection inherited
run_anywhere restored_mappings_without_huge_pages_have_none no_huge_pages
run_anywhere a_dump_into_its_own_parents_is_refused ring
run_anywhere a_relative_directory_of_plugins_is_looked_into relative_plugins
finish
