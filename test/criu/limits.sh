#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# When something runs out or goes away: rounds are full or fail, and the program and the next round are right.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

INJECT_SO=$TEST_BIN/inject.so

# tiny_mount DIR OPTIONS: a tmpfs that is full soon; clean_up unmounts it.
tiny_mount() {
	mkdir -p "$1" && mount -t tmpfs -o "$2" none "$1" || die "mount"
	echo "$1" >>"$T/mounts"
}

# to_the_end: incremental from here, and right after the restore.
to_the_end() {
	write_pages 200
	pre_dump
	assert_incremental
	write_pages 200
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

socket_unlinked() {
	local old

	start_tracked pagekeeper 1 --mib 16
	pre_dump
	old=$(keeper_pid)
	[ -n "$old" ] || die "there is no keeper"
	rm "$WPTRACK_RUN_DIR/keeper.sock" || die "there is no socket"
	write_pages 200
	pre_dump
	assert_full "the keeper cannot be reached"
	verify_program "without the keeper's socket"
	wait_for 10 is_gone "$old" || die "a keeper that nobody can reach stays"
	to_the_end
}

# It listens, and does not answer: criu goes on without it.
keeper_hangs() {
	local keeper rc

	start_tracked pagekeeper 1 --mib 16
	pre_dump
	keeper=$(keeper_pid)
	write_pages 200
	new_round
	kill -STOP "$keeper" || die "there is no keeper"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}"
	rc=$?
	kill -CONT "$keeper" || die "the keeper has gone"
	[ "$rc" = 0 ] || die "pre-dump failed: $(log_errors "$DIR/pre-dump.log")"
	assert_full "the keeper does not answer"
	grep -q "Can't reach wptrack-keeper: Connection timed out. Memory is not tracked" "$DIR/pre-dump.log" ||
		die "the log does not say why"
	verify_program "without an answer"
	pre_dump
	assert_full "its parent has no record"
	to_the_end
}

# No socket can be made: what is dumped is whole, and tracked as soon as there is room.
run_directory_full() {
	start_tracked pagekeeper 1 --mib 16
	tiny_mount "$T/full" size=16k,nr_inodes=2,mode=700
	pre_dump
	ROUND_DIR=$WPTRACK_RUN_DIR
	export WPTRACK_RUN_DIR=$T/full/run
	: >"$T/full/last-inode" || die "the tmpfs was full before"
	pre_dump
	assert_full "there is no keeper"
	grep -q "wptrack-keeper does not start, run it by hand to see why" "$DIR/pre-dump.log" || die "the log does not say why"
	verify_program "without a keeper"
	export WPTRACK_RUN_DIR=$ROUND_DIR
	pre_dump
	assert_full "its parent has no record"
	to_the_end
}

# The images do not fit. broken-chain.sh has the same for a pre-dump; here it is the dump that ends the program.
dump_without_room() {
	start_tracked pagekeeper 1 --mib 16
	pre_dump
	write_pages 2000
	new_round
	tiny_mount "$DIR" size=2m
	if criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem --prev-images-dir "$T/$((ROUND - 1))"; then
		die "the dump fits into 2 MiB"
	fi
	verify_program "after the dump that failed"
	ROUND=$((ROUND - 1))
	mkdir "$T/next" || die "mkdir"
	DIR=$T/next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --prev-images-dir "../$ROUND" ||
		die "the next round failed: $(log_errors "$DIR/pre-dump.log")"
	assert_full "the round before failed"
	mkdir "$T/last" || die "mkdir"
	DIR=$T/last
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem --prev-images-dir ../next ||
		die "the dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify
	quit_program
}

# with_files N: a round by a criu that may open N files, and may not raise that; it may fail, but has to end.
with_files() {
	local rc

	new_round
	timeout -k 5 "$CRIU_TIMEOUT" setpriv --bounding-set -sys_resource prlimit --nofile="$1:$1" "$CRIU" pre-dump \
		-t "$PID" -D "$DIR" --track-mem "${PREV[@]}" -L "$PLUGINS" -v4 -o pre-dump.log </dev/null >/dev/null 2>&1
	rc=$?
	[ "$rc" -lt 124 ] || die "with $1 files criu ends with status $rc"
	return "$rc"
}

