#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kernels.sh: run tests under other kernels, each file in a guest of its own.
#
#   KERNELS="6.1 6.12 7.2 7.3"   scripts/kernels-fetch.sh knows these
#   TESTS="kernel chain ..."     test/kernels/guest.sh says what can be named
#   WRITE_DOCS=1                 write docs/kernels.md, of all results in BUILD/kernels/results; with KERNELS=" " that alone.
#                                A test that has no result there keeps its line, if that is of the same release
#   BUILD=dir                    what is built, and where kernels and results go
#
# Prints a line for each test of each kernel, and those that failed.
set -uo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath "${BUILD:-$top/build}")
all_kernels="7.3 6.12 7.2 6.1"
all_tests="kernel check pins races chain live decisions before-stop unseen vma-flags soft-dirty demo-plain demo-asan demo-msan interrupted"
read -ra kernels <<<"${KERNELS:-$all_kernels}"
read -ra tests <<<"${TESTS:-$all_tests}"
dir=$BUILD/kernels
docs=$top/docs/kernels.md
failed=0

die()
{
	printf 'kernels: %s\n' "$*" >&2
	exit 1
}

# file_of KERNEL TEST: where its output goes.
file_of()
{
	echo "$dir/results/$1/${2//[^a-zA-Z0-9_.-]/_}.log"
}

lines()
{
	grep -c "^$1 " "$2"
}

# in_guest KERNEL TEST: its output, and a last line about how it ended.
in_guest()
{
	local log begin=$SECONDS rc

	log=$(file_of "$1" "$2")
	mkdir -p "$(dirname "$log")"
	VM_TIMEOUT=${VM_TIMEOUT:-7200} "$top/test/kernels/vm.sh" "$dir/$1" "$share" \
		"TURNS=${TURNS:-} BUILD=$(printf %q "$BUILD") bash $(printf %q "$top/test/kernels/guest.sh") $(printf %q "$2")" >"$log.new" 2>"$log.err" </dev/null
	rc=$?
	printf 'ended: %d after %d s on %s\n' "$rc" $((SECONDS - begin)) "$(date -u +%F)" >>"$log.new"
	mv "$log.new" "$log"
	return "$rc"
}

# one KERNEL TEST: run it, say what came out, and count it.
one()
{
	local log rc pass fail skip

	in_guest "$1" "$2"
	rc=$?
	log=$(file_of "$1" "$2")
	pass=$(lines PASS "$log") fail=$(lines FAIL "$log") skip=$(lines SKIP "$log")
	printf '%-5s %-12s %4d passed %3d failed %3d skipped  %s\n' "$1" "$2" "$pass" "$fail" "$skip" \
		"$(sed -n 's/^ended: //p' "$log")"
	grep '^FAIL ' "$log"
	if [ "$fail" != 0 ]; then
		failed=1
	elif [ "$rc" != 0 ] || [ $((pass + skip)) = 0 ]; then
		echo "FAIL $1 $2: status $rc, $((pass + skip)) tests, none failed: $(tail -n 2 "$log.err" | tr '\n' ' ')"
		failed=1
	fi
}

prepare()
{
	mkdir -p "$dir"
	share=$(mktemp -d "$dir/share.XXXXXX") || die "no directory to share with guests"
	trap 'rm -rf "$share"' EXIT
	gcc -static -O1 -Wall -Wextra -Werror -o "$share/guest-init" "$top/test/kernels/guest-init.c" &&
		mv "$share/guest-init" "$dir/guest-init" || die "no init for guests"
}

# ---------------------------------------------------------------- docs/kernels.md

fact()
{
	sed -n "s/^$1: //p" "$(file_of "$2" facts)"
}

# remarks LOG: what failed, and for what reasons tests were skipped.
remarks()
{
	sed -n 's/^FAIL \([^: ]*\): \(.*\)/FAIL `\1`: \2/p; s/^SKIP [^:]*: \(.*\)/skipped: \1/p' "$1" | cut -c 1-160 | sort | uniq -c |
		sed 's/^ *1 //; s/^ *\([0-9]*\) \(skipped\)/\1 \2/; s/|/\\|/g' | awk '{ printf "%s%s", sep, $0; sep = "; " }'
}

# all_and_more KERNEL: all tests, and what else has results of that kernel: parts of files.
all_and_more()
{
	{
		printf '%s\n' $all_tests
		find "$dir/results/$1" -name '*.log' ! -name facts.log -printf '%f\n' | sed 's/\.log$//' | sort
	} | awk '!seen[$0]++'
}

# section KERNEL: what the document has of the series so far. row RELEASE TEST: its line for a test.
section()
{
	awk -v head="## Linux $1." '/^## Linux / { on = index($0, head) == 1 } on' "$docs"
}

row()
{
	awk -v head="## Linux $1" -v row="| $2 |" '/^## Linux / { on = $0 == head } on && index($0, row) == 1' "$docs"
}

# table KERNEL
table()
{
	local test log

	printf '\n## Linux %s\n\n' "$(fact release "$1")"
	printf 'From the suite %s. Memory is tracked by %s; without the plugin by %s. Huge pages: %s.\n\n' "$(cat "$dir/$1/suite")" \
		"$(fact tracker "$1")" "$(fact 'without the plugin' "$1")" "$(fact 'huge pages' "$1")"
	if [ -n "$(fact 'memory that is not registered reads as written' "$1")" ]; then
		printf 'What reads as written though nobody has written it (test/kernel/written.c): holes of registered memory: %s; ' \
			"$(fact 'holes of registered memory that read as written' "$1")"
		printf 'memory that is not registered: %s.\n\n' "$(fact 'memory that is not registered reads as written' "$1")"
	fi
	printf '| test | passed | failed | skipped | ended | remarks |\n|---|---|---|---|---|---|\n'
	for test in $(all_and_more "$1"); do
		log=$(file_of "$1" "$test")
		if [ -f "$log" ]; then
			printf '| %s | %d | %d | %d | %s | %s |\n' "$test" "$(lines PASS "$log")" "$(lines FAIL "$log")" "$(lines SKIP "$log")" \
				"$(sed -n 's/^ended: [0-9]* //p' "$log")" "$(remarks "$log")"
		else
			row "$(fact release "$1")" "$test" | grep . || printf '| %s | | | | not run | |\n' "$test"
		fi
	done
}

write_docs()
{
	local kernel

	cat "$top/test/kernels/kernels.md"
	for kernel in $(printf '%s\n' $all_kernels | sort -V); do
		if [ -f "$(file_of "$kernel" facts)" ]; then
			table "$kernel"
		elif section "$kernel" | grep -q .; then
			printf '\n%s\n' "$(section "$kernel")"
		fi
	done
}

[ ${#kernels[@]} -gt 0 ] && [ ${#tests[@]} -gt 0 ] || [ -n "${WRITE_DOCS:-}" ] || die "nothing is to be run"
prepare
for kernel in "${kernels[@]}"; do
	"$top/scripts/kernels-fetch.sh" "$kernel" "$dir/$kernel" || die "no Linux $kernel"
	in_guest "$kernel" facts || die "Linux $kernel does not come up: $(tail -n 5 "$(file_of "$kernel" facts).err")"
	echo "$kernel: $(fact release "$kernel"), memory is tracked by $(fact tracker "$kernel")"
	for test in "${tests[@]}"; do
		one "$kernel" "$test"
	done
done
if [ -n "${WRITE_DOCS:-}" ]; then
	write_docs >"$dir/kernels.md" && cp "$dir/kernels.md" "$docs"
fi
exit "$failed"
