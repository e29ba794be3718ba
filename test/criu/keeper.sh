#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The keeper's manners, and what the wptrack command says.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# json FILE EXPRESSION: evaluate a python expression on the parsed file (d).
json() {
	/usr/bin/python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

one_round() {
	start_tracked pagekeeper 1 --mib 8
	pre_dump
	KEEPER=$(keeper_pid)
	[ -n "$KEEPER" ] || die "no keeper runs"
}

# The keeper has its own descriptors only: /dev/null, anonymous ones,
# its directory and its socket.
holds_nothing() {
	local fd to

	exec 8>"$T/callers-file"
	one_round
	exec 8>&-
	for fd in "/proc/$KEEPER/fd"/*; do
		to=$(readlink "$fd") || continue
		case $to in
		/dev/null | anon_inode:* | socket:* | "$WPTRACK_RUN_DIR") ;;
		*) die "descriptor ${fd##*/} is $to" ;;
		esac
	done
	[ "$(find "/proc/$KEEPER/fd" -lname 'socket:*' | wc -l)" = 1 ] || die "it holds more sockets than its own"
	[ "$(readlink "/proc/$KEEPER/cwd")" = / ] || die "its directory is $(readlink "/proc/$KEEPER/cwd")"
	read -r _ _ _ to _ <<<"$(sed 's/.*) //' "/proc/$KEEPER/stat")"
	[ "$to" = "$KEEPER" ] || die "its session is $to, not its own"
	[ "$(stat -c %a "$WPTRACK_RUN_DIR/keeper.sock")" = 600 ] ||
		die "its socket has mode $(stat -c %a "$WPTRACK_RUN_DIR/keeper.sock")"
}

leaves_with_program() {
	one_round
	quit_program
	wait_for 10 is_gone "$KEEPER" || die "the keeper stays after the program has left"
	wait_for 5 keeper_is_gone || die "$WPTRACK_RUN_DIR is left behind"
}

leaves_with_killed_program() {
	one_round
	kill -9 "$PID" || die "kill"
	wait_for 10 is_gone "$KEEPER" || die "the keeper stays after the program was killed"
	wait_for 5 keeper_is_gone || die "$WPTRACK_RUN_DIR is left behind"
}

leaves_after_dump() {
	one_round
	final_dump
	wait_for 10 is_gone "$KEEPER" || die "the keeper stays after the dump"
	wait_for 5 keeper_is_gone || die "$WPTRACK_RUN_DIR is left behind"
}

stays_for_the_other() {
	local first

	one_round
	first=$PID
	mkdir "$T/first" || die "mkdir"
	mv "$T/1" "$T/control" "$T/first" || die "mv"
	start_tracked pagekeeper 1 --mib 8
	pre_dump
	[ "$(keeper_pid)" = "$KEEPER" ] || die "a second keeper runs"
	kill -9 "$first" || die "kill"
	wait_for 10 is_gone "$first" || die "the first program does not go"
	write_pages 100
	pre_dump
	assert_incremental
	[ "$(keeper_pid)" = "$KEEPER" ] || die "the keeper has changed"
}

status_lists() {
	one_round
	"$WPTRACK" status >"$T/status" 2>&1 || die "$(cat "$T/status")"
	grep -qw "$PID" "$T/status" || die "the pid is missing: $(cat "$T/status")"
	grep -qw pagekeeper "$T/status" || die "the name is missing: $(cat "$T/status")"
	"$WPTRACK" status --json >"$T/json" 2>&1 || die "$(cat "$T/json")"
	json "$T/json" 'd' >/dev/null 2>&1 || die "no JSON: $(head -c 200 "$T/json")"
	[ "$(json "$T/json" "sum(t['vmas_registered'] > 0 for t in d['tasks'] if t['pid'] == $PID)")" = 1 ] ||
		die "no registered VMAs: $(head -c 400 "$T/json")"
}

