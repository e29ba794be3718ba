#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What criu says it can do, with the plugin and without, patched and not.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

without_plugin() {
	mkdir -p "$T/none"
	PLUGINS=$T/none
}

# check_feature: criu's answer, its output in $T/check.out
check_feature() {
	(cd "$T" && timeout "$CRIU_TIMEOUT" "$CRIU" check --feature mem_dirty_track -L "$PLUGINS" </dev/null) \
		>"$T/check.out" 2>&1
}

tracker_is() {
	grep -q "^Memory tracking is done by $1[.:]" "$T/check.out" || die "the tracker is not $1: $(cat "$T/check.out")"
}

feature_with_plugin() {
	check_feature || die "$(tail -n 2 "$T/check.out")"
	tracker_is wptrack
	wait_for 5 keeper_is_gone || die "a question about features has left a keeper"
}

# The plugin's word for what the kernel lacks is not taken for it: the tests of the kernel have to say so as well.
declined_for_a_reason() {
	local lacks

	lacks=$(kernel_lacks)
	if [ -n "$lacks" ]; then
		! "$TEST_BIN/kernel/tracking" a_write_is_reported_once | grep -q ^PASS || die "not so: $lacks"
	else
		check_feature || die "no tracker, and no reason: $(cat "$T/check.out")"
		tracker_is wptrack
	fi
}

# A kernel that lacks something, as far as the plugin can see: whoever named a plugin is told what that is.
plugin_that_cannot() {
	local lacks='plugin wptrack needs pidfd_open(2) and pidfd_getfd(2) (Linux 5.6), which this kernel lacks'
	local INJECT_SO=$TEST_BIN/inject.so

	[ -f "$INJECT_SO" ] || die "$INJECT_SO is missing: build it first (make)"
	export INJECT=getfd:1:EPERM INJECT_HIT=$T/hit
	if LD_PRELOAD=$INJECT_SO check_feature; then
		tracker_is "soft-dirty bits"
	fi
	[ -e "$T/hit" ] || die "the fault did not happen"
	grep -qF "$lacks" "$T/check.out" || die "it does not say what is missing: $(cat "$T/check.out")"
	start_tracked pagekeeper 1 --mib 4
	new_round
	if LD_PRELOAD=$INJECT_SO criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --pre-dump-mode live; then
		die "a live pre-dump without a tracker says it has succeeded"
	fi
	grep 'Error' "$DIR/pre-dump.log" | grep -qF "$lacks" || die "it does not say what is missing: $(log_errors "$DIR/pre-dump.log")"
	verify_program "after the refusal"
	quit_program
}

feature_without_plugin() {
	without_plugin
	if check_feature; then
		tracker_is "soft-dirty bits"
	else
		grep -q 'there is none in the directory' "$T/check.out" || die "it does not say why: $(cat "$T/check.out")"
	fi
}

feature_by_environment() {
	(cd "$T" && CRIU_LIBS_DIR=$PLUGINS timeout "$CRIU_TIMEOUT" "$CRIU" check --feature mem_dirty_track) \
		>"$T/check.out" 2>&1 </dev/null || die "$(tail -n 2 "$T/check.out")"
}

# It needs nothing of the plugin.
pre_restore_feature() {
	local says

	says=$(timeout "$CRIU_TIMEOUT" "$CRIU" check --feature pre_restore -L "$T" </dev/null 2>"$T/check.out")
	if timeout "$CRIU_TIMEOUT" "$CRIU" check --feature clone3_set_tid -L "$T" </dev/null >/dev/null 2>&1; then
		[ "$says" = "pre_restore is supported" ] || die "a kernel that has all that is needed: $says $(cat "$T/check.out")"
	else
		[ -z "$says" ] && grep -q 'clone3() with set_tid' "$T/check.out" || die "it does not say what is missing: $says"
	fi
}

# snapshot_of FILE: what the program has mapped and open.
snapshot_of() {
	{
		cut -d ' ' -f 1-2,6- "/proc/$PID/maps"
		find "/proc/$PID/fd" -type l -printf '%f %l\n' | sort -n
		grep -E '^(TracerPid|Sig(Pnd|Blk|Ign|Cgt)|Shd...|Threads|Seccomp)' "/proc/$PID/status"
	} >"$1"
}

# A pre-dump tracks, whether it is told to or not.
refused_without_plugin() {
	local errors option rc

	without_plugin
	kernel_tracks && skip "the kernel is a tracker"
	start_tracked pagekeeper 1 --mib 8
	ctl pause || die "the program does not pause"
	snapshot_of "$T/before"
	for option in "" --track-mem; do
		new_round
		criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" ${option:+"$option"}
		rc=$?
		[ "$rc" = 1 ] || die "a pre-dump without any tracker ends with status $rc"
		snapshot_of "$T/after"
		cmp -s "$T/before" "$T/after" || die "the program is changed: $(diff "$T/before" "$T/after" | head -n 3)"
		[ -z "$(find "$DIR" -name '*.img' -size +0)" ] || die "images were written: $(ls "$DIR")"
		errors=$(grep Error "$DIR/pre-dump.log" | grep -cv RLIMIT_NOFILE)
		[ "$errors" = 1 ] || die "$errors errors in the log instead of one: $(log_errors "$DIR/pre-dump.log")"
	done
	ctl resume || die "the program does not resume"
	write_pages 100
	verify_program "after the refused pre-dump"
}

