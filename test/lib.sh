# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the end-to-end tests and the demo share. Sourced after "set -u".
#
# A test file calls run_test for each behaviour: a function run in a subshell
# with a directory of its own ($T) and a keeper of its own, ended by the first
# die. Functions below that can fail call die themselves.
#
# Everything runs below build/test/reaper, which takes over what is restored
# or detached and complains about what a test leaves behind.

TEST_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${BUILD:-$(cd "$TEST_DIR/.." && pwd)/build}
CRIU=${CRIU:-$BUILD/bin/criu}
STOCK_CRIU=${STOCK_CRIU:-$BUILD/criu-stock/criu/criu}
PLUGINS=${PLUGINS:-$BUILD/plugins}
WPTRACK=${WPTRACK:-$BUILD/bin/wptrack}
TEST_BIN=${TEST_BIN:-$BUILD/test}
# All time limits are for a machine of usual speed; programs below take this from the environment.
TIME_SCALE=${TIME_SCALE:-$("$TEST_DIR/../scripts/time-scale.sh")}
export TIME_SCALE
CRIU_TIMEOUT=${CRIU_TIMEOUT:-$((60 * TIME_SCALE))}
# A later round may write what the program dirtied, and this much more.
SLACK_PERCENT=2
SLACK_PAGES=64

NAP=$BUILD/test/nap.fifo
FAILED=0
# Behaviours there are, and those that ONLY and SHARD have let run.
BEHAVIOURS=0
RAN=0

# shellcheck source=machine.sh
. "$TEST_DIR/machine.sh"

# exec_under_reaper "$@": start the calling script again below the reaper.
exec_under_reaper() {
	local need

	if [ "$(id -u)" != 0 ]; then
		echo "$0: must run as root: CRIU dumps and restores other processes" >&2
		exit 2
	fi
	for need in "$TEST_BIN/reaper" "$TEST_BIN/pkctl" "$TEST_BIN/criu-stats" "$CRIU"; do
		if [ ! -x "$need" ]; then
			echo "$0: $need is missing: build it first (make)" >&2
			exit 2
		fi
	done
	if [ -z "${WPTRACK_REAPED:-}" ]; then
		# Limits on descriptors would be met by what the caller has left open.
		close_inherited
		exec "$TEST_BIN/reaper" bash "$0" "$@"
	fi
	[ -p "$NAP" ] || mkfifo "$NAP" 2>/dev/null || [ -p "$NAP" ] || exit 2
}

# die WHY: end the behaviour (or the demo) as failed.
die() {
	printf '%s\n' "$*" >"$T.why"
	exit 1
}

# skip WHY: end the behaviour as not applicable here.
skip() {
	printf '%s\n' "$*" >"$T.why"
	exit 77
}

# wait_for SECONDS CMD [ARG...]: poll until the command succeeds. A pipe that nothing comes from costs no process,
# as sleep(1) does.
wait_for() {
	local end=$((SECONDS + $1 * TIME_SCALE))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		read -rt 0.02 <>"$NAP" || :
	done
}

is_gone() {
	[ ! -e "/proc/$1" ]
}

