#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Programs that may do less than criu: the userfaultfd is made inside of them.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

CAP_SYS_RESOURCE=24

may_read_limits_of_others() {
	local caps

	caps=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
	[ $((0x$caps >> CAP_SYS_RESOURCE & 1)) = 1 ]
}

# programs_for_all PROGRAM: a copy where every uid may get at it. The directories above the checkout may be shut.
programs_for_all() {
	PROGRAMS=$T/programs
	mkdir "$PROGRAMS" && chmod 711 "$T" "$PROGRAMS" && cp "$TEST_BIN/$1" "$PROGRAMS/" && chmod 755 "$PROGRAMS/$1" || die "copy"
	setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all test -x "$PROGRAMS/$1" ||
		skip "other uids may not enter ${T%/*}: set TMPDIR to a directory that they may"
}

# confined_rounds HOW PROGRAM: two pre-dumps, the second incremental.
confined_rounds() {
	local CONFINE=$1 PROGRAMS

	programs_for_all "$2"
	start_tracked "$2" 1 --mib 16
	pre_dump
	write_pages 300
	pre_dump
	assert_incremental
	verify_program "between rounds"
	write_pages 300
}

confined_chain() {
	confined_rounds "$@"
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

no_capabilities() {
	[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || echo "userfaultfd is for everybody here" >&2
	confined_chain nocaps pagekeeper
}

sanitized_no_capabilities() {
	confined_chain nocaps pagekeeper-asan
}

seccomp_filter() {
	confined_chain seccomp pagekeeper
	confined_filter_is_back
}

confined_filter_is_back() {
	start_tracked_with_filter
	pre_dump
	[ "$(awk '$1 == "Seccomp:" { print $2 }' "/proc/$PID/status")" = 2 ] || die "the filter is gone after a pre-dump"
	verify_program "after a pre-dump"
}

start_tracked_with_filter() {
	local CONFINE=seccomp

	rm -rf "$CTL" "$T"/[0-9]*
	start_tracked pagekeeper 1 --mib 4
}

# Where criu may not read another uid's limits, no dump of such a program
# works, with tracking or without: the rounds before it do.
other_uid() {
	confined_rounds nobody pagekeeper
	if may_read_limits_of_others; then
		final_dump
		assert_incremental
		restore_and_verify
		quit_program
		return
	fi
	new_round
	if criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}"; then
		die "a dump was not expected to work without CAP_SYS_RESOURCE"
	fi
	verify_program "after the dump that failed"
	write_pages 100
	epoch_next
	pre_dump --prev-images-dir "../$((ROUND - 1))"
	assert_full "the dump before failed"
	write_pages 300
	pre_dump
	assert_incremental
	verify_program "at the end"
}

# Restoring into a user namespace takes namespaces of every kind; dumping does not.
user_namespace() {
	confined_rounds userns pagekeeper
	dump_round --leave-running
	assert_incremental
	verify_program "at the end"
}

run_test a_program_without_capabilities_is_tracked no_capabilities
run_test a_sanitized_program_without_capabilities_is_tracked sanitized_no_capabilities
run_test a_program_whose_filter_kills_userfaultfd_is_tracked seccomp_filter
run_test a_program_of_another_uid_is_tracked other_uid
run_test a_program_in_a_user_namespace_is_tracked user_namespace
finish
