#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What other users must not get, and what hostile files must not do.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

OTHER=65534

# as_other CMD [ARG...]: with another uid, no groups and no capabilities.
as_other() {
	timeout 20 setpriv --reuid "$OTHER" --regid "$OTHER" --clear-groups "$@"
}

# tracked: a program with one round behind it, and a wptrack that others can execute.
tracked() {
	start_tracked pagekeeper 1 --mib 16
	pre_dump
	cp "$WPTRACK" "$T/wptrack" && chmod 755 "$T/wptrack" || die "cp"
	"$T/wptrack" status >"$T/out" 2>&1 || die "root is refused: $(cat "$T/out")"
	grep -q "$PID" "$T/out" || die "root does not see it: $(cat "$T/out")"
}

# refused_to_others: they get neither the list nor the release; the owner goes on incrementally.
refused_to_others() {
	if as_other "$T/wptrack" status >"$T/out" 2>&1; then
		die "another user gets a list: $(cat "$T/out")"
	fi
	! grep -q "$PID" "$T/out" || die "another user sees the process: $(cat "$T/out")"
	if as_other "$T/wptrack" release --all >"$T/out" 2>&1; then
		die "another user releases: $(cat "$T/out")"
	fi
	write_pages 200
	pre_dump
	assert_incremental
	write_pages 200
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

others_by_mode() {
	tracked
	[ "$(stat -c %a "$WPTRACK_RUN_DIR" "$WPTRACK_RUN_DIR/keeper.sock" | tr '\n' ' ')" = "700 600 " ] ||
		die "modes: $(stat -c '%n %a' "$WPTRACK_RUN_DIR" "$WPTRACK_RUN_DIR/keeper.sock" | tr '\n' ' ')"
	refused_to_others
}

# The socket itself does not trust its mode.
others_by_credentials() {
	tracked
	chmod 711 "$T" && chmod 755 "$WPTRACK_RUN_DIR" && chmod 666 "$WPTRACK_RUN_DIR/keeper.sock" || die "chmod"
	as_other /usr/bin/python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])' "$WPTRACK_RUN_DIR/keeper.sock" || die "the mode refuses already: this shows nothing"
	refused_to_others
}

# full_round LINE: a round without a keeper or a record to trust: full, not long, and the log says why, once.
full_round() {
	local said

	pre_dump
	assert_full "there is nothing to trust"
	said=$(grep -cF "$1" "$DIR/pre-dump.log")
	[ "$said" = 1 ] || die "the log says '$1' $said times: $(grep 'wptrack: ' "$DIR/pre-dump.log" | head -n 3)"
	verify_program "after the round"
}

# Somebody else listens where the keeper should: CRIU gives it nothing, and does not wait for it.
keeper_of_another() {
	local fake

	start_tracked pagekeeper 1 --mib 16
	mkdir "$T/others" && chown "$OTHER" "$T/others" && chmod 711 "$T" || die "mkdir"
	as_other /usr/bin/python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen(5)
end = time.time() + 15
while time.time() < end:
    s.settimeout(end - time.time())
    try:
        c, _ = s.accept()
        c.settimeout(1)
        data, fds, _, _ = socket.recv_fds(c, 4096, 4)
        print("got", len(data), len(fds), flush=True)
    except OSError:
        pass' "$T/others/keeper.sock" >"$T/fake.out" 2>&1 &
	fake=$!
	wait_for 5 test -S "$T/others/keeper.sock" || die "the other's keeper does not listen"
	WPTRACK_RUN_DIR=$T/others full_round "Can't reach wptrack-keeper: Operation not permitted. Memory is not tracked"
	! grep -q 'got [1-9]' "$T/fake.out" || die "it was told something: $(cat "$T/fake.out")"
	kill "$fake" 2>/dev/null
	wait "$fake" 2>/dev/null
	quit_program
}

