#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A kernel that lacks what the plugin needs, but has soft-dirty bits: with the plugin all is as it is without.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

needs_such_a_kernel() {
	LACKS=$(kernel_lacks)
	[ -n "$LACKS" ] || skip "the plugin tracks here"
	kernel_tracks || skip "no soft-dirty bits in this kernel"
}

check_names_it() {
	needs_such_a_kernel
	check_tracker "$PLUGINS" >"$T/out" || die "$(cat "$T/out")"
	grep -qF "Memory tracking is done by soft-dirty bits: $LACKS." "$T/out" || die "$(cat "$T/out")"
}

# One line says why, and the rounds are incremental.
rounds() {
	local mode said

	needs_such_a_kernel
	start_tracked pagekeeper 2 --mib 32 --children 1
	for mode in splice read splice; do
		pre_dump --pre-dump-mode "$mode"
		said=$(grep -c 'memory tracking is not taken over' "$DIR/pre-dump.log")
		[ "$said" = 1 ] || die "$said lines say that soft-dirty bits are used"
		[ ! -e "$DIR/wptrack.img" ] || die "there is a session record"
		[ "$ROUND" = 1 ] || [ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "round $ROUND left nothing to its parent"
		write_pages 300
	done
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "the dump left nothing to its parent"
	wait_for 5 keeper_is_gone || die "there is a keeper"
	restore_and_verify
	quit_program
}

live() {
	needs_such_a_kernel
	start_tracked pagekeeper 1 --mib 8
	new_round
	if criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --pre-dump-mode live; then
		die "a live pre-dump succeeds"
	fi
	grep Error "$DIR/pre-dump.log" | grep -qF "$LACKS" || die "it does not say why: $(log_errors "$DIR/pre-dump.log")"
	verify_program "after the refusal"
	quit_program
}

# outcome COMMAND [OPTION...]: of a pre-dump, with or without the plugin.
outcome() {
	new_round
	if criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem; then
		echo succeeds
	else
		echo fails
	fi
}

# What cannot be pre-dumped by soft-dirty bits is refused clearly, and runs on; or it works, as without the plugin.
sanitized() {
	local with without

	needs_such_a_kernel
	start_tracked "$1" 1 --mib 16
	with=$(outcome)
	verify_program "after a pre-dump"
	ROUND=1
	without=$(PLUGINS=$T/no-plugin outcome)
	[ "$with" = "$without" ] || die "a pre-dump with the plugin $with, without it $without: $(log_errors "$T/1/pre-dump.log")"
	if [ "$with" = fails ]; then
		[ -n "$(log_errors "$T/1/pre-dump.log")" ] || die "it does not say why it fails"
	fi
	verify_program "after both"
	quit_program
}

asan() {
	sanitized pagekeeper-asan
}

msan() {
	sanitized pagekeeper-clang-msan
}

tsan() {
	sanitized pagekeeper-clang-tsan
}

run_anywhere soft_dirty_bits_are_named_with_what_the_kernel_lacks check_names_it
run_anywhere soft_dirty_bits_are_used_where_the_kernel_lacks_what_the_plugin_needs rounds
run_anywhere a_live_round_says_what_the_kernel_lacks live
run_anywhere asan_is_as_without_the_plugin asan
run_anywhere msan_is_as_without_the_plugin msan
run_anywhere tsan_is_as_without_the_plugin tsan
finish
