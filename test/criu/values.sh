#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Sizes and numbers of our options: what makes no sense is refused, not taken for something else.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

NONSENSE=(-1 " 1" +1 "" x 64x 64Mx 64MM M MB B 1B 1.5M 0x10 99999999999999999999 99999999999999999999G 17179869184G 18446744073709551616)

# says TEXT COMMAND...: it fails, and says so.
says() {
	local text=$1

	shift
	if timeout -k 5 "$CRIU_TIMEOUT" "$@" </dev/null >"$T/out" 2>&1; then
		die "${*:2} succeeds"
	fi
	grep -qF -- "$text" "$T/out" || die "${*:2} does not say '$text', but: $(tail -n 2 "$T/out")"
}

rates() {
	local value

	start_tracked pagekeeper 1 --mib 4
	mkdir "$T/0" || die "mkdir"
	for value in "${NONSENSE[@]}" 0 0G; do
		says "Unable to parse value of --pre-dump-rate: $value" "$CRIU" pre-dump -t "$PID" -D "$T/0" --pre-dump-mode live \
			--pre-dump-rate "$value" -L "$PLUGINS"
	done
	[ -z "$(ls "$T/0")" ] || die "a refused pre-dump has written $(ls "$T/0")"
	# If a suffix were not taken, these would need more than a day.
	for value in 64m 64M 64MB 65536k 65536K 1g 1G 67108864; do
		pre_dump --pre-dump-mode live --pre-dump-rate "$value"
	done
	quit_program
}

ghost_limits() {
	local value

	for value in "${NONSENSE[@]}"; do
		says "Unable to parse value of --ghost-limit: $value" "$CRIU" dump -t 1 -D "$T" --ghost-limit "$value"
	done
}

rate_without_live_mode() {
	local mode

	start_tracked pagekeeper 1 --mib 4
	mkdir "$T/0" || die "mkdir"
	for mode in "" "--pre-dump-mode splice" "--pre-dump-mode read" "--pre-dump-mode live --pre-dump-mode splice"; do
		# shellcheck disable=SC2086 # words
		says "--pre-dump-rate is for pre-dumps in live mode" "$CRIU" pre-dump -t "$PID" -D "$T/0" $mode --pre-dump-rate 64M -L "$PLUGINS"
	done
	for mode in "" --read; do
		# shellcheck disable=SC2086 # words
		says "--pre-dump-rate is for pre-dumps in live mode" env CRIU_LIBS_DIR="$PLUGINS" "$TEST_BIN/criu-rpc" "$CRIU" pre-dump "$PID" \
			"$T/0" $mode --rate 67108864
	done
	[ ! -e "$T/0/inventory.img" ] || die "a refused pre-dump has written images"
	dump_round --leave-running --pre-dump-rate 64M
	grep -qa 'Warn.*--pre-dump-rate is of no effect here' "$DIR/dump.log" || die "a dump does not say that it has no use for a rate"
	dump_round --leave-running --pre-dump-rate 64M --pre-dump-before-stop
	! grep -qa 'is of no effect' "$DIR/dump.log" || die "a dump that uses the rate says that it does not"
	quit_program
}

later_mode_holds() {
	start_tracked pagekeeper 1 --mib 4
	echo "pre-dump-mode live" >"$T/criu.conf"
	pre_dump --config "$T/criu.conf"
	grep -qa 'mem-live' "$DIR/pre-dump.log" || die "the mode of the configuration file is not heeded"
	pre_dump --config "$T/criu.conf" --pre-dump-mode splice
	! grep -qa 'mem-live' "$DIR/pre-dump.log" || die "splice does not hold after live"
	quit_program
}

# by_wptrack WHY ARG...: with the status of a wrong usage.
by_wptrack() {
	local why=$1

	shift
	says "$why" "$WPTRACK" "$@"
	"$WPTRACK" "$@" >/dev/null 2>&1
	[ $? = 2 ] || die "wptrack $* ends with another status than 2"
}

numbers_of_wptrack() {
	local value

	for value in -1 0 "" x 64x 1k 1.5 2147483648 99999999999999999999; do
		by_wptrack "--downtime takes" migrate --downtime "$value" 1 "$T/m"
		by_wptrack "--max-rounds takes" migrate --max-rounds "$value" 1 "$T/m"
		by_wptrack "--port takes" migrate --page-server-cmd true --port "$value" 1 "$T/m"
		by_wptrack "--count takes" dirty-rate --count "$value" 1
	done
	by_wptrack "--port takes" migrate --page-server-cmd true --port 65536 1 "$T/m"
	for value in -1 0 "" x 1x 0.0001 86401 nan inf 1e99; do
		by_wptrack "--interval takes" dirty-rate --interval "$value" 1
	done
	for value in -1 "" x 1x 1k 99999999999999999999 2147483648; do
		by_wptrack "PID" migrate "$value" "$T/m"
		by_wptrack "PID" dirty-rate "$value"
		by_wptrack "PID" verify "$value" "$T"
		by_wptrack "PID" release "$value"
	done
	[ ! -e "$T/m" ] || die "a refused migration has made its directory"
}

run_test rates_that_make_no_sense_are_refused rates
run_test limits_that_make_no_sense_are_refused ghost_limits
run_test a_rate_without_live_mode_is_refused rate_without_live_mode
run_test a_later_mode_holds later_mode_holds
run_test numbers_of_wptrack_that_make_no_sense_are_refused numbers_of_wptrack
finish
