#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Chains of parents that lead back to themselves, or of which something is missing.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# rounds N: a program with N rounds behind it, of which all but the first are incremental.
rounds() {
	start_tracked pagekeeper 1 --mib 16
	pre_dump
	while [ "$ROUND" -lt "$1" ]; do
		write_pages 200
		pre_dump
		assert_incremental
	done
	write_pages 200
}

# state_of DIR...: all there is to see of directories.
state_of() {
	find "$@" -printf '%p %i %n %m %s %l %T@ %C@\n' | sort
}

# refused SAYS ARG...: criu does not do it, says why in one line, and nothing below $T/1, $T/2... is another than before.
refused() {
	local says=$1 before

	shift
	before=$(state_of "$T"/[0-9])
	if timeout -k 5 "$CRIU_TIMEOUT" "$CRIU" "$@" -t "$PID" --track-mem -L "$PLUGINS" -v4 -o criu.log </dev/null >"$T/out" 2>&1; then
		die "not refused: criu $*"
	fi
	[ "$(grep -c "$says" "$T/out")" = 1 ] || die "criu $* does not say once '$says': $(cat "$T/out")"
	[ "$(state_of "$T"/[0-9])" = "$before" ] || die "criu $* was refused and has touched the images"
}

# goes_on: the chain is as good as before, and ends well.
goes_on() {
	verify_program "before the last dump"
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

ring() {
	local mode

	rounds 3
	for mode in splice read live; do
		refused "among its own parents" pre-dump --pre-dump-mode "$mode" -D "$T/1" --prev-images-dir ../3
		refused "among its own parents" pre-dump --pre-dump-mode "$mode" -D "$T/3" --prev-images-dir ../3
	done
	refused "among its own parents" dump -D "$T/1" --prev-images-dir ../2
	refused "among its own parents" dump --pre-dump-before-stop -D "$T/2" --prev-images-dir ../3
	# A link that is there already stays, so it is that which counts.
	mkdir "$T/empty" && ln -s ../2 "$T/1/parent" || die "mkdir"
	refused "among its own parents" dump -D "$T/1" --prev-images-dir ../empty
	rm "$T/1/parent"
	goes_on
}

other_names() {
	rounds 3
	ln -s 1 "$T/alias" && mkdir "$T/mount" && mount --bind "$T/2" "$T/mount" || die "mount"
	echo "$T/mount" >>"$T/mounts"
	refused "among its own parents" pre-dump -D "$T/alias" --prev-images-dir ../3
	refused "among its own parents" pre-dump -D "$T/mount" --prev-images-dir ../3
	refused "among its own parents" pre-dump -D "$T/2" --prev-images-dir "$T/mount"
	goes_on
}

# A circle that the new directory is no part of: as a round of an older criu, or a user, may have left it.
circle() {
	rounds 3
	ln -sfn ../3 "$T/2/parent"
	mkdir "$T/4" || die "mkdir"
	refused "go round in a circle" pre-dump -D "$T/4" --prev-images-dir ../3
	refused "go round in a circle" dump -D "$T/4" --prev-images-dir ../3
	ln -sfn ../1 "$T/2/parent"
	rmdir "$T/4"
	goes_on
}

over_rpc() {
	local before

	rounds 2
	before=$(state_of "$T"/[0-9])
	! CRIU_LIBS_DIR=$PLUGINS timeout -k 5 60 "$TEST_BIN/criu-rpc" "$CRIU" pre-dump "$PID" "$T/1" --parent ../2 >"$T/out" 2>&1 || die "not refused"
	[ "$(state_of "$T"/[0-9])" = "$before" ] || die "the request was refused, and has touched the images"
	goes_on
}

# Nobody reads such images for ever: with few descriptors or with many, and a small stack.
circle_is_read() {
	local what

	rounds 2
	final_dump
	ln -sfn ../3 "$T/2/parent"
	for what in restore dedup; do
		(
			ulimit -Sn 20000 -s 1024
			cd "$DIR" && timeout -k 5 60 "$CRIU" "$what" -D "$DIR" -v4 -o "$what.log" </dev/null >/dev/null 2>&1
		)
		[ $? = 1 ] || die "criu $what of images in a circle does not fail as it should"
		grep -q "go round in a circle" "$DIR/$what.log" || die "$what: no reason: $(log_errors "$DIR/$what.log")"
	done
	[ ! -e "/proc/$PID" ] || die "something was restored"
	ln -sfn ../1 "$T/2/parent"
	restore_and_verify
	quit_program
}

# full_after WHAT CMD...: after the command the next pre-dump is full, says why, and the chain is good from there.
full_after() {
	local what=$1 log=$2

	shift 2
	"$@" || die "$*"
	pre_dump
	assert_full "$what"
	grep -q "The parent images are not complete (.*: $log" "$DIR/pre-dump.log" ||
		die "$what: not said: $(grep parents: "$DIR/pre-dump.log")"
	write_pages 200
}

without_pages() {
	rounds 3
	full_after "pages of the last round are missing" "pages-1.img.* is missing" rm "$T/3/pages-1.img"
	pre_dump
	assert_incremental
	full_after "pages of a round deep down are missing" "pages-1.img.* is missing" rm "$T/4/pages-1.img"
	pre_dump
	assert_incremental
	full_after "pages have become fewer" "pages-1.img is shorter" truncate -s 8K "$T/$ROUND/pages-1.img"
	full_after "a pagemap is empty" "pagemap-$PID.img is empty" truncate -s 0 "$T/$ROUND/pagemap-$PID.img"
	pre_dump
	assert_incremental
	full_after "a pagemap deep down is missing" "pagemap-$PID.img is missing" rm "$T/$((ROUND - 1))/pagemap-$PID.img"
	pre_dump
	assert_incremental
	full_after "a directory is missing" "its parent can't be opened" mv "$T/$((ROUND - 1))" "$T/gone"
	goes_on
}

# The dump that ends the program counts on nothing that is not there.
dump_without_pages() {
	rounds 3
	rm "$T/$1/pages-1.img" || die "rm"
	final_dump "${@:2}"
	assert_full "pages of its parents are missing"
	restore_and_verify
	quit_program
}

without_last() {
	dump_without_pages 3
}

without_first() {
	dump_without_pages 1
}

without_first_dedup() {
	dump_without_pages 1 --auto-dedup
}

# rounds_in_used_directory PROCESSES [OPTION...]: one round more goes into $T/1, whatever lies there, and one upon it.
rounds_in_used_directory() {
	start_tracked pagekeeper "$@"
	epoch_next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/1" --track-mem || die "pre-dump: $(log_errors "$T/1/pre-dump.log")"
	epoch_next
	ROUND=1
	write_pages 200
	pre_dump
}

# Images of processes that have gone, whose pages have been overwritten.
used_before() {
	start_tracked pagekeeper 3 --mib 24 --children 2
	pre_dump
	quit_program
	rm "$T/control"
	rounds_in_used_directory 1 --mib 8
	[ "$(find "$T/1" -name 'pagemap-*.img' | wc -l)" -ge 4 ] || die "nothing is left of the round before"
	assert_incremental
	grep -q "is of a process that is not dumped" "$DIR/pre-dump.log" || die "what is left of the round before was no obstacle"
	write_pages 200
	goes_on
}

# The process is there, but not dumped. The round was killed.
used_by_another() {
	local other

	start_program sleep 1000
	other=$PID
	mkdir "$T/1" || die "mkdir"
	criu_cmd pre-dump.log pre-dump -t "$other" -D "$T/1" --track-mem || die "pre-dump: $(log_errors "$T/1/pre-dump.log")"
	truncate -s 0 "$T/1/pagemap-$other.img" || die "truncate"
	rounds_in_used_directory 1 --mib 8
	assert_incremental
	[ -e "/proc/$other" ] || die "the other program has gone"
	write_pages 200
	goes_on
}

# Whoever is below the root counts.
child_damaged() {
	local child

	start_tracked pagekeeper 2 --mib 8 --children 1
	pre_dump
	for child in $(ctl pids); do
		[ "$child" = "$PID" ] || truncate -s 0 "$T/1/pagemap-$child.img" || die "truncate"
	done
	write_pages 200
	pre_dump
	assert_full "a pagemap of a child is empty"
	write_pages 200
	goes_on
}

# What no later round needs may be removed.
old_rounds_removed() {
	rounds 2
	pre_dump --prev-images-dir ../1
	assert_full "its parent is not the round before"
	rm -r "${T:?}/1" "${T:?}/2" || die "rm"
	write_pages 200
	pre_dump
	assert_incremental
	write_pages 200
	goes_on
}

# server_round KIND PREV [OPTION...]: its pages go to a page server, into $T/server/$ROUND.
server_round() {
	local kind=$1 prev=$2

	shift 2
	new_round
	mkdir -p "$T/server/$ROUND" || die "mkdir"
	start_page_server "$T/server/$ROUND" "$prev"
	epoch_next
	criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" \
		--page-server --address 127.0.0.1 --port "$PORT" || die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
	epoch_next
	wait "$SERVER" || die "the page server of round $ROUND failed: $(log_errors "$T/server/$ROUND/page-server.log")"
	write_pages 200
}

server_without_pages() {
	local pages

	start_tracked pagekeeper 1 --mib 16
	server_round pre-dump ""
	server_round pre-dump ../1
	assert_incremental
	pages=$(find "$T/server/1" -name 'pages-*.img' -size +0)
	rm "$pages" || die "rm"
	server_round pre-dump ../2 "$@"
	assert_full "pages are missing on the server"
	server_round pre-dump ../3 "$@"
	assert_incremental
	new_round
	mkdir "$T/server/5" && start_page_server "$T/server/5" ../4 || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" --page-server --address 127.0.0.1 --port "$PORT" ||
		die "dump failed: $(log_errors "$DIR/dump.log")"
	wait "$SERVER" || die "the page server failed"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	find "$DIR" -name '*.img' -exec cp -n {} "$T/server/5/" \;
	restore_and_verify "$T/server/5"
	quit_program
}

live_server_without_pages() {
	server_without_pages --pre-dump-mode live
}

# The server refuses, and nobody is stopped for a client that has no server.
server_in_a_ring() {
	start_tracked pagekeeper 1 --mib 16
	server_round pre-dump ""
	server_round pre-dump ../1
	if timeout -k 5 10 "$CRIU" page-server -D "$T/server/1" --prev-images-dir ../2 --address 127.0.0.1 --port "$PORT" \
		-o ring.log </dev/null >"$T/out" 2>&1; then
		die "a page server in a ring is not refused"
	fi
	grep -q "among its own parents" "$T/out" || die "no reason: $(cat "$T/out")"
	new_round
	! criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" \
		--page-server --address 127.0.0.1 --port "$PORT" || die "a pre-dump without a server succeeds"
	! grep -q "Seized task" "$DIR/pre-dump.log" || die "the program was stopped for it"
	verify_program "after a refusal"
	quit_program
}

run_test a_directory_among_its_own_parents_is_refused ring
run_test other_names_of_a_directory_do_not_hide_it other_names
run_test parents_in_a_circle_are_refused circle
run_test a_directory_among_its_own_parents_is_refused_over_rpc over_rpc
run_test parents_in_a_circle_are_not_followed_for_ever circle_is_read
run_test rounds_upon_incomplete_parents_are_full without_pages
run_test a_dump_without_its_last_round_is_full without_last
run_test a_dump_without_its_first_round_is_full without_first
run_test a_dump_with_deduplication_without_its_first_round_is_full without_first_dedup
run_test what_a_used_directory_has_of_processes_that_are_gone_does_not_matter used_before
run_test what_a_used_directory_has_of_processes_that_are_not_dumped_does_not_matter used_by_another
run_test a_child_whose_parent_images_are_damaged_makes_a_round_full child_damaged
run_test rounds_that_are_not_needed_may_be_removed old_rounds_removed
run_test a_page_server_without_old_pages_gets_all server_without_pages
run_test a_page_server_without_old_pages_gets_all_of_a_live_round live_server_without_pages
run_test a_page_server_among_its_own_parents_is_refused server_in_a_ring
finish
