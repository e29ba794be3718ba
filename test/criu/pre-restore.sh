#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Restores that have the memory of pre-dumps before there is a dump.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# prepare [OPTION...]: a restore of $T/last that waits, below $BELOW if that is a command. Sets WAITING, and NAMES, which
# it reads names from.
prepare() {
	mkdir -p "$T/last" && mkfifo "$T/names" || die "mkfifo"
	(
		cd "$T" || exit 1
		# shellcheck disable=SC2086 # words
		CRIU_VERIFY_PRE_RESTORE=${VERIFY-1} exec ${BELOW:-} timeout -k 5 "$CRIU_TIMEOUT" "$CRIU" restore -D "$T/last" -L "$PLUGINS" \
			-v4 -o restore.log --restore-detached "$@" --pre-restore <names >answers 2>"$T/err"
	) &
	WAITING=$!
	exec {NAMES}>"$T/names"
}

# hold NAME [ANSWER]: have it read a directory of images, as from $T, and answer.
hold() {
	local nr

	nr=$(($(wc -l <"$T/answers") + 1))
	echo "$1" >&"$NAMES"
	wait_for 30 answered "$nr" || die "no answer to $1: $(tail -n 3 "$T/last/restore.log" "$T/err")"
	[ "$(tail -n 1 "$T/answers")" = "$1: ${2:-in memory}" ] || die "the answer is $(tail -n 1 "$T/answers")"
}

answered() {
	[ "$(wc -l <"$T/answers")" -ge "$1" ]
}

# held_round [OPTION...]: a pre-dump, and it is read.
held_round() {
	pre_dump "$@"
	hold "$ROUND"
}

