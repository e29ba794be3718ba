#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Checks criu-patches/: the form of each patch, that the series fits its base to
# the line, that CRIU builds after every patch of it, and that CRIU learns
# nothing of userfaultfd. Works in $BUILD/patches-check.
#
# With CRIU_SRC=<tree> in the environment, it only says which patches apply to
# that tree, of whatever release, one after another. The tree is only read: what
# the patches touch is copied. One that does not apply is left out, so what
# builds upon it may not apply either.
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${BUILD:-$top/build}
work=$build/patches-check
tree=$work/criu
plugin_h=criu/include/criu-plugin.h
# The first number of our hooks, far from those upstream hands out.
first_hook=64
errors=0
# shellcheck source=criu-tree.sh
. "$top/scripts/criu-tree.sh"

complain()
{
	printf 'patches-check: %s: %s\n' "$1" "$2" >&2
	errors=$((errors + 1))
}

# message PATCH: its mail header and commit message, folded lines joined.
message()
{
	awk '/^diff --git / { exit }
	     /^ / && held ~ /^Subject:/ { held = held $0; next }
	     NR > 1 { print held }
	     { held = $0 }
	     END { print held }' "$1"
}

check_form()
{
	local name=${1##*/} text

	text=$(message "$1")
	[[ $name =~ ^[0-9]{4}-[A-Za-z0-9._-]+\.patch$ ]] || complain "$name" "is not named NNNN-what-it-does.patch"
	grep -qE '^Subject: (\[PATCH\] )?[a-z][a-zA-Z0-9_./,-]*: [^ ]' <<<"$text" ||
		complain "$name" "has no subject of the form 'area: what it does'"
	grep -qE '^Signed-off-by: .+ <.+@.+>$' <<<"$text" || complain "$name" "has no Signed-off-by line"
	grep -qE '^Upstream: .+' <<<"$text" || complain "$name" "has no Upstream: line"
	grep -qE '^From 0{40} ' <<<"$text" || complain "$name" "is not from git format-patch --zero-commit"
	if grep -qE '^(GIT binary patch|Binary files )' "$1"; then
		complain "$name" "has a binary hunk, which patch(1) cannot apply"
	fi
}

# CRIU may hold no word on how pages are tracked. What it says already may move.
check_words()
{
	local name=${1##*/} line

	while IFS= read -r line; do
		grep -rqFx --exclude-dir=.git -e "$line" "$work/base" ||
			complain "$name" "tells CRIU about userfaultfd: $line"
	done < <(grep -E '^\+' "$1" | grep -vE '^\+\+\+ ' | cut -c2- | grep -iE 'userfaultfd|uffd')
}

check_numbers()
{
	local number=0 file

	for file in "$@"; do
		number=$((number + 1))
		[[ ${file##*/} == $(printf '%04d' "$number")-* ]] || complain "${file##*/}" "is not number $number of the series"
	done
}

check_build()
{
	if build_criu; then
		printf '  %-8s %s\n' BUILT "$1"
	else
		complain "$1" "CRIU does not build:"$'\n'"$(tail -n 20 "$work/log")"
	fi
}

# apply PATCH: without fuzz, at the very lines it names.
apply()
{
	local out

	if ! out=$(change "$1" -F0); then
		complain "${1##*/}" "does not apply:"$'\n'"$out"
		return 1
	fi
	if grep -qE 'offset|fuzz' <<<"$out"; then
		complain "${1##*/}" "applies only near the lines it names:"$'\n'"$out"
	fi
}

# hooks TREE: "NAME NUMBER" of every hook of that tree, as the compiler counts.
hooks()
{
	sed -nE 's/^[[:space:]]+(CR_PLUGIN_HOOK__[A-Z0-9_]+)[[:space:]]*(=.*)?,?$/\1/p' "$1/$plugin_h" | sort -u |
		awk 'BEGIN { print "#include <stdio.h>\n#include \"criu-plugin.h\"\nint main(void)\n{" }
		     { printf "\tprintf(\"%s %%d\\n\", %s);\n", $1, $1 }
		     END { print "\treturn 0;\n}" }' >"$work/hooks.c"
	"${CC:-gcc}" -w -I"$1/criu/include" -o "$work/hooks" "$work/hooks.c"
	"$work/hooks"
}

# Numbers are the interface to plugins built elsewhere: upstream's stay what
# they are, ours stay out of the way of those it will add.
check_hooks()
{
	local theirs all name number

	theirs=$(hooks "$work/base")
	all=$(hooks "$tree")
	while read -r name number; do
		case $name in
		CR_PLUGIN_HOOK__MAX) ;;
		CR_PLUGIN_HOOK__MEM_TRACK_*)
			[ "$number" -ge "$first_hook" ] || complain "$name" "is $number, below $first_hook"
			[ "$(grep -cE "^[^ ]+ $number\$" <<<"$all")" = 1 ] || complain "$name" "shares the number $number"
			;;
		*)
			grep -qFx "$name $number" <<<"$theirs" || complain "$name" "is $number, which upstream does not say"
			;;
		esac
	done <<<"$all"
	while read -r name number; do
		[ "$number" -lt "$first_hook" ] || complain "$name" "upstream has come to hook $first_hook"
	done < <(grep -vE '__MAX ' <<<"$theirs")
}

# What clients and images call a field is its number: ours stay out of the way of those upstream will add.
check_fields()
{
	local line

	while IFS= read -r line; do
		complain "images" "$line"
	done < <("$top/scripts/proto-numbers.sh" "$work/base" "$tree")
}

# copy_touched SRC PATCH...: the files that the patches touch, as far as SRC has them, to $tree.
copy_touched()
{
	local src=$1 file

	mkdir -p "$tree"
	while IFS= read -r file; do
		[ -f "$src/$file" ] || continue
		mkdir -p "$tree/$(dirname "$file")"
		cp -L "$src/$file" "$tree/$file"
	done < <(sed -nE 's,^(---|\+\+\+) [ab]/,,p' "${@:2}" | sort -u)
}

# try PATCH OPTION...: what patch(1) would say. Nothing is changed.
try()
{
	change "$1" --dry-run "${@:2}"
}

# failed_files: from what patch(1) has said, the files that a patch does not fit.
failed_files()
{
	awk '/^checking file / { file = $3 }
	     /^The next patch would create the file / { file = $8; sub(/,$/, "", file) }
	     # One that it could not find, quoted from the patch
	     /^\|\+\+\+ / { file = substr($2, 3) " is not there" }
	     /^The next patch would create|^\|\+\+\+ |^Hunk .* FAILED/ {
		if (!seen[file]++)
			all = all (all == "" ? "" : ", ") file
	     }
	     END { print all }'
}

# fit PATCH: apply it to $tree if that can be done, and say so; 0 to the letter, 1 nearly, 2 not at all.
fit()
{
	local name=${1##*/} out status=0

	# This first: what is added between lines that come again below can be added a second time.
	if try "$1" -F0 --reverse >/dev/null; then
		printf '%s: does not apply, it is there already\n' "$name"
		return 2
	elif try "$1" -F0 >/dev/null; then
		printf '%s: applies\n' "$name"
	elif out=$(try "$1"); then
		printf '%s: applies with fuzz\n' "$name"
		status=1
	else
		printf '%s: does not apply: %s\n' "$name" "$(failed_files <<<"$out")"
		return 2
	fi
	change "$1" >/dev/null
	return "$status"
}

# fit_all SRC PATCH...
fit_all()
{
	local src=$1 release file status count=(0 0 0)

	release=$("$top/scripts/criu-source.sh" release "$src") || exit 1
	copy_touched "$@"
	for file in "${@:2}"; do
		status=0
		fit "$file" || status=$?
		count[status]=$((count[status] + 1))
	done
	echo "patches-check: of $(($# - 1)) patches ${count[0]} apply to $src (CRIU $release), ${count[1]} with fuzz, ${count[2]} not"
	[ "${count[2]}" = 0 ]
}

main()
{
	local patches=("$top"/criu-patches/*.patch) file last=''

	[ -e "${patches[0]}" ] || patches=()
	unset MAKEFLAGS MAKELEVEL CFLAGS LDFLAGS PLUGINDIR
	rm -rf "$work"
	mkdir -p "$work/no-git/objects" "$work/no-git/refs"
	echo 'ref: refs/heads/none' >"$work/no-git/HEAD"
	export GIT_DIR=$work/no-git

	if [ -n "${CRIU_SRC:-}" ]; then
		fit_all "$CRIU_SRC" "${patches[@]}"
		return
	fi
	"$top/scripts/criu-source.sh" tree "$build/dl" "$work/base"
	cp -a "$work/base" "$tree"
	check_numbers "${patches[@]}"
	for file in "${patches[@]}"; do
		check_form "$file"
		check_words "$file"
	done
	check_build "the unpatched base"
	for file in "${patches[@]}"; do
		apply "$file" || break
		check_build "${file##*/}"
		last=$file
	done
	if [ "$last" = "${patches[*]: -1}" ]; then
		check_hooks
		check_fields
	fi
	if [ "$errors" != 0 ]; then
		echo "patches-check: $errors complaints about ${#patches[@]} patches" >&2
		exit 1
	fi
	echo "patches-check: ${#patches[@]} patches are in order"
}

main