# is_of_session SID STAT: by a /proc/PID/stat. Fields after the command name: state ppid pgrp session.
is_of_session() {
	local line

	{ IFS= read -r line <"$2"; } 2>/dev/null && [[ ${line##*) } =~ ^[A-Z]\ [0-9]+\ [0-9]+\ "$1"\  ]]
}

# session_pids SID: the processes of a session, threads not counted.
session_pids() {
	local stat

	for stat in /proc/[0-9]*/stat; do
		if is_of_session "$1" "$stat"; then
			stat=${stat#/proc/}
			echo "${stat%/stat}"
		fi
	done
}

session_is_gone() {
	local stat

	for stat in /proc/[0-9]*/stat; do
		! is_of_session "$1" "$stat" || return 1
	done
}

# close_inherited: what the caller of the tests left open is not to be dumped.
close_inherited() {
	local fd

	for fd in "/proc/$BASHPID/fd"/*; do
		fd=${fd##*/}
		if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then
			exec {fd}>&-
		fi
	done
}

# start_program CMD [ARG...]: start it in a session of its own, adopted by the
# reaper. Sets PID.
start_program() {
	PID=$(
		close_inherited
		setsid "$@" </dev/null >"$T/program.log" 2>&1 &
		echo $!
	)
	echo "$PID" >>"$T/sessions"
	# setsid(1) leaves no session of ours; wait until it has made its own.
	wait_for 5 is_of_session "$PID" "/proc/$PID/stat" || die "the program did not start: $(tail -n 3 "$T/program.log")"
}

# start_tracked PROGRAM PROCESSES [OPTION...]: start a program of PROGRAMS (usually where it has been built) with a
# control file, below confine when CONFINE says how. Sets PID, CTL, PROCESSES.
start_tracked() {
	local program=$1 processes=$2

	shift 2
	CTL=$T/control
	"$TEST_BIN/pkctl" "$CTL" create || die "cannot create the control file"
	# A program under another uid must get at it.
	chmod 711 "$T" && chmod 666 "$CTL" || die "chmod"
	start_program ${CONFINE:+"$TEST_BIN/confine" "$CONFINE"} "${PROGRAMS:-$TEST_BIN}/$program" --control "$CTL" "$@"
	PROCESSES=$processes
	ctl ready "$processes" 60 || die "$program did not get ready: $(tail -n 3 "$T/program.log")"
	EPOCH=1
	ROUND=0
	ctl epoch 1 || die "control file"
}

ctl() {
	"$TEST_BIN/pkctl" "$CTL" "$@"
}

verify_program() {
	local out

	out=$(ctl verify 60) || die "${1:-verification}: $out"
}

# write_pages N: let the program write that many pages.
write_pages() {
	ctl wait-writes "$1" 60 || die "the program does not write"
}

# every_thread STATE PID: all threads of a process are in that state, or, with !, none is.
every_thread() {
	local stat rest

	for stat in "/proc/$2/task"/*/stat; do
		{ IFS= read -r rest <"$stat"; } 2>/dev/null || return 1
		rest=${rest##*) }
		case $1 in
		!*) [ "${rest%% *}" != "${1#!}" ] || return 1 ;;
		*) [ "${rest%% *}" = "$1" ] || return 1 ;;
		esac
	done
}

# stop_program, continue_program: by signals, as a user would.
stop_program() {
	local pid

	for pid in $(ctl pids); do
		kill -STOP "$pid" || die "kill"
		wait_for 10 every_thread T "$pid" || die "$pid does not stop"
	done
}

continue_program() {
	local pid

	for pid in $(ctl pids); do
		kill -CONT "$pid" || die "kill"
		wait_for 10 every_thread !T "$pid" || die "$pid does not go on"
	done
}

# kill_session SID: once more until it is gone, as its processes may be forking.
kill_session() {
	local pid

	for pid in $(session_pids "$1"); do
		kill -9 "$pid" 2>/dev/null
	done
	session_is_gone "$1"
}

# end_sessions: kill what start_program started and wait for it.
end_sessions() {
	local sid ret=0

	[ -f "$T/sessions" ] || return 0
	while read -r sid; do
		wait_for 10 kill_session "$sid" || ret=1
	done <"$T/sessions"
	return "$ret"
}

# clean_up: end of a behaviour, whatever became of it. What stays behind turns
# a success into a failure.
clean_up() {
	local rc=$? mnt left=""

	end_sessions || left="processes"
	if [ -f "$T/mounts" ]; then
		while read -r mnt; do
			umount "$mnt" || left="$left mounts"
		done <"$T/mounts"
	fi
	wait_for 10 keeper_is_gone || left="$left keeper"
	if [ -n "${KEEP:-}" ]; then
		echo "kept: $T" >&2
	else
		rm -rf "$T" || left="$left files"
	fi
	if [ "$rc" = 0 ] && [ -n "$left" ]; then
		die "left behind: $left"
	fi
	exit "$rc"
}

# ---------------------------------------------------------------- migrations

# migrate_program OPTIONS CRIU_OPTIONS [OPTION...] [-- CRIU_OPTION...]: $PID into $T/m, by the command in $BELOW if there is
# one; what it writes in $T/out and $T/err. Sets RC.
migrate_program() {
	local options=$1 criu_options=$2 own=()

	shift 2
	while [ $# != 0 ] && [ "$1" != -- ]; do
		own+=("$1")
		shift
	done
	shift $(($# ? 1 : 0))
	# shellcheck disable=SC2086 # words
	timeout -k 5 "$CRIU_TIMEOUT" ${BELOW:-} "$WPTRACK" migrate --criu "$CRIU" $options "${own[@]}" "$PID" "$T/m" \
		-- -L "$PLUGINS" $criu_options "$@" </dev/null >"$T/out" 2>"$T/err"
	# shellcheck disable=SC2034 # for the caller
	RC=$?
}

# ---------------------------------------------------------------- keeper

# keeper_pid: who listens on the keeper's socket; nothing when nobody does.
keeper_pid() {
	local inode fd

	inode=$(awk -v path="$WPTRACK_RUN_DIR/keeper.sock" '$8 == path && $6 == "01" { print $7; exit }' /proc/net/unix)
	[ -n "$inode" ] || return 0
	fd=$(find /proc/[0-9]*/fd -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null)
	[ -n "$fd" ] || return 0
	fd=${fd#/proc/}
	echo "${fd%%/*}"
}

keeper_is_gone() {
	[ ! -e "$WPTRACK_RUN_DIR" ] && [ -z "$(keeper_pid)" ]
}

# ---------------------------------------------------------------- criu

# criu_cmd LOG ARG...: run criu below a timeout; LOG is made in the images directory. CRIU_PRELOAD is a library for it.
criu_cmd() {
	local log=$1

	shift
	timeout -k 5 "$CRIU_TIMEOUT" ${CRIU_PRELOAD:+env LD_PRELOAD="$CRIU_PRELOAD"} "${CRIU_BIN:-$CRIU}" "$@" -L "$PLUGINS" -v4 -o "$log" </dev/null >/dev/null 2>&1
}

# log_errors FILE: what went wrong, for a failure's message.
log_errors() {
	grep -E 'Error|wptrack.*(rror|ail)' "$1" 2>/dev/null | grep -v RLIMIT_NOFILE | tail -n 3 | tr '\n' ' '
}

# server_listens PORT: on the loopback.
server_listens() {
	local hex

	hex=$(printf '0100007F:%04X' "$1")
	awk -v addr="$hex" '$2 == addr && $4 == "0A" { found = 1 } END { exit !found }' /proc/net/tcp
}

server_listens_or_is_gone() {
	server_listens "$PORT" || is_gone "$SERVER"
}

# start_page_server DIR [PREV [OPTION...]]: criu takes no port 0, so one is looked for that is free. Sets SERVER, PORT.
start_page_server() {
	local dir=$1 prev=${2:-} try

	shift $(($# > 1 ? 2 : 1))
	for try in 1 2 3 4 5; do
		PORT=$((20000 + RANDOM))
		! server_listens "$PORT" || continue
		"$CRIU" page-server -D "$dir" --address 127.0.0.1 --port "$PORT" --track-mem \
			${prev:+--prev-images-dir "$prev"} "$@" -L "$PLUGINS" -v4 -o page-server.log </dev/null >/dev/null 2>&1 &
		SERVER=$!
		wait_for 10 server_listens_or_is_gone && [ -e "/proc/$SERVER" ] && return
	done
	die "no page server after $try tries: $(log_errors "$dir/page-server.log")"
}

# check_tracker PLUGINS: what criu says of who tracks memory.
check_tracker() {
	(cd / && timeout "$CRIU_TIMEOUT" "$CRIU" check --feature mem_dirty_track -L "$1" </dev/null 2>&1)
}

# kernel_tracks: has the kernel soft-dirty bits, so that criu tracks memory without a plugin?
kernel_tracks() {
	mkdir -p "$T/no-plugin" || die "mkdir"
	check_tracker "$T/no-plugin" >/dev/null
}

# kernel_lacks: what the plugin needs and this kernel has not, nothing where it tracks. It is the plugin's word, which
# a test of check.sh does not take for granted.
kernel_lacks() {
	check_tracker "$BUILD/plugins" | sed -n 's/.*\(plugin wptrack needs .*, which this kernel lacks\).*/\1/p'
}

# stat_of DIR FIELD: a field of the directory's stats-dump.
stat_of() {
	"$TEST_BIN/criu-stats" "$1/stats-dump" "$2"
}

# epoch_next: tell the program that an epoch ends. Dumps lie in even ones.
epoch_next() {
	EPOCH=$((EPOCH + 1))
	ctl epoch "$EPOCH" || die "control file"
}

# new_round: make the next images directory. Sets ROUND, DIR, PREV (criu options naming the round before).
new_round() {
	PREV=()
	[ "$ROUND" = 0 ] || PREV=(--prev-images-dir "../$ROUND")
	ROUND=$((ROUND + 1))
	DIR=$T/$ROUND
	mkdir "$DIR" || die "mkdir"
}

# pre_dump [OPTION...]: one more round; later options override the parent.
pre_dump() {
	new_round
	epoch_next
	criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" ||
		die "pre-dump $ROUND failed: $(log_errors "$DIR/pre-dump.log")"
	epoch_next
}

# paused_round N COMMAND...: a round (live, or as MODE says) on top of the last one that is stopped before its Nth call about
# the program (or of CLASS, test/faults/inject.c) until the command is done. Without an Nth call nothing is done, and the
# return code is 1.
paused_round() {
	local n=$1 criu rc

	shift
	rm -f "$T/hit" "$T/go"
	new_round
	(
		export LD_PRELOAD=$TEST_BIN/inject.so INJECT=${CLASS:-any}:$n:pause INJECT_HIT=$T/hit INJECT_GO=$T/go
		criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem --pre-dump-mode "${MODE:-live}" "${PREV[@]}"
	) 2>/dev/null &
	criu=$!
	wait_for 60 hit_or_gone "$criu" || die "call $n: the round hangs"
	[ ! -e "$T/hit" ] || "$@"
	: >"$T/go"
	wait "$criu"
	rc=$?
	[ "$rc" = 0 ] || die "call $n$(paused_at): the round failed: $(log_errors "$DIR/pre-dump.log")"
	[ -e "$T/hit" ]
}

hit_or_gone() {
	[ -e "$T/hit" ] || is_gone "$1" || grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"
}

paused_at() {
	[ ! -e "$T/hit" ] || echo " ($(cut -d' ' -f4- "$T/hit"))"
}

# dump_round [OPTION...]: a dump on top of the round before.
dump_round() {
	new_round
	epoch_next
	criu_cmd dump.log dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" "$@" ||
		die "dump $ROUND failed: $(log_errors "$DIR/dump.log")"
	epoch_next
}

# final_dump [OPTION...]: the dump that ends the program.
final_dump() {
	dump_round "$@"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
}

# pid_is_taken LOG: a pid of the program was somebody else's at the moment; that is nobody's fault.
pid_is_taken() {
	grep -qE 'Unable to create a thread: -17|Unable to fork.*File exists|Can.t fork for.*File exists|clone.*File exists' "$1"
}

# pids_are_free DIR: nobody has the number of a process or thread in these images.
pids_are_free() {
	local core

	for core in "$1"/core-*.img; do
		core=${core##*/core-}
		is_gone "${core%.img}" || return 1
	done
}

# restore_images DIR [OPTION...]: once more if a pid was taken.
restore_images() {
	local dir=$1 tries=5

	shift
	until criu_cmd restore.log restore -D "$dir" --restore-detached "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] && pid_is_taken "$dir/restore.log" ||
			die "restore of $(basename "$dir") failed: $(log_errors "$dir/restore.log")"
		echo "restored again: a pid was taken" >&2
		wait_for 10 pids_are_free "$dir" || die "restore of $(basename "$dir") failed: its pids stay taken"
	done
}

# restore [DIR]: restore the program from the last round.
restore() {
	restore_images "${1:-$DIR}"
	[ -e "/proc/$PID" ] || die "restored, but process $PID is not there"
	ctl ready "$PROCESSES" || die "restored, but the program does not run"
}

# restore_and_verify [DIR]: restore, check all memory, let it write on and check again.
restore_and_verify() {
	restore "$@"
	verify_program "after the restore"
	write_pages 500
	verify_program "after the restore and more writes"
}

# quit_program: ask the program to leave and see it gone.
quit_program() {
	ctl quit || die "the program does not quit"
	wait_for 10 session_is_gone "$PID" || die "the program does not go"
}

# ---------------------------------------------------------------- what a round wrote

# round_bound: how many pages this round may write: dirtied since the round before, plus slack.
round_bound() {
	local own

	own=$(ctl dirtied $((EPOCH - 3)) $((EPOCH - 1))) || return 1
	echo $((own + own * SLACK_PERCENT / 100 + SLACK_PAGES))
}

# assert_full: the round took nothing from its parent.
assert_full() {
	local skipped written

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	written=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	[ "$written" -gt 0 ] || die "round $ROUND wrote nothing"
	[ "$skipped" = 0 ] || die "round $ROUND is not full: $skipped pages left to the parent${1:+ ($1)}"
}

# assert_incremental: the round left pages to its parent and wrote no more than it had to.
assert_incremental() {
	local skipped written bound

	skipped=$(stat_of "$DIR" pages_skipped_parent) || die "round $ROUND: no statistics"
	written=$(stat_of "$DIR" pages_written) || die "round $ROUND: no statistics"
	bound=$(round_bound) || die "control file"
	[ "$skipped" -gt 0 ] || die "round $ROUND left nothing to its parent (wrote $written)"
	[ "$written" -le "$bound" ] || die "round $ROUND wrote $written pages, the program dirtied at most $bound"
}

# assert_no_stop: nobody was stopped, as the statistics have it.
assert_no_stop() {
	[ "$(stat_of "$DIR" frozen_time)" = 0 ] || die "round $ROUND says that the program was stopped"
	[ "$(stat_of "$DIR" freezing_time)" = 0 ] || die "round $ROUND says that the program was stopped"
}

# ---------------------------------------------------------------- chains

# dumped_chain PROGRAM PROCESSES MODE... -- [OPTION...]: one pre-dump in each mode, a dump, a restore. The program runs on.
dumped_chain() {
	local program=$1 processes=$2 modes=() mode

	shift 2
	while [ "$1" != -- ]; do
		modes+=("$1")
		shift
	done
	shift
	start_tracked "$program" "$processes" "$@"
	for mode in "${modes[@]}"; do
		pre_dump --pre-dump-mode "$mode"
		if [ "$ROUND" = 1 ]; then
			assert_full "there is no parent"
		else
			assert_incremental
			[ "$mode" != live ] || assert_no_stop
		fi
		write_pages 300
	done
	final_dump
	assert_incremental
	restore_and_verify
}

# ---------------------------------------------------------------- running

# run_anywhere NAME FUNCTION: like run_test, of what can be shown where the kernel lacks what the plugin needs, too.
run_anywhere() {
	local LACKS=""

	run_test "$@"
}

# run_test NAME FUNCTION: one behaviour, unless ONLY is a regular expression that does not match its name, or SHARD
# ("2/3": every third one, from the second on) leaves it to another run.
run_test() {
	local name=$1 why="" rc shard=${SHARD:-1/1}

	[ $((BEHAVIOURS++ % ${shard#*/} + 1)) = "${shard%/*}" ] || return 0
	[[ $name =~ ${ONLY:-} ]] || return 0
	RAN=$((RAN + 1))
	[ -n "${LACKS+known}" ] || LACKS=$(kernel_lacks)
	if [ -n "$LACKS" ]; then
		echo "SKIP $name: $LACKS"
		return 0
	fi
	T=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-test.XXXXXX") || exit 1
	(
		# A keeper of its own: the tests do not meddle with one in use.
		export WPTRACK_RUN_DIR=$T/run
		trap clean_up EXIT
		"$2"
	)
	rc=$?
	if [ -f "$T.why" ]; then
		why=$(cat "$T.why")
		rm -f "$T.why"
	fi
	case $rc in
	0)
		echo "PASS $name"
		;;
	77)
		echo "SKIP $name: $why"
		;;
	*)
		echo "FAIL $name: ${why:-ended with status $rc}"
		FAILED=1
		;;
	esac
}

# finish: last line of a test file. One in which nothing ran has shown nothing.
finish() {
	if [ "$RAN" = 0 ]; then
		echo "FAIL $(basename "$0" .sh): no behaviour has a name that matches ${ONLY:-}"
		FAILED=1
	fi
	exit "$FAILED"
}
