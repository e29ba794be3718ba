#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fixes-check.sh: is each fix of the series needed, by the test that criu-patches/README.md names for it?
#
#   FIXES="0016 0022"	these, else all for which there is a test
#
# The patch is taken out of the series, and the test has to fail then. Where that can't be done, because later patches touch
# the same lines or need it, or where they hide that it is missing, the series ends before it. The test has to fail there,
# without any plugin, and to pass when the patch is added. Works in $BUILD/fixes.
set -uo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath "${BUILD:-$top/build}")
export GIT_DIR=$BUILD/no-git
work=$BUILD/fixes
table=$top/criu-patches/README.md
applied=0 passed=0 failed=0
# shellcheck source=criu-tree.sh
. "$top/scripts/criu-tree.sh"

# tell PASS|FAIL PATCH TEXT
tell()
{
	printf '%s %s: %s\n' "$@"
	case $1 in
	PASS) passed=$((passed + 1)) ;;
	FAIL) failed=$((failed + 1)) ;;
	esac
}

# tests: "NUMBER FILE REGEXP" for each patch with a test: `file.sh`: `behaviour` in the table's last column.
tests()
{
	sed -nE 's/^\| ([0-9]{4}) .*\| `([a-z-]+\.sh)`: `([^`]+)` \|$/\1 \2 \3/p' "$table"
}

# patch_of NUMBER
patch_of()
{
	echo "$top/criu-patches/$1"-*.patch
}

# goes RED|GREEN FILE REGEXP: so does the test with the CRIU of the tree. One that did not run is neither.
goes()
{
	env CRIU="$tree/criu/criu" ONLY="$3" "$top/scripts/run-checks.sh" --beside --timeout=300 "$top/test/criu/$2" >"$work/test.log" 2>&1
	case $1 in
	RED) why=$(grep -m 1 '^FAIL ' "$work/test.log") ;;
	GREEN) grep -q '^PASS ' "$work/test.log" && ! grep -q '^FAIL ' "$work/test.log" ;;
	esac
}

# taken_out NUMBER FILE REGEXP: the test fails with all other patches.
taken_out()
{
	local patch status=1

	tree=$work/all
	patch=$(patch_of "$1")
	change "$patch" --reverse --dry-run >/dev/null || return
	change "$patch" --reverse >/dev/null
	if build_criu && goes RED "$2" "$3"; then
		status=0
	fi
	change "$patch" >/dev/null
	return "$status"
}

# go_to NUMBER: the tree of the first patches has all up to this one.
go_to()
{
	while [ "$applied" -lt "$1" ]; do
		applied=$((applied + 1))
		change "$(patch_of "$(printf %04d "$applied")")" -F0 >/dev/null || return
	done
	build_criu
}

# put_last NUMBER FILE REGEXP: the test fails with the patches before this one, and passes with this one.
put_last()
{
	local number=$((10#$1)) PLUGINS=$work/none

	export PLUGINS
	tree=$work/first
	go_to $((number - 1)) && goes RED "$2" "$3" && go_to "$number" && goes GREEN "$2" "$3"
}

[ -x "$BUILD/criu/criu/criu" ] || { echo "fixes-check: build first (make tests)" >&2; exit 2; }
rm -rf "$work"
mkdir -p "$work/none"
cp -a "$BUILD/criu" "$work/all"
cp -a "$BUILD/criu-stock" "$work/first"
while read -r number file behaviour; do
	[[ -z ${FIXES:-} || " $FIXES " == *" $number "* ]] || continue
	if taken_out "$number" "$file" "$behaviour"; then
		tell PASS "$number" "without it: ${why#FAIL }"
	elif put_last "$number" "$file" "$behaviour"; then
		tell PASS "$number" "before it: ${why#FAIL }"
	else
		tell FAIL "$number" "$file does not show that it is needed: $(tail -n 1 "$work/test.log")"
	fi
done < <(tests)
rm -rf "$work"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
