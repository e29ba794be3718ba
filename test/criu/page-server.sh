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

# no_wait_for_corked WHAT...: of those who were watched, nobody has waited for an answer to what lay in the socket.
no_wait_for_corked() {
	[ "$(grep -c ^pushed "$T/corked.log")" -gt "$1" ] || die "$2: waits were not seen: $(cat "$T/corked.log")"
	! grep ^corked "$T/corked.log" >"$T/out" || die "$2: waits for what lies in a corked socket: $(sort "$T/out" | uniq -c)"
	rm "$T/corked.log"
}

# make_keys: criu on both sides, with one certificate. Sets TLS.
make_keys() {
	command -v openssl >/dev/null || skip "openssl is not there"
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout "$T/key" -out "$T/cert" 2>"$T/keys.log" ||
		die "openssl: $(tail -n 1 "$T/keys.log")"
	TLS=(--tls --tls-cacert "$T/cert" --tls-cert "$T/cert" --tls-key "$T/key" --tls-no-cn-verify)
}

# Tasks are stopped while the dump waits, and each of these waits took 200 ms.
answers() {
	local round kind=pre-dump

	TLS=()
	[ "$1" != tls ] || make_keys
	shift
	start_tracked pagekeeper 1 --mib 16
	export LD_PRELOAD=$TEST_BIN/corked.so CORKED_LOG=$T/corked.log
	for round in 1 2 3; do
		new_round
		[ "$round" != 3 ] || kind=dump
		mkdir -p "$T/server/$ROUND" || die "mkdir"
		start_page_server "$T/server/$ROUND" "${PREV[1]:-}" "${TLS[@]}"
		[ $kind = pre-dump ] || set --
		criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" "${TLS[@]}" \
			--page-server --address 127.0.0.1 --port "$PORT" || die "$kind failed: $(log_errors "$DIR/$kind.log")"
		wait "$SERVER" || die "the page server failed: $(log_errors "$T/server/$ROUND/page-server.log")"
		no_wait_for_corked 1 "$kind $*"
	done
	unset LD_PRELOAD
	find "$DIR" -name '*.img' -exec cp -n {} "$T/server/$ROUND/" \;
	restore_and_verify "$T/server/$ROUND"
	quit_program
}

# The program is stopped where it was until all of it is where it is to be.
answers_of_lazy_pages() {
	local dump lazy

	start_tracked pagekeeper 1 --mib 16
	new_round
	export LD_PRELOAD=$TEST_BIN/corked.so CORKED_LOG=$T/corked.log
	PORT=$((20000 + RANDOM))
	timeout -k 5 60 "$CRIU" dump -t "$PID" -D "$DIR" --lazy-pages --address 127.0.0.1 --port "$PORT" -v4 -o dump.log \
		</dev/null >/dev/null 2>&1 &
	dump=$!
	wait_for 20 server_listens "$PORT" || skip "the dump does not serve pages: $(log_errors "$DIR/dump.log")"
	timeout -k 5 60 "$CRIU" lazy-pages -D "$DIR" --page-server --address 127.0.0.1 --port "$PORT" -v4 -o lazy-pages.log \
		</dev/null >/dev/null 2>&1 &
	lazy=$!
	wait_for 10 test -S "$DIR/lazy-pages.socket" || die "lazy-pages does not listen"
	unset LD_PRELOAD
	# In a pid namespace of its own, as the program is here still.
	unshare --fork --pid --mount-proc --kill-child timeout -k 5 60 "$CRIU" restore -D "$DIR" --lazy-pages -v4 -o restore.log \
		</dev/null >/dev/null 2>&1 &
	if ! wait "$lazy" && grep -q "page-pipe: tee" "$DIR/dump.log"; then
		wait
		skip "criu needs larger pipes for that than fs.pipe-max-size allows"
	fi
	wait "$lazy" || die "lazy-pages failed: $(log_errors "$DIR/lazy-pages.log") $(log_errors "$DIR/restore.log")"
	wait "$dump" || die "the dump failed: $(log_errors "$DIR/dump.log")"
	verify_program "after a lazy restore"
	quit_program
	wait
	no_wait_for_corked 1 "lazy pages"
}

answers_of_splice() {
	answers plain --pre-dump-mode splice
}

answers_of_read() {
	answers plain --pre-dump-mode read
}

answers_of_live() {
	answers plain --pre-dump-mode live
}

answers_with_tls() {
	answers tls --pre-dump-mode splice
}

one_process() {
	chain_to_server 1
}

a_tree() {
	chain_to_server 3 --children 2 --threads 2
}

run_test pages_sent_to_a_page_server_are_incremental one_process
run_test pages_of_a_tree_sent_to_a_page_server_are_incremental a_tree
run_test splice_rounds_push_what_they_wait_for_an_answer_to answers_of_splice
run_test read_rounds_push_what_they_wait_for_an_answer_to answers_of_read
run_test live_rounds_push_what_they_wait_for_an_answer_to answers_of_live
run_test rounds_with_tls_push_what_they_wait_for_an_answer_to answers_with_tls
run_test lazy_pages_push_what_they_wait_for_an_answer_to answers_of_lazy_pages
finish