# last_dump [OPTION...]: the dump that is waited for.
last_dump() {
	PREV=(--prev-images-dir "../$ROUND")
	DIR=$T/last
	epoch_next
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" || die "the dump failed: $(log_errors "$DIR/dump.log")"
	epoch_next
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

# let_go: no more names: the program is restored. Returns what criu does.
let_go() {
	exec {NAMES}>&-
	wait "$WAITING"
}

restored() {
	let_go || die "the restore failed: $(log_errors "$T/last/restore.log")"
	[ -e "/proc/$PID" ] || die "restored, but process $PID is not there"
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
}

# logged WHAT: the sum of the numbers that stand before it in the log of the restore, where each task has one.
logged() {
	grep -oE "[0-9]+ $1" "$T/last/restore.log" | awk '{ sum += $1 } END { print sum + 0 }'
}

# was_there PAGES [READ]: that many pages were in memory before, at least, and were right. Of them no more than READ, or few,
# were read in the end.
was_there() {
	[ "$(logged 'mappings are in memory')" -gt 0 ] || die "nothing was in memory"
	[ "$(logged 'pages are what the images say')" -ge "$1" ] ||
		die "$(logged 'pages are what the images say') pages were in memory, and not $1"
	[ "$(logged 'pages of them were read now')" -le "${2:-$(($1 / 2))}" ] ||
		die "$(logged 'pages of them were read now') pages were read after the dump"
}

verify_and_quit() {
	verify_program "after the restore"
	write_pages 500
	verify_program "after the restore and more writes"
	quit_program
}

# held_program: one whose first round is in memory, and that has written since.
held_program() {
	start_tracked pagekeeper 1 --mib 16 --rate 1000
	prepare
	held_round --pre-dump-mode live
	write_pages 300
}

# not_followed: the dump is right, and criu says that it does not follow what is in memory.
not_followed() {
	last_dump
	restored
	grep -q 'does not follow the pre-dump that is in memory' "$T/last/restore.log" || die "nobody said so"
	verify_and_quit
}

# followed PAGES [READ]: the dump is right, as was_there says.
followed() {
	last_dump
	restored
	was_there "$@"
	verify_and_quit
}

# chain MODE...: a pre-dump in each mode.
chain() {
	local mode

	start_tracked pagekeeper 1 --mib 48 --rate 2000 --working-set 4
	prepare
	for mode; do
		held_round --pre-dump-mode "$mode"
		write_pages 300
	done
	followed 10000
}

# What has been in memory since before the dump is tracked from the restore on like any other.
tracked_from_the_restore() {
	local mode

	start_tracked pagekeeper 3 --mib 32 --rate 2000 --working-set 4 --children 2
	prepare --track-mem
	for mode in live splice; do
		held_round --pre-dump-mode "$mode"
		write_pages 300
	done
	last_dump
	restored
	was_there 10000
	verify_program "after the restore"
	write_pages 300
	pre_dump --prev-images-dir ../last
	assert_incremental
	write_pages 300
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

live_chain() {
	chain live live live
}

mixed_chain() {
	chain splice live read
}

threads_and_children() {
	start_tracked pagekeeper 4 --mib 24 --rate 2000 --working-set 2 --threads 4 --children 3
	prepare
	held_round --pre-dump-mode live
	write_pages 300
	held_round --pre-dump-mode live
	write_pages 300
	followed 16000
}

# pss: what the memory of all processes takes, in KiB. What is in common counts once.
pss() {
	local pid sum=0

	for pid in $(session_pids "$PID"); do
		sum=$((sum + $(rollup "$pid" Pss)))
	done
	echo "$sum"
}

# waiting_pss: what the memory takes that the restore has while it waits, in KiB. Its holder is the child of criu.
waiting_pss() {
	local criu holder

	criu=$(pgrep -P "$WAITING") && holder=$(pgrep -P "$criu") || die "nobody waits"
	rollup "$holder" Pss
}

# family PROCESSES: each has pages in common with others, and pages of its own.
family() {
	local pss waiting

	start_tracked family "$1" --processes "$1"
	prepare
	held_round --pre-dump-mode live
	ctl step || die "a step failed"
	held_round --pre-dump-mode live
	ctl step || die "a step failed"
	pss=$(pss)
	waiting=$(waiting_pss)
	[ "$waiting" -le $((pss + pss / 10 + 16384)) ] || die "the processes take $pss KiB, and the restore that waits $waiting KiB"
	last_dump
	restored
	# All that was in the second round, which is 18 MiB of each
	was_there $((4600 * $1)) $((300 * $1))
	[ "$(pss)" -le $((pss + pss / 10)) ] || die "the processes took $pss KiB before, and $(pss) KiB after the restore"
	verify_program "after the restore"
	ctl step || die "a step failed after the restore"
	verify_program "after a step"
	quit_program
}

families() {
	family 1
	rm -r "$T/1" "$T/2" "$T/last" "$T/names"
	family 12
}

# shape MODE [OPTION...]: mappings and processes come, go, change and move between rounds.
shape() {
	local processes

	start_tracked shapes 2
	prepare "${@:2}"
	held_round --pre-dump-mode "$1"
	for processes in 3 3 2 2; do
		ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
		ctl ready "$processes" || die "a process is missing"
		PROCESSES=$processes
		held_round --pre-dump-mode "$1"
	done
	ctl step || die "a step failed"
	last_dump
	restored
	# Most of it changes in each step
	was_there 1000 4000
	verify_program "after the restore"
	ctl step || die "a step failed after the restore"
	verify_program "after a step"
	quit_program
}

live_shapes() {
	shape live
}

stopped_shapes() {
	shape splice
}

# Holes are punched into images as they are read, but not into what may be read once more.
deduplicated_shapes() {
	shape live --auto-dedup
}

# reservation PROCESSES OPTION...: far more is reserved than there is memory.
reservation() {
	local i

	start_tracked sparse "$1" "${@:2}"
	prepare
	for i in 1 2; do
		held_round
		ctl step 30 || die "step $i failed"
	done
	last_dump
	restored
	was_there 1500
	verify_program "after the restore"
	ctl step 30 || die "a step failed after the restore"
	verify_program "after a step"
	quit_program
}

of_64_tib() {
	reservation 1 --tib 64
}

of_64_tib_forked() {
	reservation 2 --tib 64 --fork
}

of_100_tib() {
	reservation 1 --tib 100 --parts 8
}

# spots KIND: pages that are written, toggled, guarded and dropped all over 64 TiB.
spots() {
	local i

	start_tracked sparse-kinds 1 --kind "$1"
	prepare
	for i in 1 2; do
		held_round
		ctl step 30 || die "step $i failed"
	done
	last_dump
	restored
	[ "$(logged 'mappings are in memory')" -gt 0 ] || die "nothing was in memory"
	verify_program "after the restore"
	ctl step 30 || die "a step failed after the restore"
	verify_program "after a step"
	quit_program
}

closed_spots() {
	spots closed
}

open_spots() {
	spots open
}

# Without randomization the addresses of the program are those of criu.
taken_addresses() {
	CONFINE="" PROGRAMS=$T/bin
	mkdir "$T/bin"
	printf '#!/bin/bash\nexec setarch -R "%s/pagekeeper" "$@"\n' "$TEST_BIN" >"$T/bin/pagekeeper"
	chmod 755 "$T/bin/pagekeeper"
	start_tracked pagekeeper 1 --mib 24 --rate 1000
	BELOW="setarch -R"
	prepare
	held_round --pre-dump-mode live
	write_pages 300
	held_round --pre-dump-mode live
	write_pages 300
	last_dump
	restored
	was_there 4000
	[ "$(logged 'of them elsewhere')" -gt 0 ] || die "all had the addresses of the program"
	verify_and_quit
}

huge_pages() {
	local huge

	start_with_huge_pages 64
	prepare
	held_round --pre-dump-mode live
	write_pages 300
	huge=$(rollup "$PID" AnonHugePages)
	last_dump
	restored
	was_there 10000
	has_huge $((huge * 9 / 10)) || die "huge pages: $huge kB before, $(rollup "$PID" AnonHugePages) kB after the restore"
	verify_and_quit
}

# What is in memory is not what the dump counts on: a round that was not read lies between.
unread_round() {
	held_program
	pre_dump --pre-dump-mode live
	write_pages 300
	not_followed
}

# The same directory, with other images in it.
rewritten_round() {
	held_program
	epoch_next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$T/1" --track-mem --pre-dump-mode splice || die "the second pre-dump failed"
	epoch_next
	write_pages 300
	not_followed
}

full_dump() {
	held_program
	DIR=$T/last
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "the dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restored
	verify_and_quit
}

nothing_read() {
	start_tracked pagekeeper 1 --mib 16 --rate 1000
	prepare
	pre_dump --pre-dump-mode live
	mkdir "$T/empty"
	hold empty "there is no inventory of a pre-dump"
	hold missing "it can't be opened"
	rm "$T/1"/vmas-*.img
	hold 1 "it does not say which mappings it is of"
	last_dump
	restored
	verify_and_quit
}

# A directory that has not been copied to its end
copied_in_part() {
	local pages

	start_tracked pagekeeper 1 --mib 16 --rate 1000
	prepare
	pre_dump --pre-dump-mode live
	pages=$(echo "$T"/1/pages-*.img)
	cp "$pages" "$T/pages" && truncate -s 8192 "$pages" || die "truncate"
	hold 1 "pages can't be read"
	cp "$T/pages" "$pages" || die "cp"
	write_pages 300
	held_round --pre-dump-mode live
	write_pages 300
	followed 3000
}

# Some who start criu don't want to hear of their children, and that is inherited.
ignored_children() {
	BELOW="env --ignore-signal=CHLD"
	held_program
	followed 3000
}

# Memory is compared with the images: here a page of them has changed since it was read.
spoiled() {
	local page

	start_tracked pagekeeper 1 --mib 16 --rate 200 --working-set 1
	prepare
	held_round --pre-dump-mode live
	write_pages 50
	held_round --pre-dump-mode live
	last_dump
	page=$(/usr/bin/python3 "$TEST_DIR/criu/spoil-page.py" flip "$PID" "$T/last" "$T/2" "$T/1") || die "spoil-page"
	! let_go || die "a page that is not what the images say was restored"
	grep -q "The page at ${page#0x} is not what the images say" "$T/last/restore.log" ||
		die "page $page: $(log_errors "$T/last/restore.log")"
	wait_for 10 session_is_gone "$PID" || die "something of the program is there"
}

# criu is what has been started, and the parent of what it restores, until that has ended.
parent_of_the_program() {
	local parent

	start_tracked pagekeeper 1 --mib 8 --rate 1000
	prepare --no-restore-detached --pidfile "$T/pid"
	held_round --pre-dump-mode live
	last_dump
	exec {NAMES}>&-
	wait_for 20 test -s "$T/pid" && wait_for 20 ctl ready 1 || die "the program does not run: $(log_errors "$T/last/restore.log")"
	[ "$(cat "$T/pid")" = "$PID" ] || die "the pidfile says $(cat "$T/pid")"
	parent=$(awk '/^PPid:/ { print $2 }' "/proc/$PID/status")
	[ "$(cat "/proc/$parent/comm")" = criu ] || die "its parent is $(cat "/proc/$parent/comm")"
	verify_program "after the restore"
	quit_program
	wait "$WAITING" || die "criu ends with $?"
}

# Whoever gives up leaves a program that runs on, and no process that waits.
given_up() {
	local criu child

	start_tracked pagekeeper 1 --mib 16 --rate 1000
	prepare
	held_round --pre-dump-mode live
	criu=$(pgrep -P "$WAITING" -x criu) || die "no criu waits"
	child=$(pgrep -P "$criu") || die "it has no child"
	kill -KILL "$criu"
	wait "$WAITING" 2>/dev/null
	exec {NAMES}>&-
	wait_for 10 is_gone "$child" || die "what held the memory is still there"
	write_pages 300
	final_dump
	restore_and_verify
	quit_program
}

# over_rpc [OPTION...]: the same, asked for over RPC.
over_rpc() {
	mkdir "$T/last" && mkfifo "$T/names" || die "mkfifo"
	(
		cd "$T" || exit 1
		CRIU_VERIFY_PRE_RESTORE=1 CRIU_LIBS_DIR=$PLUGINS timeout "$CRIU_TIMEOUT" \
			"$TEST_BIN/criu-rpc" "$CRIU" pre-restore "$T/last" "$@" <names >answers 2>"$T/err"
	) &
	WAITING=$!
	exec {NAMES}>"$T/names"
	start_tracked pagekeeper 1 --mib 16 --rate 1000
	pre_dump --pre-dump-mode live
	asked 1
	write_pages 300
	pre_dump
	asked 2
	write_pages 300
	last_dump
	let_go || die "the restore failed: $(cat "$T/err") $(log_errors "$T/last/criu.log")"
	[ "$(tail -n 1 "$T/answers")" = "pid $PID" ] || die "the answers are $(cat "$T/answers")"
	ctl ready 1 || die "restored, but the program does not run"
	mv "$T/last/criu.log" "$T/last/restore.log"
	was_there 3000
	verify_and_quit
}

# asked ROUND: the last round is in memory.
asked() {
	echo "$T/$1" >&"$NAMES"
	wait_for 30 answered "$1" || die "no answer: $(cat "$T/err")"
	[ "$(tail -n 1 "$T/answers")" = success ] || die "the answer is $(tail -n 1 "$T/answers" "$T/err")"
}

as_sibling() {
	over_rpc --sibling
}

# refused WHAT OPTION...: with an error that says WHAT.
refused() {
	mkdir "$T/last"
	! timeout -k 5 20 "$CRIU" "${@:2}" -D "$T/last" -o log </dev/null >"$T/out" 2>&1 || die "criu ${*:2} is not refused"
	grep -qs -- "$1" "$T/last/log" "$T/out" || die "criu ${*:2}: $(log_errors "$T/last/log") $(cat "$T/out")"
	rm -r "$T/last"
}

refusals() {
	refused "--pre-restore and --restore-sibling cannot be used together" restore --restore-sibling -d --pre-restore
	refused "--pre-restore and --lazy-pages cannot be used together" restore --lazy-pages --pre-restore
	refused "--shell-job needs standard input" restore --shell-job --pre-restore
	refused "--pre-restore is for the restore command only" dump -t $$ --pre-restore
	refused "takes the number of an open descriptor to read from, not 77" restore --pre-restore=77
	refused "takes the number of an open descriptor to read from, not x" restore --pre-restore=x
}

run_test a_program_has_its_memory_before_the_dump live_chain
run_test a_program_with_memory_from_before_the_dump_goes_on_from_the_restore tracked_from_the_restore
run_test rounds_of_all_modes_are_in_memory_before_the_dump mixed_chain
run_test threads_and_children_of_it_are_right threads_and_children
run_test children_have_their_memory_before_the_dump_and_share_it families
run_test shapes_that_change_between_live_rounds_are_right live_shapes
run_test shapes_that_change_between_stopped_rounds_are_right stopped_shapes
run_test shapes_that_change_are_right_with_deduplication deduplicated_shapes
run_test a_reservation_of_64_tib_is_in_memory of_64_tib
run_test a_forked_reservation_of_64_tib_is_right of_64_tib_forked
run_test reservations_of_100_tib_are_in_memory of_100_tib
run_test spots_in_inaccessible_memory_are_right closed_spots
run_test spots_in_accessible_memory_are_right open_spots
run_test memory_whose_addresses_are_taken_is_moved taken_addresses
run_test huge_pages_are_huge_again huge_pages
run_test a_dump_after_a_round_that_was_not_read_is_right unread_round
run_test a_dump_after_a_round_that_was_written_anew_is_right rewritten_round
run_test a_dump_without_a_parent_is_right full_dump
run_test what_is_no_pre_dump_is_left_out nothing_read
run_test a_pre_dump_that_was_copied_in_part_is_left_out copied_in_part
run_test whoever_ignores_its_children_gets_its_program_back ignored_children
run_test memory_that_is_not_what_the_images_say_is_found spoiled
run_test criu_is_the_parent_of_the_program parent_of_the_program
run_test a_restore_that_is_given_up_leaves_nothing given_up
run_test over_rpc_a_program_has_its_memory_before_the_dump over_rpc
run_test over_rpc_as_a_sibling_too as_sibling
run_test options_that_do_not_go_together_are_refused refusals
finish
