#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What becomes of each page in each round, for every kind of memory and all that can
# happen to it: docs/decisions.md has the table.
#
# A case that is told as "CASE_in_MODE_rounds" passes if all of its pages were dumped,
# left to the parent, or neither, as they had to be, in each of six rounds (full, two
# with changes, the dump, and two of the restored program), and if all of them were
# right after the restore. CASE=name runs that case alone, where its group is run.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

KSM=/sys/kernel/mm/ksm
HUGEPAGES=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
# What the cases of the group "hugetlb" map, and some that criu tries them with.
HUGE_NEEDED=8

kinds() {
	"$TEST_BIN/kinds" --control "$CTL" "$@" 2>>"$T/kinds.log"
}

start_kinds() {
	start_tracked kinds 1 --group "$1" --mode "$MODE" ${CASE:+--only "$CASE"}
}

one_step() {
	ctl step 120 || die "a step failed: $(tail -n 3 "$T/program.log") $(cat "/proc/$PID/wchan")"
}

# expect: write down what the round to come has to do.
expect() {
	kinds --wants >"$T/wants.$((ROUND + 1))" || die "no expectations"
}

# compare: add what the round did otherwise to the list.
compare() {
	local rc

	"$TEST_BIN/criu-pagemap" "$DIR" "$PID" --check "$T/wants.$ROUND" >"$T/differs" 2>&1
	rc=$?
	[ "$rc" -le 1 ] || die "round $ROUND: $(cat "$T/differs")"
	sed "s/^[^ ]*/& round $ROUND/" "$T/differs" >>"$T/wrong"
}

checked_pre_dump() {
	expect
	pre_dump --pre-dump-mode "$MODE"
	compare
}

checked_final_dump() {
	expect
	final_dump
	compare
}

# look_at_memory WHEN: add cases with wrong pages to the list.
look_at_memory() {
	ctl verify 60 >"$T/verified" || ctl ready 1 || die "$1: the program does not answer"
	kinds --bad | awk -v when="$1" '{ print $1, when, $2, "pages are wrong, the first at", $3 }' >>"$T/wrong"
}

# Shared memory is always whole.
compare_shmem() {
	local parent

	parent=$("$TEST_BIN/criu-pagemap" "$DIR" shmem | awk '$1 == "parent" { print $2 }')
	[ "$parent" = 0 ] || die "$parent pages of shared memory were left to the parent"
}

# verdict: a line for each case.
verdict() {
	local name last="" from why wrong cases=0 failed=0

	while read -r name from _ why; do
		[ "$name" != "$last" ] || continue
		last=$name
		cases=$((cases + 1))
		name=${name}_in_${MODE}_rounds
		wrong=$(awk -v n="$last" '$1 == n { $1 = ""; print; exit }' "$T/wrong")
		if [ "$from" = - ]; then
			echo "SKIP $name: $why"
		elif [ -n "$wrong" ]; then
			echo "FAIL $name:$wrong"
			failed=$((failed + 1))
		else
			echo "PASS $name"
		fi
	done < <(sort -s -k 1,1 "$T/wants.$ROUND")
	[ "$cases" -gt 0 ] || die "there was no case"
	[ "$failed" = 0 ] || die "$failed cases"
}

# chain GROUP: all rounds of a group of cases.
chain() {
	: >"$T/wrong"
	start_kinds "$1"
	checked_pre_dump
	one_step
	kinds --outside || die "no write from outside: $(tail -n 3 "$T/kinds.log")"
	${BETWEEN:-:}
	checked_pre_dump
	one_step
	checked_pre_dump
	one_step
	look_at_memory "before the dump"
	checked_final_dump
	compare_shmem
	restore
	look_at_memory "after the restore"
	one_step
	checked_pre_dump
	one_step
	checked_pre_dump
	look_at_memory "at the end"
	quit_program
	verdict
}

main() {
	chain main
}

# Each of these changes the whole process, or needs something of the machine.
heap() {
	chain heap
}

pinned() {
	chain pinned
}

own_ring() {
	chain own_ring
}

foreign_uffd() {
	chain foreign_uffd
}

sysv() {
	chain sysv
}

many() {
	chain many
}

pages_are_merged() {
	[ "$(awk '$1 == "ksm_merging_pages" { print $2 }' "/proc/$PID/ksm_stat" 2>/dev/null)" = 8 ]
}

# What is merged stays so when the merging is stopped.
merge_pages() {
	[ -e "/proc/$PID/ksm_stat" ] || skip "the kernel does not say what it has merged"
	set_machine "$KSM/run" 1
	wait_for 60 pages_are_merged || die "the kernel does not merge the pages"
	echo 0 >"$KSM/run"
}

