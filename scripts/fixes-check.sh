#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fixes-check.sh: is each fix of the series needed, by the test that criu-patches/README.md names for it?
#
#   FIXES="0016 0022"	these, else all for which there is a test
#
# The series without the one patch is built in $BUILD/fixes, and the test has to fail then. Where later patches touch the
# same lines, or need it, it is skipped.
set -uo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath "${BUILD:-$top/build}")
work=$BUILD/fixes
tree=$work/criu
table=$top/criu-patches/README.md
passed=0 failed=0 skipped=0

# tell PASS|FAIL|SKIP PATCH TEXT
tell()
{
	printf '%s %s: %s\n' "$@"
	case $1 in
	PASS) passed=$((passed + 1)) ;;
	FAIL) failed=$((failed + 1)) ;;
	SKIP) skipped=$((skipped + 1)) ;;
	esac
}

# tests: "NUMBER FILE REGEXP" for each patch with a test: `file.sh`: `behaviour` in the table's last column.
tests()
{
	sed -nE 's/^\| ([0-9]{4}) .*\| `([a-z-]+\.sh)`: `([^`]+)` \|$/\1 \2 \3/p' "$table"
}

build_criu()
{
	env -u MAKEFLAGS -u MAKELEVEL GIT_DIR="$BUILD/no-git" make -C "$tree" -j"$(nproc)" CC="${CC:-gcc}" PYTHON=: criu >"$work/log" 2>&1
}

# goes_red FILE REGEXP: the test on what was built. Fails when it passes, or did not run.
goes_red()
{
	env CRIU="$tree/criu/criu" ONLY="$2" "$top/scripts/run-checks.sh" --beside --timeout=300 "$top/test/criu/$1" >"$work/test.log" 2>&1
	grep -q '^FAIL ' "$work/test.log"
}

# change PATCH OPTION...: the tree, by patch(1).
change()
{
	patch -d "$tree" -p1 --force --no-backup-if-mismatch "${@:2}" <"$1" >/dev/null
}

# without NUMBER FILE REGEXP
without()
{
	local patch

	patch=$(echo "$top/criu-patches/$1"-*.patch)
	if ! change "$patch" --reverse --dry-run; then
		tell SKIP "$1" "later patches touch the same lines"
		return
	fi
	change "$patch" --reverse
	if ! build_criu; then
		tell SKIP "$1" "later patches do not build without it"
	elif goes_red "$2" "$3"; then
		tell PASS "$1" "without it: $(grep -m 1 '^FAIL ' "$work/test.log" | cut -c6-)"
	else
		tell FAIL "$1" "$2 is green without it: $(tail -n 1 "$work/test.log")"
	fi
	change "$patch"
}

[ -x "$BUILD/criu/criu/criu" ] || { echo "fixes-check: build first (make tests)" >&2; exit 2; }
rm -rf "$work"
mkdir -p "$work"
cp -a "$BUILD/criu" "$tree"
while read -r number file behaviour; do
	[[ -z ${FIXES:-} || " $FIXES " == *" $number "* ]] || continue
	without "$number" "$file" "$behaviour"
done < <(tests)
rm -rf "$tree"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