status_without_keeper() {
	"$WPTRACK" status >"$T/status" 2>&1 || die "status $? without a keeper: $(cat "$T/status")"
	"$WPTRACK" status --json >"$T/json" 2>&1 || die "$(cat "$T/json")"
	json "$T/json" 'd' >/dev/null 2>&1 || die "no JSON: $(head -c 200 "$T/json")"
	[ ! -e "$WPTRACK_RUN_DIR" ] || die "asking has made $WPTRACK_RUN_DIR"
}

release_unknown() {
	one_round
	if "$WPTRACK" release 1 >"$T/out" 2>&1; then
		die "a process that is not tracked was released"
	fi
	[ "$(wc -l <"$T/out")" = 1 ] || die "not one line: $(cat "$T/out")"
}

show_generations() {
	local round gen last=0 session="" now

	one_round
	pre_dump
	pre_dump
	final_dump
	for round in 1 2 3 4; do
		"$WPTRACK" show "$T/$round" >"$T/text" 2>&1 || die "show: $(cat "$T/text")"
		"$WPTRACK" show "$T/$round" --json >"$T/json" 2>&1 || die "show --json: $(cat "$T/json")"
		/usr/bin/python3 -m json.tool "$T/json" >/dev/null || die "no JSON: $(head -c 200 "$T/json")"
		gen=$(json "$T/json" "d['generation']") || die "no generation: $(head -c 200 "$T/json")"
		now=$(json "$T/json" "d['session']") || die "no session: $(head -c 200 "$T/json")"
		[ "$gen" -gt "$last" ] || die "generation $gen after $last"
		[ "$(json "$T/json" "d['parent_generation']")" = "$last" ] || die "the parent of $gen is not $last"
		[ "${session:=$now}" = "$now" ] || die "another session in round $round"
		last=$gen
	done
}

show_nothing() {
	mkdir "$T/empty"
	if "$WPTRACK" show "$T/empty" >"$T/out" 2>&1; then
		die "it shows a record that is not there"
	fi
	[ "$(wc -l <"$T/out")" = 1 ] || die "not one line: $(cat "$T/out")"
}

# In another pid namespace, with the same keeper, a process has the number of one that is tracked: neither is taken for
# the other.
same_number_elsewhere() {
	local i

	start_tracked pagekeeper 1 --mib 8
	pre_dump
	mkdir "$T/inner" || die "mkdir"
	cat >"$T/inner.sh" <<-EOF
		echo $((PID - 1)) >/proc/sys/kernel/ns_last_pid
		sleep 60 </dev/null >/dev/null 2>&1 &
		[ \$! = $PID ] || { echo "pid \$!"; exit 3; }
		for round in 1 2; do
			mkdir $T/inner/\$round
			"$CRIU" pre-dump -t $PID -D $T/inner/\$round --track-mem -L "$PLUGINS" -v4 -o pre-dump.log \
				\$([ \$round = 1 ] || echo --prev-images-dir ../1) || exit 4
		done
		kill $PID
	EOF
	timeout 60 unshare --pid --fork --kill-child --mount --mount-proc bash "$T/inner.sh" >"$T/inner.out" 2>&1 </dev/null
	i=$?
	[ "$i" = 0 ] || die "in the inner namespace ($i): $(tail -n 2 "$T/inner.out") $(log_errors "$T/inner/1/pre-dump.log")"
	[ "$(stat_of "$T/inner/2" pages_skipped_parent)" -gt 0 ] || die "the inner round 2 is full"
	write_pages 100
	pre_dump
	assert_incremental
	final_dump
	restore_and_verify
	quit_program
}

run_test the_keeper_holds_nothing_of_its_caller holds_nothing
run_test the_keeper_leaves_when_the_program_quits leaves_with_program
run_test the_keeper_leaves_when_the_program_is_killed leaves_with_killed_program
run_test the_keeper_leaves_after_the_dump leaves_after_dump
run_test the_keeper_stays_for_the_other_program stays_for_the_other
run_test status_lists_what_is_tracked status_lists
run_test status_without_a_keeper_is_no_error status_without_keeper
run_test a_process_of_another_pid_namespace_with_the_same_number_is_another_one same_number_elsewhere
run_test releasing_what_is_not_tracked_is_an_error release_unknown
run_test show_prints_every_generation show_generations
run_test show_without_a_record_is_an_error show_nothing
finish