merged() {
	local BETWEEN=merge_pages

	machine_changes
	[ "$(cat "$KSM/run" 2>/dev/null)" = 0 ] || skip "same-page merging is missing, or in use"
	chain ksm
}

# What asks for no huge pages gets none at the restore, either: not even where others get them unasked.
no_huge_pages() {
	local CASE=anon_16_tib

	set_machine /sys/kernel/mm/transparent_hugepage/enabled always
	chain main
}

hugetlb() {
	local had

	machine_changes
	had=$(cat "$HUGEPAGES" 2>/dev/null) || skip "no huge pages of 2 MiB"
	set_machine "$HUGEPAGES" $((had + HUGE_NEEDED))
	[ "$(cat "$HUGEPAGES")" = $((had + HUGE_NEEDED)) ] || skip "no memory for huge pages"
	chain hugetlb
}

# refused GROUP WHAT PATTERN: CRIU does not do WHAT (pre-dump or dump) and says so, and
# the program goes on.
refused() {
	: >"$T/wrong"
	start_kinds "$1"
	if [ "$2" = dump ]; then
		checked_pre_dump
		one_step
		checked_pre_dump
		one_step
	fi
	if grep -q ' - - ' < <(kinds --wants); then
		skip "$(kinds --wants | cut -d ' ' -f 4-)"
	fi
	new_round
	if criu_cmd refused.log "$2" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" --pre-dump-mode "$MODE"; then
		die "criu does not refuse it any more"
	fi
	grep -q "$3" "$DIR/refused.log" || die "criu does not say why: $(log_errors "$DIR/refused.log")"
	[ ! -s "$T/wrong" ] || die "$(cat "$T/wrong")"
	ctl verify >"$T/verified" || die "the program has come to harm: $(cat "$T/verified")"
	"$WPTRACK" release --all >/dev/null
	quit_program
}

io_uring() {
	refused io_uring pre-dump "Can't open .* mapfile link"
}

secret_memory() {
	refused secret pre-dump "Can't open .* mapfile link"
}

own_uffd() {
	refused own_uffd dump 'anon_inode:\[userfaultfd\]'
}

leaderless() {
	refused leaderless pre-dump 'The first thread of .* has ended'
}

# start_with_pid PID: start the program as the process that had this number before.
start_with_pid() {
	local try

	for try in {1..50}; do
		rm -f "$CTL"*
		# What is started on the way takes some, and others may.
		echo $(($1 - 3 - try % 5)) >/proc/sys/kernel/ns_last_pid || skip "pids cannot be chosen"
		start_kinds main
		[ "$PID" != "$1" ] || return 0
		ctl quit || die "the program does not quit"
		wait_for 10 session_is_gone "$PID" || die "the program does not go"
	done
	skip "pid $1 was not given out again in $try tries"
}

# The same program with the same pid at the same addresses, but another life.
pid_reused() {
	local pid rounds CASE=anon_untouched

	: >"$T/wrong"
	start_kinds main
	checked_pre_dump
	one_step
	checked_pre_dump
	pid=$PID rounds=$ROUND
	quit_program
	start_with_pid "$pid"
	ROUND=$rounds
	pre_dump --pre-dump-mode "$MODE"
	assert_full "its pid was another's"
	one_step
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -ge 48 ] || die "the round after leaves nothing to it"
	restore
	ctl verify >"$T/verified" || die "wrong after the restore: $(cat "$T/verified")"
	quit_program
	[ ! -s "$T/wrong" ] || die "$(cat "$T/wrong")"
}

# MODE is the mode of pre-dumps.
for MODE in splice read live; do
	run_test "all_that_can_be_shown_together_in_${MODE}_rounds" main
	run_test "a_heap_goes_back_and_forth_in_${MODE}_rounds" heap
	run_test "pinned_memory_makes_${MODE}_rounds_full" pinned
	run_test "an_io_uring_in_own_memory_makes_${MODE}_rounds_full" own_ring
	run_test "memory_that_another_has_registered_is_whole_in_${MODE}_rounds" foreign_uffd
	run_test "memory_with_an_ipc_namespace_in_${MODE}_rounds" sysv
	run_test "more_mappings_than_are_tracked_in_${MODE}_rounds" many
	run_test "merged_pages_in_${MODE}_rounds" merged
	run_test "huge_pages_of_a_pool_in_${MODE}_rounds" hugetlb
	run_test "a_reused_pid_makes_${MODE}_rounds_full" pid_reused
done
MODE=splice
run_test where_huge_pages_are_given_unasked_sparse_memory_stays_so no_huge_pages
run_test a_program_with_an_io_uring_is_refused io_uring
run_test a_program_with_secret_memory_is_refused secret_memory
run_test a_program_with_a_userfaultfd_is_refused_at_the_dump own_uffd
run_test a_program_without_its_first_thread_is_refused leaderless
finish
