#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A container of runc's is dumped in rounds by the commands of docs/containers.md, and restored.
#
# Each container has a name and a cgroup of its own, which are gone in the end. Where runc can't run a container at all,
# because cgroups or namespaces are not to be had, there is nothing to show.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

DOC=$(cd "$TEST_DIR/.." && pwd)/docs/containers.md
NAME=wptrack-test-$$

# rootfs: pagekeeper and what it is linked with.
rootfs() {
	local lib

	mkdir -p "$T/bundle/rootfs"/{bin,ctl,dev,proc,sys} && cp "$TEST_BIN/pagekeeper" "$T/bundle/rootfs/bin" || die "rootfs"
	for lib in $(ldd "$TEST_BIN/pagekeeper" | grep -o '/[^ ]*'); do
		mkdir -p "$T/bundle/rootfs/${lib%/*}" && cp -L "$lib" "$T/bundle/rootfs/$lib" || die "rootfs"
	done
	CTL=$T/bundle/rootfs/ctl/control
	"$TEST_BIN/pkctl" "$CTL" create || die "cannot create the control file"
	chmod 711 "$T" || die "chmod"
}

# spec [ANNOTATION VALUE]: config.json as runc makes it, with the program of the test and no terminal.
spec() {
	(cd "$T/bundle" && runc spec) || die "runc spec"
	python3 - "$T/bundle/config.json" "/$NAME" "$@" <<-'EOF' || die "config.json"
		import json, sys

		path, cgroup, annotation = sys.argv[1], sys.argv[2], sys.argv[3:]
		with open(path) as f:
		    config = json.load(f)
		config["process"]["terminal"] = False
		config["process"]["args"] = ["/bin/pagekeeper", "--control", "/ctl/control", "--mib", "16", "--rate", "500"]
		config["root"]["readonly"] = False
		config["linux"]["cgroupsPath"] = cgroup
		config["annotations"] = dict([annotation] if annotation else [])
		with open(path, "w") as f:
		    json.dump(config, f)
	EOF
}

# shown WHAT: the lines of the documented commands that have WHAT in them.
shown() {
	"$TEST_DIR/criu/docs-commands.py" block "$DOC" "runc run -d NAME" | grep -- "$1" |
		sed "s#/ck/#$T/#g; s/\bNAME\b/$NAME/g" >"$T/commands"
	[ -s "$T/commands" ] || die "$DOC shows no $1"
}

# run_shown WHAT: these, as they stand there.
run_shown() {
	shown "$1"
	(cd "$T/bundle" && timeout -k 5 "$CRIU_TIMEOUT" bash -eux "$T/commands") </dev/null >/dev/null 2>"$T/runc.log" ||
		die "$(tail -n 3 "$T/runc.log" | tr '\n' ' ')$(cat "$T"/w*/*.log 2>/dev/null | grep -m 1 Error)"
}

# The program's pid, for the end of the test.
container_runs() {
	PID=$(runc state "$NAME" | sed -n 's/^ *"pid": \([0-9]*\),.*/\1/p')
	[ "${PID:-0}" -gt 0 ] || die "the container does not run"
	echo "$PID" >>"$T/sessions"
	ctl ready 1 || die "the program in the container does not run"
}

start_container() {
	command -v runc >/dev/null || skip "there is no runc"
	export PATH=${CRIU%/*}:$PATH CRIU_LIBS_DIR=$PLUGINS
	rootfs
	spec "$@"
	shown "runc run"
	# What is open outside of the container can't be dumped, so that its output is read only if it does not start.
	(cd "$T/bundle" && timeout -k 5 "$CRIU_TIMEOUT" bash -eu "$T/commands") </dev/null >/dev/null 2>&1 ||
		skip "runc can't run a container here: $(cd "$T/bundle" && timeout 5 bash -eu "$T/commands" </dev/null 2>&1 |
			sed -n 's/.*msg=//p' | tail -n 1)"
	container_runs
	ctl epoch 1 || die "control file"
}

# remove_container: with what runc has made for it.
remove_container() {
	runc list -q 2>/dev/null | grep -qx "$NAME" || return 0
	runc delete -f "$NAME" >/dev/null 2>&1
	wait_for 10 no_cgroup || die "cgroups are left: $(find /sys/fs/cgroup -name "$NAME" 2>/dev/null | tr '\n' ' ')"
}

no_cgroup() {
	[ -z "$(find /sys/fs/cgroup -name "$NAME" 2>/dev/null)" ]
}

# with_container FUNCTION: in the end there is none, whatever became of it.
with_container() {
	local rc

	("$@")
	rc=$?
	remove_container
	exit "$rc"
}

in_rounds() {
	local n

	start_container
	write_pages 500
	run_shown "runc checkpoint"
	for n in 2 3; do
		[ "$(stat_of "$T/w$n" pages_skipped_parent)" -gt 0 ] || die "round $n took nothing from its parent"
		wptrack show "$T/$n" | grep -q ' incremental$' || die "round $n is not incremental"
	done
	run_shown "runc restore"
	container_runs
	verify_program "after the restore"
	write_pages 500
	verify_program "after the restore and more writes"
}

# What /etc/criu/runc.conf is for all containers, a file that the container names is for one.
live() {
	echo "pre-dump-mode live" >"$T/live.conf"
	start_container org.criu.config "$T/live.conf"
	write_pages 500
	run_shown "runc checkpoint"
	grep -q 'mem-live:.*left to the parent' "$T/w2/dump.log" || die "the pre-dump is not live"
	[ "$(stat_of "$T/w2" frozen_time)" = 0 ] || die "the program was stopped for $(stat_of "$T/w2" frozen_time) us"
	[ "$(stat_of "$T/w2" pages_skipped_parent)" -gt 0 ] || die "it took nothing from its parent"
	run_shown "runc restore"
	container_runs
	verify_program "after the restore"
}

rounds_of_a_container() {
	with_container in_rounds
}

live_rounds_of_a_container() {
	with_container live
}

run_test a_container_is_dumped_in_rounds_and_restored rounds_of_a_container
run_test a_container_is_dumped_in_live_rounds live_rounds_of_a_container
finish
