#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack migrate: rounds until the stop is short, the dump, and what ends it before; wptrack dirty-rate.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Any program here can be stopped for as short as that, however slow the machine; none for as short as the other.
LONG_MS=20000
SHORT_MS=1

# migrate [OPTION...] [-- CRIU_OPTION...]: of the program, into $T/m. Sets RC.
migrate() {
	migrate_program "--pre-dump-mode splice" -v4 "$@"
}

# migrate_in_background [OPTION...]: sets MIGRATE, its pid, which ignores $IGNORE. A shell lets background jobs ignore SIGINT.
migrate_in_background() {
	env --default-signal=INT ${IGNORE:+--ignore-signal="$IGNORE"} "$WPTRACK" migrate --criu "$CRIU" --pre-dump-mode splice "$@" "$PID" "$T/m" -- -L "$PLUGINS" -v4 </dev/null \
		>"$T/out" 2>"$T/err" &
	MIGRATE=$!
}

# ends_with STATUS
ends_with() {
	[ "$RC" = "$1" ] || die "ended with $RC, not with $1: $(tail -n 2 "$T/err" | tr '\n' ' ')"
}

# says TEXT: on stderr.
says() {
	grep -qF -- "$1" "$T/err" || die "does not say \"$1\": $(tail -n 3 "$T/err" | tr '\n' ' ')"
}

# json_of FILTER: a python expression over rounds (list) and verdict, from what --json has printed.
json_of() {
	/usr/bin/python3 -c '
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
rounds, verdict = lines[:-1], lines[-1]
print(eval(sys.argv[2]))' "$T/out" "$1" || die "no JSON: $(head -n 3 "$T/out")"
}

# json_is FILTER VALUE
json_is() {
	local value

	value=$(json_of "$1") || exit 1
	[ "$value" = "$2" ] || die "$1 is $value, not $2"
}

tracked() {
	"$WPTRACK" status --json | grep -q "\"pid\": $1,"
}

