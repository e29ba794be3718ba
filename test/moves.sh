# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What becomes of a program that wptrack migrate --to moves, with faults of all kinds. Sourced after hosts.sh.

# begin PROCESSES OPTION...: a program here, and a host.
begin() {
	start_host
	start_tracked pagekeeper "$1" --mib 24 --rate 500 --working-set 2 "${@:2}"
}

ends_with() {
	[ "$RC" = "$1" ] || die "ended with $RC, not with $1: $(tail -n 3 "$T/err" | tr '\n' ' ')"
}

says() {
	grep -qF -- "$1" "$T/err" "$T/out" || die "does not say \"$1\": $(tail -n 3 "$T/err" | tr '\n' ' ')"
}

runs() {
	local pid

	for pid; do
		grep -q '^State:[[:space:]]*[RSD]' "/proc/$pid/status" || return 1
		grep -q '^TracerPid:[[:space:]]*0$' "/proc/$pid/status" || return 1
	done
}

tracked() {
	"$WPTRACK" status --json | grep -q "\"pid\": $1,"
}

untracked() {
	! tracked "$1"
}

nothing_lies_here() {
	[ -z "$(find "$T" -maxdepth 1 -name 'wptrack-migrate.*')" ] || die "images are left here: $(ls "$T")"
	! compgen -G "$WPTRACK_RUN_DIR.migrate-$PID*" >/dev/null || die "a guard or its record is left here"
}

# is_here: it runs on here, and nothing of it is left there.
is_here() {
	local pid

	# shellcheck disable=SC2046 # numbers
	wait_for 10 runs $(session_pids "$PID") || die "it does not run here: $(grep -h -e State -e Tracer "/proc/$PID/status")"
	for pid in $(session_pids "$PID"); do
		# It runs first, and is released then.
		wait_for 10 untracked "$pid" || die "process $pid is tracked: $("$WPTRACK" status --json | tr -d '\n')"
	done
	wait_for 10 nobody_there || die "something is left there: $(pids_there)"
	# Whoever asks later is told that it was ended.
	[ -n "${MESS:-}" ] || [ ! -e "$T/there/images" ] || [ "$(ls "$T/there/images")" = aborted ] ||
		die "images are left there: $(ls "$T/there/images")"
	nothing_lies_here
	verify_program "here"
	write_pages 300
	verify_program "here, after more writes"
	quit_program
}

nobody_there() {
	[ -z "$(pids_there)" ]
}

program_there() {
	local pid

	for pid in $(pids_there); do
		[[ $(cat "/proc/$pid/comm" 2>/dev/null) != pagekeeper* ]] || echo "$pid"
	done
}

# is_there: it runs there, all of it, and nothing of it is left here.
is_there() {
	local pids

	wait_for 10 session_is_gone "$PID" || die "it is still here"
	pids=$(program_there)
	[ "$(wc -w <<<"$pids")" = "$PROCESSES" ] || die "there are $(wc -w <<<"$pids") processes there"
	# shellcheck disable=SC2086 # numbers
	wait_for 10 runs $pids || die "it does not run there"
	nothing_lies_here
	verify_program "there"
	write_pages 300
	verify_program "there, after more writes"
	ctl quit || die "control file"
	wait_for 10 nobody_there || die "it does not end"
}

# ---------------------------------------------------------------- faults

source_signal() {
	pkill "-$1" -f "^[^ ]*wptrack migrate" || die "no wptrack migrate is there"
}

# The connection, and with FOR_EVER any other.
cut() {
	[ -z "${FOR_EVER:-}" ] || touch "$T/cut"
	pkill -KILL -f "^$T/wire" || die "no connection is there"
}

# in_doubt COMMAND: nobody hears whether it runs, and the user does not wait any longer.
in_doubt() {
	begin 2 --children 1
	wait_here run
	start_move
	at_that_time "$@"
	wait_for 20 grep -q "asking again" "$T/err" || die "it does not ask"
	[ "$(wptrack_of_doubt --resume)" = 1 ] || die "decided while it is asked"
	source_signal INT
	the_end
	ends_with 4
	says "nobody knows whether process $PID runs at host:$T/there/images: it stays stopped here"
	stays_stopped
	rm "$T/cut"
}

stays_stopped() {
	local pid

	for pid in $(session_pids "$PID"); do
		! runs "$pid" || die "process $pid runs here"
	done
}

wptrack_of_doubt() {
	"$WPTRACK" migrate "$1" "$PID" 2>>"$T/doubt"
	echo $?
}

cut_for_ever() {
	FOR_EVER=1 cut
}

cut_for_ever_and_dead() {
	FOR_EVER=1 cut
	on_host pkill -KILL -f "wptrack receive"
}

is_discarded() {
	[ "$(wptrack_of_doubt --discard)" = 0 ] || die "it cannot be discarded: $(cat "$T/doubt")"
	rm -r "$T"/wptrack-migrate.*
	is_there
}

# runs_there_undecided: whoever was to see to its end here has been killed.
runs_there_undecided() {
	wait_for 20 test -e "$T/there/images/running" || die "it does not run there"
	stays_stopped
	is_discarded
}

is_resumed() {
	[ "$(wptrack_of_doubt --resume)" = 0 ] || die "it cannot be resumed: $(cat "$T/doubt")"
	rm -r "$T"/wptrack-migrate.*
}

# The guard: what criu has started to hold the program.
guard_pid() {
	pgrep -P "$(pgrep -o -f "^$CRIU dump")" -x wptrack
}

kill_guard() {
	kill -KILL "$(guard_pid)" || die "there is no guard"
	wait_for 20 guard_is_gone || die "the guard, or its criu, is still here"
}

guard_is_gone() {
	! pgrep -f "^$CRIU dump" >/dev/null
}
