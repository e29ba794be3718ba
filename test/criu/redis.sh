#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# redis-server under load: pre-dumps, a dump, a restore, and nothing is lost.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

KEYS=420000
# The load rewrites this many of them over and over.
HOT_KEYS=4000
VALUE_TAIL=$(printf 'x%.0s' {1..244})

cli() {
	timeout 30 redis-cli -s "$T/redis.sock" "$@"
}

answers() {
	[ "$(cli ping 2>/dev/null)" = PONG ]
}

# SET random keys to values that differ, so that an old value shows.
SET_RANDOM=(SET key:__rand_int__ "__rand_int__$VALUE_TAIL")

# bench RANGE REQUESTS
bench() {
	redis-benchmark -s "$T/redis.sock" -r "$1" -n "$2" -P 16 -q "${SET_RANDOM[@]}" >/dev/null 2>&1 ||
		die "redis-benchmark failed"
}

start_load() {
	redis-benchmark -s "$T/redis.sock" -r "$HOT_KEYS" -n 1000000000 -c 2 -q "${SET_RANDOM[@]}" >/dev/null 2>&1 &
	LOAD=$!
}

stop_load() {
	kill "$LOAD" || die "the load did not run to the end"
	wait "$LOAD" 2>/dev/null
	wait_for 10 no_clients || die "a client is still connected"
}

# Only the listening socket is left.
no_clients() {
	[ "$(find "/proc/$PID/fd" -lname 'socket:*' | wc -l)" = 1 ]
}

commands_done() {
	cli info stats | tr -d '\r' | awk -F: '$1 == "total_commands_processed" { print $2 }'
}

# served_more_than N: the server has served that many commands more.
served_more_than() {
	local now

	now=$(commands_done)
	[ -n "$now" ] && [ "$now" -gt "$1" ]
}

# redis_round KIND: like pre_dump, without a control file.
redis_round() {
	local kind=$1

	new_round
	criu_cmd "$kind.log" "$kind" -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" ||
		die "$kind $ROUND failed: $(log_errors "$DIR/$kind.log")"
	WRITTEN=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	if [ "$ROUND" = 1 ]; then
		FIRST=$WRITTEN
		return
	fi
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "round $ROUND left nothing to its parent"
	[ "$WRITTEN" -gt 0 ] || die "round $ROUND wrote nothing, under load"
	[ $((WRITTEN * 2)) -lt "$FIRST" ] || die "round $ROUND wrote $WRITTEN pages, the first $FIRST"
}

start_redis() {
	# Debian's redis-tools has the server's program under another name; the
	# package redis-server would start a server of its own.
	ln -s "$(command -v redis-check-rdb)" "$T/redis-server" || die "no link"
	start_program "$T/redis-server" --port 0 --unixsocket "$T/redis.sock" --dir "$T" --save "" --appendonly no \
		--daemonize no --enable-debug-command local --logfile "$T/redis.log"
	wait_for 10 answers || die "redis-server does not answer"
	bench "$KEYS" "$KEYS"
}

redis_under_load() {
	local digest keys i

	command -v redis-check-rdb >/dev/null || skip "Debian's redis-tools is not installed"
	start_redis
	ROUND=0
	start_load
	for i in 1 2 3 4; do
		redis_round pre-dump
		wait_for 10 served_more_than "$(($(commands_done) + 2000))" || die "no load after pre-dump $i"
	done
	stop_load
	digest=$(cli debug digest)
	keys=$(cli dbsize)
	wait_for 10 no_clients || die "a client is still connected"
	redis_round dump
	wait_for 10 session_is_gone "$PID" || die "the dumped server is still there"
	restore_images "$DIR"
	wait_for 10 answers || die "the restored server does not answer"
	[ "$(cli dbsize)" = "$keys" ] || die "$keys keys before, $(cli dbsize) after"
	[ "$(cli debug digest)" = "$digest" ] || die "the data differ"
	[ "$(cli set after restore)" = OK ] && [ "$(cli get after)" = restore ] || die "the restored server does not write"
	bench "$HOT_KEYS" 20000
}

run_test redis_under_load_is_dumped_in_rounds_and_restored redis_under_load
finish