# goes_on: it runs, is not tracked, and its memory is right; the next dump has nothing of this to stumble over.
goes_on() {
	local pid

	for pid in $(session_pids "$PID"); do
		grep -q '^State:[[:space:]]*[RSD]' "/proc/$pid/status" || die "process $pid does not run: $(grep State "/proc/$pid/status")"
		grep -q '^TracerPid:[[:space:]]*0$' "/proc/$pid/status" || die "process $pid is traced"
		! tracked "$pid" || die "process $pid is still tracked"
	done
	write_pages 200
	verify_program "afterwards"
	mkdir "$T/plain" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$T/plain" || die "the dump afterwards failed: $(log_errors "$T/plain/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$T/plain"
	quit_program
}

# dumped: it is gone, and what was dumped last is it.
dumped() {
	local last

	last=$(json_of 'rounds[-1]["directory"]') || exit 1
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	[ "$(stat_of "$last" pages_skipped_parent)" -gt 500 ] || die "the dump leaves nothing to its parent"
	DIR=$last
}

converging() {
	start_tracked pagekeeper "$1" --mib 32 --rate 200 "${@:2}"
	migrate --json --downtime "$LONG_MS"
	ends_with 0
	json_is 'verdict["verdict"]' dumped
	json_is 'verdict["rounds"] == len(rounds) >= 2 and rounds[-1]["kind"]' dump
	json_is 'rounds[0]["pages_skipped_parent"]' 0
	json_is 'verdict["predicted_stop_us"] == rounds[-2]["predicted_stop_us"] > 0' True
	json_is 'rounds[-1]["pages_written"] < rounds[0]["pages_written"] / 2' True
	dumped
	restore_and_verify "$DIR"
	quit_program
}

slow_writer() {
	converging 1
}

tree() {
	converging 3 --children 2 --threads 2
}

# A prediction that is made up would pass the others.
predicted() {
	local left written

	start_tracked pagekeeper 1 --mib 64 --rate 6000
	migrate --json --downtime 1 --force
	ends_with 0
	says "dumping, as --force is given"
	json_is 'verdict["verdict"]' dumped
	left=$(json_of 'rounds[-2]["left_bytes"] // 4096') || exit 1
	written=$(json_of 'rounds[-1]["pages_written"]') || exit 1
	[ "$written" -lt $((left * 3 + 200)) ] && [ "$left" -lt $((written * 3 + 200)) ] ||
		die "predicted $left pages, dumped $written"
	dumped
	restore_and_verify "$DIR"
	quit_program
}

fast_writer() {
	start_tracked pagekeeper 1 --mib 32 --rate 400000
	migrate --json --downtime "$SHORT_MS"
	ends_with 3
	json_is 'verdict["verdict"]' not-converging
	says "does not converge"
	says "> downtime $SHORT_MS ms"
	says "runs on, and is not tracked"
	json_is 'all(r["kind"] == "pre-dump" for r in rounds) and len(rounds) <= 10' True
	goes_on
}

left_running() {
	start_tracked pagekeeper 1 --mib 32
	migrate --json --downtime "$LONG_MS" --leave-running
	ends_with 0
	[ -e "/proc/$PID" ] || die "it is gone"
	goes_on
}

# The second round, and criu is at work in it.
second_round() {
	local child

	[ -e "/proc/$MIGRATE" ] || return 0
	child=$(cat "/proc/$MIGRATE/task/$MIGRATE/children" 2>/dev/null)
	[ -n "$child" ] && [ -s "$T/m/2/pre-dump.log" ]
}

# Stands in for criu: stops the program, lets it go on after a while, and takes its time then.
slow_criu() {
	cat >"$T/slow-criu" <<-'E'
		#!/usr/bin/python3
		import ctypes, os, sys, time
		SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
		ptrace = ctypes.CDLL(None).ptrace
		ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
		if "--tree" not in sys.argv:
		    sys.exit(0)  # asked what it can do
		pid = int(sys.argv[sys.argv.index("--tree") + 1])
		if ptrace(SEIZE, pid, None, None) or ptrace(INTERRUPT, pid, None, None):
		    sys.exit("ptrace")
		os.waitpid(pid, WALL)
		open(sys.argv[0] + ".stopped", "w").close()
		time.sleep(0.5)
		open(sys.argv[0] + ".detaching", "w").close()
		ptrace(DETACH, pid, None, None)
		time.sleep(60)
	E
	chmod 755 "$T/slow-criu"
}

# A criu that is killed while it has something stopped may leave its code there; whoever insists gets it killed.
while_stopped() {
	local times=$1 i

	slow_criu || die "no stand-in for criu"
	start_tracked pagekeeper 1 --mib 16
	CRIU=$T/slow-criu migrate_in_background
	wait_for 10 test -e "$T/slow-criu.stopped" || die "the program was not stopped: $(cat "$T/err")"
	for ((i = 0; i < times; i++)); do
		kill -s TERM "$MIGRATE" || die "it had ended"
		# Two that come at once are one.
		[ $((i + 1)) = "$times" ] || sleep 0.1
	done
	wait "$MIGRATE"
	RC=$?
	ends_with 143
	verify_program "afterwards"
	quit_program
}

told_later() {
	while_stopped 1
	[ -e "$T/slow-criu.detaching" ] || die "it was told while it had the program stopped"
}

told_at_once() {
	while_stopped 2
	[ ! -e "$T/slow-criu.detaching" ] || die "it was not told at once"
}

# hit_second_round SIGNAL [OPTION...]: migrate, and be there in time. Sets MIGRATE.
hit_second_round() {
	local try

	for try in 1 2 3 4 5; do
		migrate_in_background --json --downtime "$SHORT_MS" "${@:2}"
		wait_for 30 second_round || die "no second round"
		! kill -s "$1" "$MIGRATE" 2>/dev/null || return 0
		wait "$MIGRATE"
		rm -r "$T/m"
	done
	die "too late in $try tries: $(tail -n 2 "$T/err")"
}

interrupted() {
	start_tracked pagekeeper 2 --mib 64 --children 1
	hit_second_round INT
	wait "$MIGRATE"
	RC=$?
	ends_with 130
	json_is 'verdict["verdict"]' cancelled
	json_is 'len(rounds) >= 1 and all(r["kind"] == "pre-dump" for r in rounds)' True
	says "cancelled by"
	says "stay in $T/m"
	[ -s "$T/m/1/stats-dump" ] || die "the images of the first round are gone"
	goes_on
}

# As below nohup: what is ignored cancels nothing.
ignoring() {
	start_tracked pagekeeper 1 --mib 64
	IGNORE=HUP hit_second_round HUP
	wait "$MIGRATE"
	RC=$?
	ends_with 3
	verify_program "afterwards"
	quit_program
}

# Shared memory is left to the dump, and copied pages of a file are dumped each time: 32 MiB of each.
counted() {
	start_program /usr/bin/python3 -c '
import mmap, sys, time
shared = mmap.mmap(-1, 64 << 20)
with open(sys.argv[1], "w+b") as file:
    file.truncate(32 << 20)
    private = mmap.mmap(file.fileno(), 32 << 20, flags=mmap.MAP_PRIVATE)
for at in range(0, 32 << 20, 4096):
    shared[at] = private[at] = 1
print("ready", flush=True)
time.sleep(600)' "$T/file"
	wait_for 20 grep -q ready "$T/program.log" || die "it does not get ready"
	migrate --json --downtime "$SHORT_MS" --max-rounds 1
	ends_with 3
	says "--max-rounds"
	json_is 'len(rounds)' 1
	json_is 'rounds[0]["left_bytes"] // (32 << 20)' 2
}

# 64 MiB of shared memory and next to nothing else: it is named, and the program not blamed.
shared() {
	start_program /usr/bin/python3 -c '
import mmap, time
shared = mmap.mmap(-1, 64 << 20)
for at in range(0, 64 << 20, 4096):
    shared[at] = 1
print("ready", flush=True)
time.sleep(600)'
	wait_for 20 grep -q ready "$T/program.log" || die "it does not get ready"
	migrate --downtime "$SHORT_MS"
	ends_with 3
	says "64.0 MiB of shared memory"
	says "no round makes the stop shorter than"
	! grep -q ' 0 B/s' "$T/err" || die "it is blamed for what it does not write: $(grep ' 0 B/s' "$T/err")"
	rm -r "$T/m"
	# At any speed that a machine copies memory with.
	migrate --downtime "$LONG_MS"
	ends_with 0
}

# What is printed in the end restores it.
told_how_to_restore() {
	local command

	start_tracked pagekeeper 1 --mib 16
	migrate --downtime "$LONG_MS" -- --file-locks
	ends_with 0
	command=$(grep -A 1 '^to restore it:$' "$T/out" | tail -n 1)
	[[ $command == *" restore "*" -d --file-locks" ]] || die "no command to restore: $(cat "$T/out")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	timeout -k 5 "$CRIU_TIMEOUT" sh -c "$command" </dev/null >"$T/restore.out" 2>&1 ||
		die "$command: $(tail -n 2 "$T/restore.out")"
	ctl ready 1 || die "restored, but the program does not run"
	verify_program "after the restore"
	quit_program
}

helps() {
	local command

	for command in status release show verify migrate dirty-rate; do
		for option in --help -h; do
			"$WPTRACK" "$command" "$option" >"$T/out" 2>"$T/err" || die "$command $option ends with $?"
			grep -q "^usage: wptrack $command" "$T/out" || die "$command $option prints no usage"
			[ ! -s "$T/err" ] || die "$command $option prints to stderr"
		done
		for option in --version -V; do
			[[ $("$WPTRACK" "$command" "$option") == wptrack\ [0-9]* ]] || die "$command $option prints no version"
		done
	done
	[[ $("$WPTRACK" -V) == wptrack\ [0-9]* ]] || die "-V prints no version"
	"$WPTRACK" migrate --help | grep -q -- --no-checks || die "not all options are shown"
}

# A round that fails: an image cannot be created. The log can, and has room to say so.
without_room() {
	start_tracked pagekeeper 1 --mib 32
	mkdir "$T/m" && mount -t tmpfs -o nr_inodes=5 none "$T/m" || die "mount"
	echo "$T/m" >>"$T/mounts"
	migrate --json
	ends_with 1
	says "round 1: criu pre-dump failed: Error ("
	says "No space left on device"
	json_is 'verdict["verdict"]' failed
	goes_on
}

without_plugin() {
	start_tracked pagekeeper 1 --mib 16
	CRIU_LIBS_DIR=$T timeout -k 5 "$CRIU_TIMEOUT" "$WPTRACK" migrate --criu "$CRIU" --pre-dump-mode splice "$PID" "$T/m" \
		-- -L "$T" </dev/null >"$T/out" 2>"$T/err"
	RC=$?
	ends_with 1
	grep -qE 'neither this kernel nor a plugin|-- -L DIR' "$T/err" || die "does not say what is missing: $(cat "$T/err")"
	goes_on
}

# As on another machine: a server for each round, and in the end what is not memory is brought to the pages.
page_server() {
	local try server

	start_tracked pagekeeper 2 --mib 32 --rate 200 --children 1
	mkdir "$T/server" || die "mkdir"
	for try in 1 2 3 4 5; do
		PORT=$((20000 + RANDOM))
		server="mkdir -p $T/server/\$WPTRACK_ROUND && exec $CRIU page-server --daemon -D $T/server/\$WPTRACK_ROUND \
			--address 127.0.0.1 --port $PORT \${WPTRACK_PREV:+--prev-images-dir \$WPTRACK_PREV} \
			-o page-server.log </dev/null >/dev/null 2>&1"
		migrate --json --downtime "$LONG_MS" --address 127.0.0.1 --port "$PORT" --page-server-cmd "$server"
		[ "$RC" != 0 ] && grep -q 'page-server of round 1 was not started' "$T/err" || break
		rm -r "$T/m"
	done
	ends_with 0
	dumped
	[ -z "$(find "$T/m" -name 'pages-*.img' -size +0)" ] || die "pages have been written here"
	server=$T/server/$(basename "$DIR")
	find "$DIR" -name '*.img' -exec cp -n {} "$server/" \;
	restore_and_verify "$server"
	quit_program
}

# refused STATUS TEXT ARG...
refused() {
	"$WPTRACK" migrate "${@:3}" </dev/null >"$T/out" 2>"$T/err"
	RC=$?
	ends_with "$1"
	says "$2"
	[ "$(wc -l <"$T/err")" = 1 ] || die "more than one line: $(cat "$T/err")"
	[ ! -s "$T/out" ] || die "prints to stdout"
}

bad_arguments() {
	local gone

	start_program sleep 60
	mkdir "$T/full" "$T/full/1" || die "mkdir"
	gone=$(bash -c 'echo $$')
	refused 2 "needs a PID and a directory"
	refused 2 "needs a PID and a directory" "$PID"
	refused 2 "that is no PID" none "$T/m"
	refused 2 "takes options, a PID and a directory" "$PID" "$T/m" "$T/n"
	refused 2 "takes options, a PID and a directory" --tcp-established "$PID" "$T/m"
	refused 2 "--downtime takes milliseconds" --downtime 0 "$PID" "$T/m"
	refused 2 "--downtime needs a value" "$PID" "$T/m" --downtime
	refused 2 "--max-rounds takes a number" --max-rounds x "$PID" "$T/m"
	refused 2 "--pre-dump-mode is live, splice or read" --pre-dump-mode fast "$PID" "$T/m"
	refused 2 "a page-server takes both" --port 1234 "$PID" "$T/m"
	refused 2 "a page-server takes both" --page-server-cmd true "$PID" "$T/m"
	refused 2 "--port takes a port" --port 70000 --page-server-cmd true "$PID" "$T/m"
	refused 1 "there is no process $gone" --criu "$CRIU" "$gone" "$T/m"
	refused 1 "is no empty directory" --criu "$CRIU" "$PID" "$T/full"
	refused 1 "does not exist" --criu "$CRIU" "$PID" "$T/not/there"
	refused 1 "there is no program $T/criu" --criu "$T/criu" "$PID" "$T/m"
	printf '#!/bin/sh\nPATH=%s exec %s "$@"\n' "$T" "$WPTRACK" >"$T/pathless" && chmod 755 "$T/pathless"
	WPTRACK=$T/pathless refused 1 "there is no program criu" "$PID" "$T/m"
	[ ! -e "$T/m" ] || die "a directory has been made"
}

# rate_of ARG...: prints what dirty-rate does.
rate_of() {
	timeout 20 "$WPTRACK" dirty-rate "$@" "$PID" 2>"$T/err"
}

dirty_rate() {
	local written

	start_tracked pagekeeper 2 --mib 64 --rate 500 --children 1
	! rate_of --count 1 >"$T/out" || die "it is not tracked"
	says "make a pre-dump of it first"
	pre_dump
	rate_of --interval 0.5 --count 2 --json >"$T/out" || die "$(cat "$T/err")"
	# All that it says is new since the round, and below what was written in all.
	/usr/bin/python3 - "$T/out" "$PID" <<-'E' || die "$(cat "$T/out")"
		import json, sys
		first, second = [json.loads(line) for line in open(sys.argv[1])]
		assert second["untracked"] == 0 and len(second["processes"]) == 2
		assert second["processes"][0]["pid"] == int(sys.argv[2])
		for a, b in zip(first["processes"], second["processes"]):
		    assert b["written_bytes"] >= a["written_bytes"] > 0
		    assert 0 < b["pages_per_second"] < 5000 and b["bytes_per_second"] > 0
	E
	# It resets nothing: the round after writes all that was written since the one before.
	written=$(/usr/bin/python3 -c '
import json, sys
print(sum(p["written_bytes"] for p in json.loads(open(sys.argv[1]).readlines()[-1])["processes"]) // 4096)' "$T/out")
	pre_dump
	assert_incremental
	[ "$(stat_of "$DIR" pages_written)" -ge "$written" ] || die "written are $written pages, the round has fewer"
	final_dump
	restore_and_verify
	! rate_of --count 1 >"$T/out" || die "the restored program is not tracked"
	quit_program
}

run_test a_program_that_writes_little_is_dumped_and_restored slow_writer
run_test a_tree_is_dumped_and_restored tree
run_test the_size_of_the_dump_is_predicted predicted
run_test a_program_that_writes_too_fast_is_not_dumped fast_writer
run_test a_program_left_running_is_not_tracked left_running
run_test ctrl_c_in_a_round_leaves_the_program_running interrupted
run_test criu_is_not_told_while_it_has_the_program_stopped told_later
run_test criu_is_told_at_once_the_second_time told_at_once
run_test signals_that_are_ignored_cancel_nothing ignoring
run_test rounds_are_limited_and_all_that_is_left_is_counted counted
run_test shared_memory_is_named_when_it_takes_too_long shared
run_test the_command_that_restores_is_told told_how_to_restore
run_test each_command_has_help_and_a_version helps
run_test a_round_that_fails_leaves_the_program_running without_room
run_test a_criu_without_the_plugin_is_noticed without_plugin
run_test pages_go_to_a_page_server page_server
run_test wrong_arguments_are_refused_before_anything_is_done bad_arguments
run_test dirty_rate_tells_what_is_written_and_resets_nothing dirty_rate
finish