# Where the kernel itself is a tracker, CRIU's own way to use it is as it was.
soft_dirty_without_plugin() {
	local i

	without_plugin
	kernel_tracks || skip "no soft-dirty bits in this kernel"
	start_tracked pagekeeper 1 --mib 32
	for i in 1 2 3; do
		pre_dump
		write_pages 300
	done
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "nothing was left to the parent"
	[ ! -e "$DIR/wptrack.img" ] || die "there is a session record"
	final_dump
	[ "$(stat_of "$DIR" pages_skipped_parent)" -gt 0 ] || die "nothing was left to the parent"
	restore_and_verify
	quit_program
}

# A plain dump and restore need no plugin and no tracking.
plain_without_plugin() {
	without_plugin
	start_tracked pagekeeper 1 --mib 8
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify
	quit_program
}

# Tracking that was not asked for does not happen.
plain_with_plugin() {
	start_tracked pagekeeper 1 --mib 8
	new_round
	criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	[ ! -e "$DIR/wptrack.img" ] || die "a dump without --track-mem has left a session record"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	wait_for 5 keeper_is_gone || die "a dump without --track-mem has left a keeper"
	restore_and_verify
	quit_program
}

stock_with_plugin() {
	local said

	start_tracked pagekeeper 1 --mib 8
	new_round
	CRIU_BIN=$STOCK_CRIU criu_cmd dump.log dump -t "$PID" -D "$DIR" || die "dump failed: $(log_errors "$DIR/dump.log")"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	said=$(grep -c 'not taken over' "$DIR/dump.log")
	# Another release may know fewer hooks than this one, and refuses a plugin that names more.
	grep -q 'Plugin "wptrack" (version [0-9]* hooks 0)' "$DIR/dump.log" ||
		die "it names hooks: $(grep 'Plugin "wptrack"' "$DIR/dump.log")"
	[ "$said" = 1 ] || die "$said lines say that memory tracking is not taken over: $(grep wptrack "$DIR/dump.log")"
	[ ! -e "$DIR/wptrack.img" ] || die "an unpatched criu has made a session record"
	CRIU_BIN=$STOCK_CRIU restore_and_verify
	wait_for 5 keeper_is_gone || die "an unpatched criu has left a keeper"
	quit_program
}

stock_restores_chain() {
	start_tracked pagekeeper 2 --mib 32 --threads 2 --children 1
	pre_dump
	write_pages 300
	pre_dump
	write_pages 300
	final_dump
	assert_incremental
	CRIU_BIN=$STOCK_CRIU restore_and_verify
	quit_program
	# A restore leaves the images as they are.
	restore_and_verify
	quit_program
}

# A processor without a name is compared like any other.
nameless_processor() {
	local out

	timeout "$CRIU_TIMEOUT" "$CRIU" cpuinfo dump -D "$T" >"$T/out" 2>&1 || die "$(cat "$T/out")"
	/usr/bin/python3 "$TEST_DIR/criu/nameless-cpu.py" "$T/cpuinfo.img" || die "the image is not as expected"
	out=$(timeout "$CRIU_TIMEOUT" "$CRIU" cpuinfo check -D "$T" 2>&1) || die "status $?: $out"
}

run_test check_says_true_with_the_plugin feature_with_plugin
run_test check_says_true_with_the_plugin_named_by_the_environment feature_by_environment
run_test check_knows_what_a_restore_with_memory_beforehand_needs pre_restore_feature
run_anywhere check_says_true_or_what_the_kernel_lacks declined_for_a_reason
run_anywhere a_plugin_that_cannot_says_what_is_missing plugin_that_cannot
run_anywhere check_says_who_tracks_or_that_nobody_does_without_the_plugin feature_without_plugin
run_anywhere a_pre_dump_without_a_tracker_is_refused_and_harms_nothing refused_without_plugin
run_anywhere soft_dirty_bits_are_used_without_the_plugin soft_dirty_without_plugin
run_anywhere a_plain_dump_without_the_plugin_works plain_without_plugin
run_anywhere a_plain_dump_with_the_plugin_tracks_nothing plain_with_plugin
run_test an_unpatched_criu_says_once_that_tracking_is_not_taken_over stock_with_plugin
run_test an_unpatched_criu_restores_a_chain stock_restores_chain
run_anywhere a_processor_without_a_name_is_compared nameless_processor
finish
