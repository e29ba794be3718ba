#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Where criu looks for plugins: a relative directory is relative to where criu was started, however it is named.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# relative: be in a directory where the plugins are ./here/plugins, and nowhere else. Images are elsewhere.
relative() {
	mkdir "$T/start" "$T/start/here" "$T/images" && ln -s "$PLUGINS" "$T/start/here/plugins" && cd "$T/start" ||
		die "cannot make directories"
}

# tracks COMMAND...: it succeeds.
tracks() {
	timeout -k 5 "$CRIU_TIMEOUT" "$@" </dev/null >"$T/out" 2>&1 || die "$*: status $?: $(tail -n 2 "$T/out" | tr '\n' ' ')"
}

# has_record DIR: a round that was tracked has one.
has_record() {
	[ -e "$1/wptrack.img" ] || die "$(basename "$1") was not tracked"
}

by_option() {
	relative
	start_tracked pagekeeper 1 --mib 8
	tracks "$CRIU" check --feature mem_dirty_track -L here/plugins
	mkdir "$T/images/1" here/2 "$T/images/3"
	tracks "$CRIU" pre-dump -t "$PID" -D "$T/images/1" -L here/plugins
	has_record "$T/images/1"
	tracks "$CRIU" pre-dump -t "$PID" -D here/2 -L ./here/plugins
	has_record here/2
	tracks "$CRIU" dump -t "$PID" -D "$T/images/3" -W "$T/images" --track-mem -L here/plugins
	has_record "$T/images/3"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	tracks "$CRIU" restore -D "$T/images/3" -d -L here/plugins
	ctl ready 1 || die "restored, but the program does not run"
	verify_program "after the restore"
	quit_program
}

by_file_and_environment() {
	relative
	start_tracked pagekeeper 1 --mib 8
	mkdir "$T/images/1" "$T/images/2"
	echo 'libdir here/plugins' >"$T/images/criu.conf"
	tracks "$CRIU" pre-dump --config "$T/images/criu.conf" -t "$PID" -D "$T/images/1"
	has_record "$T/images/1"
	tracks env CRIU_LIBS_DIR=here/plugins "$CRIU" check --feature mem_dirty_track
	tracks env CRIU_LIBS_DIR=here/plugins "$CRIU" pre-dump -t "$PID" -D "$T/images/2"
	has_record "$T/images/2"
	tracks env CRIU_LIBS_DIR=nowhere "$CRIU" check --feature mem_dirty_track -L here/plugins
	quit_program
}

by_migrate() {
	relative
	start_tracked pagekeeper 1 --mib 8
	tracks "$WPTRACK" migrate --criu "$CRIU" --leave-running --downtime 20000 "$PID" "$T/images/m" -- -L here/plugins
	has_record "$T/images/m/1"
	quit_program
}

by_worker() {
	relative
	start_tracked pagekeeper 1 --mib 8
	mkdir "$T/images/1" "$T/images/2"
	tracks env CRIU_LIBS_DIR=here/plugins "$TEST_BIN/criu-rpc" "$CRIU" pre-dump "$PID" "$T/images/1"
	has_record "$T/images/1"
	echo 'libdir here/plugins' >"$T/images/criu.conf"
	tracks "$TEST_BIN/criu-rpc" "$CRIU" pre-dump "$PID" "$T/images/2" --config "$T/images/criu.conf"
	has_record "$T/images/2"
	quit_program
}

service_is_there() {
	[ -S "$T/socket" ] || is_gone "$SERVICE"
}

# start_service [OPTION...]: sets SERVICE.
start_service() {
	mkdir "$T/work"
	setsid "$CRIU" service --address "$T/socket" -W "$T/work" -v4 -o service.log "$@" </dev/null >/dev/null 2>&1 &
	SERVICE=$!
	echo "$SERVICE" >>"$T/sessions"
	wait_for 10 service_is_there && [ -S "$T/socket" ] || die "no service: $(log_errors "$T/work/service.log")"
}

end_service() {
	kill "$SERVICE"
	wait "$SERVICE"
	rm -r "$T/socket" "$T/work"
}

by_service() {
	relative
	start_tracked pagekeeper 1 --mib 8
	mkdir "$T/images/1" "$T/images/2" "$T/images/3"
	start_service -L here/plugins
	tracks "$TEST_BIN/criu-rpc" "$T/socket" check
	[ "$(cat "$T/out")" = "mem_track true, live true" ] || die "it says: $(cat "$T/out")"
	tracks "$TEST_BIN/criu-rpc" "$T/socket" pre-dump "$PID" "$T/images/1"
	has_record "$T/images/1"
	tracks "$TEST_BIN/criu-rpc" "$T/socket" pre-dump "$PID" "$T/images/2" --parent ../1
	has_record "$T/images/2"
	[ "$(stat_of "$T/images/2" pages_skipped_parent)" -gt 0 ] || die "the second round is full"
	end_service
	# The file that a request names is the last word.
	mkdir "$T/none"
	echo 'libdir here/plugins' >"$T/images/criu.conf"
	start_service -L "$T/none"
	tracks "$TEST_BIN/criu-rpc" "$T/socket" pre-dump "$PID" "$T/images/3" --config "$T/images/criu.conf"
	has_record "$T/images/3"
	end_service
	quit_program
}

run_test a_relative_directory_is_found_by_all_commands by_option
run_test a_relative_directory_in_a_file_or_the_environment_is_found by_file_and_environment
run_test a_relative_directory_is_found_in_the_rounds_of_a_migration by_migrate
run_test a_relative_directory_is_found_by_a_worker by_worker
run_test a_service_has_its_directory_for_all_requests by_service
finish
