#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Rounds whose pages go to a page server, as in a live migration.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# server_round KIND
server_round() {
	local kind=$1

	new_round
	mkdir -p "$T/server/$ROUND" || die "mkdir"
	if [ "$ROUND" = 1 ]; then
		start_page_server "$T/server/1"
	else
		start_page_server "$T/server/$ROUND" "../$((ROUND - 1))"
	fi
	epoch_next
	criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" \
		--page-server --address 127.0.0.1 --port "$PORT" ||
		die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
	epoch_next
	wait "$SERVER" || die "the page server of round $ROUND failed: $(log_errors "$T/server/$ROUND/page-server.log")"
	if [ "$ROUND" = 1 ]; then
		assert_full "there is no parent"
	else
		assert_incremental
	fi
	[ -z "$(find "$DIR" -name 'pages-*.img' -size +0)" ] || die "round $ROUND has written pages here"
}

chain_to_server() {
	local processes=$1

	shift
	start_tracked pagekeeper "$processes" --mib 32 "$@"
	server_round pre-dump
	write_pages 300
	server_round pre-dump
	write_pages 300
	server_round dump
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	# As after a migration: what is not memory is brought to the pages.
	find "$DIR" -name '*.img' -exec cp -n {} "$T/server/$ROUND/" \;
	restore_and_verify "$T/server/$ROUND"
	quit_program
}

one_process() {
	chain_to_server 1
}

a_tree() {
	chain_to_server 3 --children 2 --threads 2
}

run_test pages_sent_to_a_page_server_are_incremental one_process
run_test pages_of_a_tree_sent_to_a_page_server_are_incremental a_tree
finish
