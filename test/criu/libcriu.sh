#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What we add to criu's C library, by a program that is linked with it: over `criu swrk`, and to a service.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

LIVE=8000

# client ARG...: HOW is --local, or nothing; SERVED is criu, or the service's socket.
client() {
	CRIU_LIBS_DIR=$LIBS timeout "$CRIU_TIMEOUT" "$TEST_BIN/libcriu-client" ${HOW:+"$HOW"} "$@" 2>&1
}

# lib_round KIND [OPTION...]
lib_round() {
	local kind=$1 out parent=()

	shift
	[ "$ROUND" = 0 ] || parent=(--parent "../$ROUND")
	new_round
	epoch_next
	out=$(client "${parent[@]}" "$@" "$SERVED" "$kind" "$PID" "$DIR") ||
		die "$kind $ROUND: $(tr '\n' ' ' <<<"$out") $(log_errors "$DIR/criu.log")"
	epoch_next
}

feature_is_told() {
	local HOW LIBS SERVED=$CRIU out

	mkdir "$T/none" || die "mkdir"
	for HOW in "" --local; do
		LIBS=$PLUGINS
		out=$(cd "$T" && client "$SERVED" feature) || die "$out"
		[ "$(tail -n 1 <<<"$out")" = "live true" ] || die "with the plugin: $out"
		LIBS=$T/none
		out=$(cd "$T" && client "$SERVED" feature) || die "$out"
		[ "$(tail -n 1 <<<"$out")" = "live false" ] || die "without the plugin: $out"
	done
}

# An older criu does not know the question; it is no error, and the answer is no.
feature_of_another_criu() {
	local HOW LIBS=$PLUGINS out

	for HOW in "" --local; do
		out=$(cd "$T" && client "$STOCK_CRIU" feature) || die "$out"
		[ "$(tail -n 1 <<<"$out")" = "live false" ] || die "an unpatched criu: $out"
	done
}

# Copying takes a moment without a rate. With one it takes what that says, less what the round did before.
kept_to_rate() {
	local pages us

	lib_round pre-dump --mode "$LIVE" --rate 2097152
	us=$(stat_of "$DIR" memwrite_time)
	pages=$(stat_of "$DIR" pages_written)
	[ "$pages" -gt 1000 ] || die "only $pages pages: the rate can't be seen"
	[ "$us" -ge $((pages * 1000)) ] || die "$pages pages took $us us at 2 MiB/s"
}

lib_chain() {
	local LIBS=$PLUGINS

	start_tracked pagekeeper 1 --mib 8
	lib_round pre-dump
	assert_full "there is no parent"
	write_pages 300
	lib_round pre-dump --mode "$LIVE"
	assert_incremental
	assert_no_stop
	write_pages 2000
	kept_to_rate
	assert_incremental
	assert_no_stop
	write_pages 300
	lib_round dump --before-stop
	[ -e "$DIR/pre-dump/inventory.img" ] || die "the dump has made no pre-dump of its own"
	[ "$(stat_of "$DIR/pre-dump" frozen_time)" = 0 ] || die "that has stopped the program"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "the dump has left nothing to it"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify
	quit_program
}

by_swrk() {
	SERVED=$CRIU HOW="" lib_chain
}

by_swrk_local() {
	SERVED=$CRIU HOW=--local lib_chain
}

by_service() {
	local service

	mkdir "$T/work" || die "mkdir"
	setsid "$CRIU" service --address "$T/socket" -W "$T/work" -L "$PLUGINS" -v4 -o service.log </dev/null >/dev/null 2>&1 &
	service=$!
	wait_for 10 test -S "$T/socket" || die "no service: $(log_errors "$T/work/service.log")"
	SERVED=$T/socket HOW="" lib_chain
	kill "$service" || die "the service has gone"
	wait_for 10 is_gone "$service" || die "the service does not end"
}

# Not every number is a mode, and a rate is for live rounds only. Nothing is asked of criu for the first.
refused() {
	local HOW LIBS=$PLUGINS SERVED=$CRIU out

	start_tracked pagekeeper 1 --mib 4
	for HOW in "" --local; do
		new_round
		! out=$(client --mode 3 "$SERVED" pre-dump "$PID" "$DIR") || die "mode 3 is one"
		grep -q "Invalid argument" <<<"$out" || die "mode 3: $out"
		[ -z "$(ls "$DIR")" ] || die "mode 3 has reached criu"
		! out=$(client --rate 4096 "$SERVED" pre-dump "$PID" "$DIR") || die "a rate without live mode"
		grep -q "rate" "$DIR/criu.log" || die "a rate without live mode: $out $(log_errors "$DIR/criu.log")"
		[ ! -e "$DIR/inventory.img" ] || die "a round was made"
		rm -r "$DIR"
	done
	verify_program
	quit_program
}

run_test libcriu_tells_whether_live_rounds_can_be_made feature_is_told
run_test libcriu_asks_an_unpatched_criu_in_vain_for_live_rounds feature_of_another_criu
run_test rounds_by_libcriu_are_what_was_asked_for by_swrk
run_test rounds_by_libcriu_with_options_of_their_own_are_what_was_asked_for by_swrk_local
run_test rounds_by_libcriu_and_a_service_are_what_was_asked_for by_service
run_test libcriu_refuses_what_is_no_mode refused
finish