few_files_for_criu() {
	local n failed=0 done=0

	start_tracked pagekeeper 2 --mib 8 --children 1
	pre_dump
	for n in 12 16 20 24 28 32 40 48 64; do
		write_pages 100
		if with_files "$n"; then
			done=$((done + 1))
		else
			failed=$((failed + 1))
			ROUND=$((ROUND - 1))
			rm -rf "$DIR"
		fi
		wait_for 5 not_traced || die "with $n files the program stays stopped"
		verify_program "a round with $n files"
	done
	[ "$failed" -gt 0 ] && [ "$done" -gt 0 ] || die "$failed rounds failed, $done succeeded: the limits show nothing"
	DIR=$T/$ROUND
	pre_dump
	to_the_end
}

not_traced() {
	grep -q '^TracerPid:[[:space:]]*0$' "/proc/$PID/status" && ! grep -q '^State:[[:space:]]*[Tt]' "/proc/$PID/status"
}

# The keeper has no descriptors for all of a tree: the rest is dumped whole, every time.
few_files_for_the_keeper() {
	# 320 are set aside for connections and the keeper itself, two go to each task.
	local i files=326

	start_tracked pagekeeper 9 --mib 4 --children 8
	prlimit --nofile="$files:$files" "$PLUGINS/wptrack-keeper" </dev/null >/dev/null 2>"$T/keeper.log" &
	wait_for 5 test -S "$WPTRACK_RUN_DIR/keeper.sock" || die "the keeper does not start: $(cat "$T/keeper.log")"
	for i in 1 2 3; do
		pre_dump
		write_pages 200
		verify_program "round $i"
	done
	grep -q "Can't track .* (No space left on device): it is dumped in full" "$DIR/pre-dump.log" ||
		die "all were tracked: this shows nothing"
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 1000 ] || die "nobody was tracked"
	final_dump
	restore_and_verify
	quit_program
}

many_vmas() {
	CRIU_TIMEOUT=200
	start_tracked manyvmas 1
	[ "$(wc -l <"/proc/$PID/maps")" -ge 60000 ] || die "only $(wc -l <"/proc/$PID/maps") mappings"
	pre_dump
	assert_full "there is no parent"
	ctl step || die "a step failed"
	pre_dump
	left_below_the_limit
	"$WPTRACK" show "$DIR" >"$T/out" || die "show"
	grep -q "limit:[1-9]" "$T/out" || die "the record does not tell of the limit: $(tail -n 1 "$T/out")"
	ctl step || die "a step failed"
	private_maps >"$T/maps"
	final_dump
	left_below_the_limit
	restore
	private_maps | cmp -s - "$T/maps" || die "after the restore the mappings are others"
	verify_program "after the restore"
	quit_program
}

# left_below_the_limit: pages of the mappings that are registered were left to the parent, those of others were not.
left_below_the_limit() {
	local skipped

	skipped=$(stat_of "$DIR" pages_skipped_parent)
	[ "$skipped" -gt 30000 ] || die "round $ROUND: only $skipped pages are left to the parent"
	[ "$skipped" -le 32768 ] || die "round $ROUND: $skipped pages are left to the parent, at most 32768 can be tracked"
}

# private_maps: where they lie, and what may be done with them.
private_maps() {
	awk '$2 ~ /p$/ && $6 !~ /^\[v/ { print $1, $2 }' "/proc/$PID/maps"
}

# die_at PHASE CLASS N: the program is killed at a criu's Nth call of a class, in its first round or a later one.
# Sets HIT if there was such a call.
die_at() {
	local rc

	start_tracked pagekeeper 1 --mib 4
	if [ "$1" = later ]; then
		pre_dump
		write_pages 100
	fi
	new_round
	rm -f "$T/hit"
	(
		export LD_PRELOAD=$INJECT_SO INJECT=$2:$3:target INJECT_HIT=$T/hit INJECT_DIR=$DIR INJECT_PID=$PID
		criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}"
	)
	rc=$?
	[ "$rc" -lt 124 ] || die "$*: criu ends with status $rc"
	HIT=
	if [ -e "$T/hit" ]; then
		HIT=1
		wait_for 10 is_gone "$PID" || die "$*: the program stays"
		wait_for 10 keeper_is_gone || die "$*: the keeper stays"
	else
		[ "$rc" = 0 ] || die "$*: failed without a fault"
		quit_program
	fi
	rm -rf "${T:?}"/[0-9]* "$T/control" "$T/program.log"
}

