#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The way container runtimes go: `criu swrk` and its RPC.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# rpc LIBS ARG...: the client, with criu looking for plugins in LIBS.
rpc() {
	local libs=$1

	shift
	CRIU_LIBS_DIR=$libs timeout "$CRIU_TIMEOUT" "$TEST_BIN/criu-rpc" "$CRIU" "$@" 2>&1
}

feature_with_plugin() {
	local out

	out=$(cd "$T" && rpc "$PLUGINS" check) || die "$out"
	[ "$(tail -n 1 <<<"$out")" = "mem_track true, live true" ] || die "$out"
	wait_for 5 keeper_is_gone || die "a question about features has left a keeper"
}

feature_without_plugin() {
	local out

	mkdir "$T/none"
	out=$(cd "$T" && rpc "$T/none" check) || die "$out"
	if kernel_tracks; then
		[ "$(tail -n 1 <<<"$out")" = "mem_track true, live false" ] || die "$out"
	else
		[ "$(tail -n 1 <<<"$out")" = "mem_track false, live false" ] || die "$out"
	fi
}

# rpc_round KIND [OPTION...]
rpc_round() {
	local kind=$1 out parent=()

	shift
	[ "$ROUND" = 0 ] || parent=(--parent "../$ROUND")
	new_round
	epoch_next
	out=$(rpc "$PLUGINS" "$kind" "$PID" "$DIR" "${parent[@]}" "$@") ||
		die "$kind $ROUND: $(tr '\n' ' ' <<<"$out") $(log_errors "$DIR/criu.log")"
	epoch_next
	if [ "$ROUND" = 1 ]; then
		assert_full "there is no parent"
	else
		assert_incremental
	fi
}

rpc_chain() {
	start_tracked pagekeeper 1 --mib 32
	rpc_round pre-dump
	write_pages 300
	rpc_round pre-dump
	write_pages 300
	rpc_round pre-dump --read
	write_pages 300
	rpc_round pre-dump --live
	[ "$(stat_of "$DIR" frozen_time)" = 0 ] || die "a live pre-dump has stopped the program"
	write_pages 300
	rpc_round dump
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify
	quit_program
}

rpc_snapshots() {
	start_tracked pagekeeper 1 --mib 32
	rpc_round dump --leave-running
	write_pages 300
	rpc_round dump --leave-running
	write_pages 300
	rpc_round dump
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify
	quit_program
}

own_numbers() {
	local out

	out=$("$TEST_DIR/../scripts/proto-numbers.sh" "$BUILD/criu-stock" "$BUILD/criu") || die "$out"
}

# What upstream calls 72 and 73 is no business of ours: neither a rate nor a pre-dump that nobody asked for, and what ours
# were called once is an unknown mode.
others_fields() {
	local out

	start_tracked pagekeeper 1 --mib 8
	CRIU_TIMEOUT=20 rpc_round pre-dump --live --field 72=1
	write_pages 300
	rpc_round dump --leave-running --field 73=1
	[ ! -e "$DIR/pre-dump" ] || die "field 73 makes a pre-dump before the stop"
	new_round
	out=$(rpc "$PLUGINS" pre-dump "$PID" "$DIR" --field 61=3) && die "mode 3 is taken for one"
	grep -q "Unknown pre-dump mode 3" <<<"$out" || die "mode 3: $out"
	quit_program
}

run_test the_feature_check_says_true_with_the_plugin feature_with_plugin
run_anywhere the_feature_check_without_it_is_for_the_kernel feature_without_plugin
run_test what_we_add_to_messages_has_numbers_of_its_own own_numbers
run_test fields_of_newer_clients_are_not_taken_for_ours others_fields
run_test rpc_rounds_are_incremental_and_keep_nothing_open rpc_chain
run_test rpc_snapshots_are_incremental rpc_snapshots
finish