# bad_place ERROR MAKE: with a run directory made like that there is no keeper, which says why when asked,
# nothing is put there, and what it is stays as it was. The next round, with a good one, is tracked.
bad_place() {
	local before

	start_tracked pagekeeper 1 --mib 16
	"$2" || die "$2"
	before=$(stat -c '%F %a %u' "$T/bad")
	WPTRACK_RUN_DIR=$T/bad full_round "wptrack-keeper does not start, run it by hand to see why"
	if WPTRACK_RUN_DIR=$T/bad timeout 20 "$PLUGINS/wptrack-keeper" </dev/null 2>"$T/keeper.log"; then
		die "run by hand, the keeper takes it"
	fi
	[ "$(cat "$T/keeper.log")" = "wptrack-keeper: $T/bad: $1" ] || die "the keeper says: $(cat "$T/keeper.log")"
	[ -z "$(ls -A "$T/bad/")" ] || die "something was made in it: $(ls -A "$T/bad/")"
	[ "$(stat -c '%F %a %u' "$T/bad")" = "$before" ] || die "it was $before and is $(stat -c '%F %a %u' "$T/bad")"
	write_pages 100
	pre_dump
	write_pages 100
	pre_dump
	assert_incremental
	quit_program
}

make_link() {
	mkdir "$T/elsewhere" && chmod 700 "$T/elsewhere" && ln -s elsewhere "$T/bad"
}

make_open() {
	mkdir "$T/bad" && chmod 777 "$T/bad"
}

make_others() {
	mkdir "$T/bad" && chmod 700 "$T/bad" && chown "$OTHER" "$T/bad"
}

place_is_link() {
	bad_place "Not a directory" make_link
}

place_is_open() {
	bad_place "Operation not permitted" make_open
}

place_is_others() {
	bad_place "Operation not permitted" make_others
}

# The record replaces a link that lies in its place; what it leads to stays as it was, and the record is good.
record_over_link() {
	start_tracked pagekeeper 1 --mib 16
	echo precious >"$T/victim"
	new_round
	ln -s ../victim "$DIR/wptrack.img" || die "ln"
	epoch_next
	(umask 0 && criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem) ||
		die "pre-dump failed: $(log_errors "$DIR/pre-dump.log")"
	epoch_next
	[ "$(cat "$T/victim")" = precious ] || die "it was written through a link"
	[ -f "$DIR/wptrack.img" ] && [ ! -L "$DIR/wptrack.img" ] || die "the record is no file of its own"
	[ "$(stat -c %a "$DIR/wptrack.img")" = 600 ] || die "the record's mode is $(stat -c %a "$DIR/wptrack.img")"
	write_pages 100
	pre_dump
	assert_incremental
	quit_program
}

# hostile MAKE: with the parent's record replaced, the next round is full, says why and does not hang.
hostile() {
	start_tracked pagekeeper 1 --mib 16
	pre_dump
	mv "$DIR/wptrack.img" "$T/good.img" || die "mv"
	"$1" "$DIR/wptrack.img" || die "$1"
	write_pages 100
	full_round "Can't use the session record of the parent images (Bad message): this dump will be full"
	write_pages 100
	final_dump
	assert_incremental
	restore_and_verify
	quit_program
}

link_to_record() {
	ln -s ../good.img "$1"
}

cut_record() {
	head -c 40 "$T/good.img" >"$1"
}

garbage() {
	head -c 5000 /dev/urandom >"$1"
}

huge() {
	cp "$T/good.img" "$1" && truncate -s 1G "$1"
}

record_is_link() {
	hostile link_to_record
}

record_is_cut() {
	hostile cut_record
}

record_is_garbage() {
	hostile garbage
}

record_is_huge() {
	hostile huge
}

record_is_fifo() {
	hostile mkfifo
}

record_is_directory() {
	hostile mkdir
}

run_test other_users_do_not_get_to_the_keeper others_by_mode
run_test other_users_are_refused_by_the_keeper others_by_credentials
run_test a_keeper_of_another_user_is_told_nothing keeper_of_another
run_test a_run_directory_that_is_a_link_is_refused place_is_link
run_test a_run_directory_that_others_can_write_is_refused place_is_open
run_test a_run_directory_of_another_user_is_refused place_is_others
run_test the_record_is_not_written_through_a_link record_over_link
run_test a_link_in_place_of_the_parents_record_makes_a_round_full record_is_link
run_test a_record_that_is_cut_makes_a_round_full record_is_cut
run_test garbage_in_place_of_the_parents_record_makes_a_round_full record_is_garbage
run_test a_huge_record_makes_a_round_full record_is_huge
run_test a_fifo_in_place_of_the_parents_record_makes_a_round_full record_is_fifo
run_test a_directory_in_place_of_the_parents_record_makes_a_round_full record_is_directory
finish
