#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What is in the images is what was in memory: each way that pages are copied, to each place that they are copied to.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

MIB=32

# to_server DIR KIND [OPTION...]: a round whose pages go to a page server, into DIR.
to_server() {
	local dir=$1 kind=$2 prev=""

	shift 2
	mkdir -p "$dir" || die "mkdir"
	[ "$ROUND" = 1 ] || prev=../$((ROUND - 1))
	start_page_server "$dir" "$prev" "${DEDUP[@]}"
	criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" \
		--page-server --address 127.0.0.1 --port "$PORT" ||
		die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
	wait "$SERVER" || die "the page server of round $ROUND failed: $(log_errors "$dir/page-server.log")"
	[ -z "$(find "$DIR" -name 'pages-*.img' -size +0)" ] || die "round $ROUND has written pages here"
	# As after a migration: what is not memory is brought to the pages.
	find "$DIR" -name '*.img' -exec cp -n {} "$dir/" \;
}

# round KIND [OPTION...]: sets IMAGES, the directory that has the pages.
round() {
	local kind=$1

	shift
	new_round
	IMAGES=$DIR
	epoch_next
	if [ "$PLACE" = server ]; then
		IMAGES=$T/server/$ROUND
		to_server "$IMAGES" "$kind" "$@"
	else
		criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "${DEDUP[@]}" "$@" ||
			die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
	fi
	epoch_next
}

# images_are_right LEAST: all pages that have not been written since the round are in its images as they are in memory.
images_are_right() {
	local clean

	stop_program
	timeout -k 5 120 "$WPTRACK" verify "$PID" "$IMAGES" >"$T/out" 2>&1 ||
		die "the images of round $ROUND are not what memory is: $(grep -v '^same' "$T/out" | head -n 5 | tr '\n' ' ')"
	clean=$(sed -n 's/^same: .* \([0-9]*\) of them clean/\1/p' "$T/out")
	[ "${clean:-0}" -ge "$1" ] || die "only ${clean:-0} pages are compared and clean, not $1: $(cat "$T/out")"
	continue_program
}

# dedup_has_freed ROUND: the images of a round have holes where later ones have the pages.
dedup_has_freed() {
	local pages=${IMAGES%/*}/$1/ used size

	read -r used size < <(find "$pages" -name 'pages-*.img' -printf '%b %s\n' |
		awk '{ used += 512 * $1; size += $2 } END { print used, size }')
	[ "$used" -lt "$size" ] || die "--auto-dedup has freed nothing in round $1: $used bytes of $size"
}

# right_in MODE PLACE [OPTION...]: three rounds in the mode, and a dump.
right_in() {
	local mode=$1 nr

	PLACE=$2
	shift 2
	DEDUP=("$@")
	start_tracked pagekeeper 1 --mib $MIB
	for nr in 1 2 3; do
		[ "$nr" = 1 ] || write_pages 1000
		round pre-dump --pre-dump-mode "$mode"
		if [ "$nr" = 1 ]; then
			assert_full "there is no parent"
		else
			assert_incremental
		fi
		images_are_right 3000
	done
	[ $# = 0 ] || dedup_has_freed 1
	write_pages 300
	round dump
	assert_incremental
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$IMAGES"
	quit_program
}

for mode in splice read live; do
	eval "${mode}_local() { right_in $mode local; }"
	eval "${mode}_server() { right_in $mode server; }"
	eval "${mode}_local_dedup() { right_in $mode local --auto-dedup; }"
	eval "${mode}_server_dedup() { right_in $mode server --auto-dedup; }"
	run_test "${mode}_rounds_have_what_is_in_memory" "${mode}_local"
	run_test "${mode}_rounds_bring_a_page_server_what_is_in_memory" "${mode}_server"
	run_test "${mode}_rounds_with_deduplication_have_what_is_in_memory" "${mode}_local_dedup"
	run_test "${mode}_rounds_bring_a_deduplicating_page_server_what_is_in_memory" "${mode}_server_dedup"
done
finish
