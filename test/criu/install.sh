#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# make install and uninstall, below a directory of the test's own: what was there before is not lost.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# made TARGET [VARIABLE...]: make, which is not to build anything; its output in $T/out.
made() {
	env -u MAKEFLAGS -u MAKELEVEL -u FORCE make -C "$TEST_DIR/.." -o all "$1" BUILD="$BUILD" DESTDIR="$ROOT" PREFIX=/usr "${@:2}" \
		</dev/null >"$T/out" 2>&1
}

# distribution_has CONTENT: a root with a criu of somebody else.
distribution_has() {
	ROOT=$T/root
	mkdir -p "$ROOT/usr/sbin" "$ROOT/usr/lib/criu" || die "mkdir"
	echo "$1" >"$ROOT/usr/sbin/criu"
	chmod 755 "$ROOT/usr/sbin/criu"
	echo "its plugin" >"$ROOT/usr/lib/criu/other_plugin.so"
}

# snapshot: all files with mode and content.
snapshot() {
	(cd "$ROOT" && find . \( -type f -o -type l \) -printf '%p %M %l\n' -type f -exec sha256sum {} \; | sort)
}

ours() {
	cmp -s "$CRIU" "$ROOT/usr/sbin/criu"
}

refused() {
	distribution_has "the distribution's"
	snapshot >"$T/before"
	if made install; then
		die "it is replaced"
	fi
	grep -q 'is there and not ours.*FORCE=1' <(tr '\n' ' ' <"$T/out") || die "it does not say what to do: $(tail -n 3 "$T/out")"
	snapshot | diff "$T/before" - >"$T/diff" || die "a refused install has changed: $(head -n 3 "$T/diff")"
	# Nor does uninstall touch what is not ours.
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	snapshot | diff "$T/before" - >"$T/diff" || die "uninstall has changed: $(head -n 3 "$T/diff")"
}

kept_and_given_back() {
	distribution_has "the distribution's"
	snapshot >"$T/before"
	made install FORCE=1 || die "install: $(tail -n 3 "$T/out")"
	ours || die "not installed"
	[ "$(cat "$ROOT/usr/sbin/criu.before-wptrack")" = "the distribution's" ] || die "what was there is not kept"
	# Over ours there is nothing to ask, and what is kept stays what it is.
	made install || die "install again: $(tail -n 3 "$T/out")"
	made install FORCE=1 || die "install again: $(tail -n 3 "$T/out")"
	[ "$(cat "$ROOT/usr/sbin/criu.before-wptrack")" = "the distribution's" ] || die "what was there has been kept once only"
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	snapshot | diff "$T/before" - >"$T/diff" || die "left behind, or not given back: $(head -n 3 "$T/diff")"
}

# A link, as of alternatives, is what was there, not what it leads to.
links_are_kept() {
	distribution_has "the distribution's"
	mv "$ROOT/usr/sbin/criu" "$ROOT/usr/sbin/criu-4.0"
	ln -s criu-4.0 "$ROOT/usr/sbin/criu"
	snapshot >"$T/before"
	! made install || die "it is replaced"
	made install FORCE=1 || die "install: $(tail -n 3 "$T/out")"
	[ "$(cat "$ROOT/usr/sbin/criu-4.0")" = "the distribution's" ] || die "the link was followed"
	ours || die "not installed"
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	snapshot | diff "$T/before" - >"$T/diff" || die "left behind, or not given back: $(head -n 3 "$T/diff")"
}

# The distribution puts a newer one of its own there.
upgraded() {
	distribution_has "the distribution's"
	made install FORCE=1 || die "install: $(tail -n 3 "$T/out")"
	echo "a newer one" >"$ROOT/usr/sbin/criu.new"
	mv "$ROOT/usr/sbin/criu.new" "$ROOT/usr/sbin/criu"
	! made install || die "the newer one is replaced"
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	[ "$(cat "$ROOT/usr/sbin/criu")" = "a newer one" ] || die "uninstall has taken the newer one away"
	grep -q 'is not ours any more, and stays' "$T/out" || die "it does not say so: $(tail -n 3 "$T/out")"
	made install FORCE=1 || die "install: $(tail -n 3 "$T/out")"
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	[ "$(cat "$ROOT/usr/sbin/criu")" = "a newer one" ] || die "the newer one is not given back"
}

into_nothing() {
	ROOT=$T/root
	made install || die "install: $(tail -n 3 "$T/out")"
	ours || die "not installed"
	"$ROOT/usr/sbin/criu" check --feature mem_track_live -L "$ROOT/usr/lib/criu" >"$T/out" 2>&1 </dev/null ||
		die "what is installed does not work: $(tail -n 3 "$T/out")"
	"$ROOT/usr/bin/wptrack" status >"$T/out" 2>&1 || die "what is installed does not work: $(tail -n 3 "$T/out")"
	made uninstall || die "uninstall: $(tail -n 3 "$T/out")"
	[ -z "$(snapshot)" ] || die "left behind: $(snapshot | head -n 3)"
}

run_test another_criu_is_not_overwritten refused
run_test another_criu_is_kept_and_given_back kept_and_given_back
run_test a_link_is_kept_and_given_back links_are_kept
run_test a_criu_that_has_been_upgraded_stays upgraded
run_test install_and_uninstall_leave_nothing into_nothing
finish