# A process of the program dies while read mode copies: the statistics have what is in the images.
dies_while_copied() {
	local n child written images

	for ((n = 1; n <= 4; n++)); do
		start_tracked pagekeeper 2 --mib 16 --children 1
		child=$(session_pids "$PID" | grep -vx "$PID")
		new_round
		rm -f "$T/hit"
		(
			export LD_PRELOAD=$INJECT_SO INJECT=copy:$n:target INJECT_HIT=$T/hit INJECT_PID=$child
			criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --pre-dump-mode read
		) || die "call $n: pre-dump: $(log_errors "$DIR/pre-dump.log")"
		[ -e "$T/hit" ] || die "there is no call $n"
		grep -q 'Target process PID:.* not found' "$DIR/pre-dump.log" || die "call $n: the process was still there"
		written=$(($(stat_of "$DIR" pages_written) + $(stat_of "$DIR" shpages_written)))
		images=$(cat "$DIR"/pages-*.img | wc -c)
		[ "$((written * 4096))" = "$images" ] || die "call $n: $written pages written, says criu, and the images have $images bytes"
		kill_session "$PID"
		wait_for 10 keeper_is_gone || die "call $n: the keeper stays"
		rm -rf "${T:?}"/[0-9]* "$T/control" "$T/program.log"
	done
}

# The program dies at some point of a round: criu ends by itself, the keeper goes.
dies_meanwhile() {
	local class n hits=0

	for class in keeper track image; do
		for n in 1 3 7 15 40; do
			die_at "$1" "$class" "$n"
			[ -z "$HIT" ] || hits=$((hits + 1))
		done
	done
	[ "$hits" -ge "$2" ] || die "only $hits points were hit"
}

dies_in_first() {
	dies_meanwhile first 8
}

dies_in_later() {
	dies_meanwhile later 8
}

# The connection is cut in the middle, as the server has no room; the next one gets everything.
page_server_cut() {
	start_tracked pagekeeper 1 --mib 16
	mkdir -p "$T/server/1" "$T/server/3" || die "mkdir"
	new_round
	start_page_server "$T/server/1"
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --page-server --address 127.0.0.1 --port "$PORT" ||
		die "pre-dump failed: $(log_errors "$DIR/pre-dump.log")"
	wait "$SERVER" || die "the page server failed"
	write_pages 3000
	new_round
	tiny_mount "$T/server/2" size=1m
	start_page_server "$T/server/2" "$T/server/1"
	if criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" --page-server --address 127.0.0.1 \
		--port "$PORT" && wait "$SERVER"; then
		die "it fits into 1 MiB"
	fi
	wait "$SERVER" 2>/dev/null
	verify_program "after the cut"
	# The chain goes on from the round that the server has.
	new_round
	start_page_server "$T/server/3" "$T/server/1"
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem --prev-images-dir ../1 --page-server --address 127.0.0.1 \
		--port "$PORT" || die "the dump failed: $(log_errors "$DIR/dump.log")"
	wait "$SERVER" || die "the page server failed"
	assert_full "the round before was cut off"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	find "$DIR" -name '*.img' -exec cp -n {} "$T/server/3/" \;
	restore_and_verify "$T/server/3"
	quit_program
}

run_test a_keeper_without_its_socket_makes_a_round_full socket_unlinked
run_test a_keeper_that_hangs_makes_a_round_full keeper_hangs
run_test a_full_run_directory_makes_a_round_full run_directory_full
run_test a_dump_without_room_leaves_the_program_running dump_without_room
run_test a_criu_that_may_open_few_files_harms_nobody few_files_for_criu
run_test a_keeper_that_may_open_few_files_tracks_what_it_can few_files_for_the_keeper
run_test sixty_thousand_mappings_are_right many_vmas
# A mapping is over the limit of those that are registered in one round only, which can't read it either.
over_the_limit() {
	[ "$(cat /proc/sys/vm/max_map_count)" -ge 40000 ] || skip "vm.max_map_count is below 40000"
	start_tracked crowded 1
	pre_dump
	ctl step || die "a step failed"
	pre_dump --pre-dump-mode "$1"
	ctl step || die "a step failed"
	final_dump
	restore
	verify_program "after the restore"
	quit_program
}

over_the_limit_when_read() {
	over_the_limit read
}

over_the_limit_when_live() {
	over_the_limit live
}

run_test over_the_limit_in_one_round_and_not_in_the_next over_the_limit_when_read
run_test over_the_limit_in_one_live_round_and_not_in_the_next over_the_limit_when_live
run_test a_program_that_dies_in_its_first_round_leaves_nobody_behind dies_in_first
run_test a_process_that_dies_while_it_is_copied_is_not_counted dies_while_copied
run_test a_program_that_dies_in_a_later_round_leaves_nobody_behind dies_in_later
run_test a_page_server_that_is_cut_off_makes_the_next_round_full page_server_cut
finish
