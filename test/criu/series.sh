#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# make patches-check CRIU_SRC=dir: which patches apply to a CRIU tree of somebody's, which is left as it is. And the tests
# that are named for patches.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

PATCHES=("$TEST_DIR"/../criu-patches/*.patch)
FIRST=${PATCHES[0]##*/}

# a_tree: of the base release, as far as the patches touch it.
a_tree() {
	local file

	mkdir "$T/tree" && cp "$BUILD/criu-stock/Makefile.versions" "$T/tree" || die "there is no tree of the base"
	sed -n 's,^--- a/,,p' "${PATCHES[@]}" | sort -u >"$T/files"
	while IFS= read -r file; do
		[ -e "$BUILD/criu-stock/$file" ] || continue
		mkdir -p "$T/tree/$(dirname "$file")" && cp "$BUILD/criu-stock/$file" "$T/tree/$file" || die "cp $file"
	done <"$T/files"
}

# asked: the answer is in $T/out, its status is returned. The tree is what it was.
asked() {
	local status=0

	(cd "$T/tree" && find . -type f -exec sha256sum {} + | sort) >"$T/before"
	env -u MAKEFLAGS -u MAKELEVEL make -C "$TEST_DIR/.." patches-check BUILD="$T/build" CRIU_SRC="$T/tree" \
		</dev/null >"$T/out" 2>&1 || status=$?
	(cd "$T/tree" && find . -type f -exec sha256sum {} + | sort) | diff "$T/before" - >"$T/diff" ||
		die "the tree is changed: $(head -n 3 "$T/diff")"
	return "$status"
}

answer() {
	grep -F "$1: " "$T/out" | cut -d ' ' -f 2-
}

fits_the_base() {
	a_tree
	asked || die "status $?: $(tail -n 3 "$T/out")"
	[ "$(grep -cE '^[0-9]{4}-.*\.patch: applies$' "$T/out")" = "${#PATCHES[@]}" ] || die "not all apply: $(grep -vE ': applies$' "$T/out")"
	grep -q "^patches-check: of ${#PATCHES[@]} patches ${#PATCHES[@]} apply to $T/tree (CRIU .*), 0 with fuzz, 0 not\$" "$T/out" ||
		die "it sums up: $(grep ^patches-check: "$T/out")"
}

# first_hunk: FILE and LINE of the first hunk of the first patch.
first_hunk() {
	awk '/^--- a\// { file = substr($2, 3) }
	     /^@@ / { sub(/,.*/, "", $2); print file, substr($2, 2); exit }' "${PATCHES[0]}"
}

# one_file_but FILE: "PATCH FILE" of a patch that changes one file only, which is another one.
one_file_but() {
	local patch files

	for patch in "${PATCHES[@]}"; do
		files=$(sed -n 's,^[-+][-+][-+] [ab]/,,p' "$patch" | sort -u)
		[ "$(wc -l <<<"$files")" = 1 ] && [ "$files" != "$1" ] || continue
		echo "${patch##*/} $files"
		return
	done
}

not_where_a_file_is_another() {
	local file line patch gone

	a_tree
	read -r file line <<<"$(first_hunk)"
	read -r patch gone <<<"$(one_file_but "$file")"
	sed -i 's/$/ changed/' "$T/tree/$file" && rm "$T/tree/$gone" || die "cannot change $file and $gone"
	! asked || die "status 0: $(grep ^patches-check: "$T/out")"
	[ "$(answer "$FIRST")" = "does not apply: $file" ] || die "it says: $(answer "$FIRST")"
	[ "$(answer "$patch")" = "does not apply: $gone is not there" ] || die "it says: $(answer "$patch")"
	# Each that changes these does not
	[ "$(grep -c ': does not apply' "$T/out")" -ge "$(grep -lF -e "--- a/$file" -e "--- a/$gone" "${PATCHES[@]}" | wc -l)" ] ||
		die "too many apply: $(grep ^patches-check: "$T/out")"
	grep -q ': applies$' "$T/out" || die "none applies: it gives up at the first that does not"
}

with_fuzz_where_context_is_another() {
	local file line

	a_tree
	read -r file line <<<"$(first_hunk)"
	sed -i "${line}s/\$/ changed/" "$T/tree/$file" || die "sed"
	asked || :
	[ "$(answer "$FIRST")" = "applies with fuzz" ] || die "it says: $(answer "$FIRST")"
}

what_is_there_already() {
	a_tree
	patch -d "$T/tree" -p1 -s --no-backup-if-mismatch <"${PATCHES[0]}" >"$T/patch.out" || die "patch: $(cat "$T/patch.out")"
	! asked || die "status 0: $(grep ^patches-check: "$T/out")"
	[ "$(answer "$FIRST")" = "does not apply, it is there already" ] || die "it says: $(answer "$FIRST")"
}

# The table names a file and a regular expression of what it runs, or nothing.
tests_are_there() {
	local number test file behaviour found=0

	while IFS='|' read -r -u 9 _ number _ test _; do
		[[ $number =~ ^\ [0-9]{4}\  && $test =~ [^\ ] ]] || continue
		[[ $test =~ ^\ \`([a-z-]+\.sh)\`:\ \`([a-z0-9_]+)\`\ $ ]] || die "patch$number: no test is named by$test"
		file=${BASH_REMATCH[1]} behaviour=${BASH_REMATCH[2]}
		sed -nE 's/^[[:space:]]*run_(test|anywhere) "?([^" ]+).*/\2/p' "$TEST_DIR/criu/$file" | grep -qE "$behaviour" ||
			die "patch$number: $file has no $behaviour"
		found=$((found + 1))
	done 9<"$TEST_DIR/../criu-patches/README.md"
	[ "$found" -gt 0 ] || die "no tests are named"
}

run_anywhere the_tests_that_the_table_of_patches_names_are_there tests_are_there
run_test the_series_applies_to_its_base fits_the_base
run_test a_patch_does_not_apply_where_a_touched_file_was_changed not_where_a_file_is_another
run_test a_patch_applies_with_fuzz_where_lines_around_it_were_changed with_fuzz_where_context_is_another
run_test a_patch_that_is_there_already_is_told what_is_there_already
finish
