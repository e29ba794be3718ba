#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs CRIU's own test suite, and tests of our own, on the patched criu with the plugin.
#
#   zdtm.sh	MODE="pre ..." (scripts/zdtm-modes.sh)	FLAVORS="h ns uns"
#		TESTS=regular expression that is in a name, "static/env00"	SET=stock|own|all
#
# It works on a copy of the built tree in $BUILD/zdtm/tree. A test that fails is tried once
# more, which is told. The run fails when a test fails that is not in test/zdtm/expected, when
# one does not that is in there, when a round upon a parent leaves nothing to it, or what its
# images do not have, and when nothing ran. The last line is "N passed, N failed, N skipped";
# with ZDTM_LINES=1 there is a line "PASS ...", "FAIL ..." or "SKIP ..." for each test instead.
set -u
shopt -s extglob
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export BUILD=${BUILD:-$here/build}
wanted_modes=${MODE:-pre}
FLAVORS=${FLAVORS:-h}
TESTS=${TESTS:-}
SET=${SET:-all}
# Tests wait more than they work.
JOBS=${JOBS:-$(($(nproc) * 2))}
# zdtm and crit need the distribution's python3, whatever else is in PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
# It is started hundreds of times, and is not to compile what it imports each time.
unset PYTHONDONTWRITEBYTECODE
umask 0

work=$BUILD/zdtm
tree=$work/tree
swap=$work/swap
# zdtm makes it for --freezecg, and leaves it there.
FREEZER=/sys/fs/cgroup/freezer/zdtm
export ZDTM_RUN_DIRS=/run/criu-wptrack-zdtm

die()
{
	printf 'zdtm: %s\n' "$*" >&2
	exit 1
}

# shellcheck source=zdtm-modes.sh
. "$here/scripts/zdtm-modes.sh"
# shellcheck source=zdtm-judge.sh
. "$here/scripts/zdtm-judge.sh"

has_resource()
{
	local caps

	caps=$(awk '/^CapEff:/ { print $2 }' /proc/self/status)
	((0x$caps >> 24 & 1))
}

# Tests run as another user unless they want to be root. To be dumped, that needs CAP_SYS_RESOURCE, but in a user
# namespace.
choose_user()
{
	if [ "$1" = uns ] || has_resource; then
		cp "$tree/test/zdtm.py.user" "$tree/test/zdtm.py"
	else
		echo "zdtm: no CAP_SYS_RESOURCE: all tests of $1 run as root"
		cp "$tree/test/zdtm.py.root" "$tree/test/zdtm.py"
	fi
}

# --- the machine -----------------------------------------------------------------------------

# One of the tests has its pages swapped out.
swap_on()
{
	[[ $SET != stock && wptrack/swapped_out_and_in =~ $TESTS ]] && [ "$(wc -l </proc/swaps)" = 1 ] || return 0
	(
		umask 077
		head -c 256M /dev/zero >"$swap" && mkswap "$swap" && swapon "$swap"
	) >/dev/null 2>&1 || echo "zdtm: no swap, so nothing is swapped out"
}

# Processes of tests that hang or were killed with their runner.
end_leftovers()
{
	local proc exe

	# A frozen process does not die.
	[ ! -e "$FREEZER" ] || echo THAWED >"$FREEZER/freezer.state"
	for proc in /proc/[0-9]*; do
		exe=$(readlink "$proc/exe" 2>/dev/null)
		[[ $exe != "$tree"/test/zdtm/* ]] || kill -KILL "${proc#/proc/}" 2>/dev/null
	done
}

leave_as_found()
{
	end_leftovers
	echo "$huge" >/proc/sys/vm/nr_hugepages 2>/dev/null
	[ ! -e "$swap" ] || { swapoff "$swap" 2>/dev/null; rm -f "$swap"; }
	[ ! -e "$FREEZER" ] || rmdir "$FREEZER"
	rm -rf "$ZDTM_RUN_DIRS" /run/criu.kdat.tmp
	find /tmp -maxdepth 1 \( -name 'criu-root-*' -o -name 'zdtm_ext*' \) -newer "$work/.began" -exec rm -rf {} + 2>/dev/null
}

# --- running ---------------------------------------------------------------------------------

# prepare_wrapper FLAVOR PRE: what stands in for criu is told where to leave its lines.
prepare_wrapper()
{
	install -m 755 "$here/scripts/zdtm-criu.sh" "$out/criu"
	cat >"$out/zdtm-criu.env" <<-END
		ZDTM_CRIU=$BUILD/bin/criu
		ZDTM_PLUGINS=${PLUGINS:-$BUILD/plugins}
		ZDTM_STATS=$BUILD/test/criu-stats
		ZDTM_ROUNDS=$out/$1.rounds
		ZDTM_HELD=$out/$1.held
		ZDTM_PRE=$2
		ZDTM_MODE=$MODE
		ZDTM_RUN_DIRS=$ZDTM_RUN_DIRS
	END
}

# zdtm_py LOG OPTION...: killed as a whole when it hangs.
zdtm_py()
{
	local log=$1 limit=${ZDTM_TIMEOUT:-1800}

	shift
	[[ " $* " != *" -t "* ]] || limit=300
	(
		cd "$tree/test" || exit 1
		timeout -k 30 "$limit" setsid -w /usr/bin/python3 zdtm.py run --ignore-taint --criu-bin "$out/criu" "$@" 9>&-
	) </dev/null >"$log" 2>&1
	[ $? != 124 ] || echo "zdtm: TIMEOUT: $*"
	end_leftovers
}

# names PASS|FAIL LOG: of the tests that did.
names()
{
	grep -oE "Test zdtm/[a-z]+/[^ ]+ $1" "$2" | awk '{ print substr($2, 6) }' | sort -u
}

# one_run FLAVOR OPTION...: and once more for each test that fails.
one_run()
{
	local flavor=$1 log=$out/$1.now label="" test again=$out/$1.again status
	local options

	shift
	options=("$@")
	if [ "$1" = -a ]; then
		options=(-T "zdtm/(?=($(set_pattern))/).*($TESTS)" -p "$JOBS" "${@:2}")
	else
		label="${*:3}"
		[[ ${2#zdtm/} =~ $TESTS ]] || return 0
	fi
	zdtm_py "$log" -f "$flavor" --keep-going "${options[@]}"
	cat "$log" >>"$out/$flavor.log"
	names PASS "$log" | sed "s|\$| pass $label|" >>"$out/$flavor.results"
	for test in $(names FAIL "$log"); do
		status=fail
		zdtm_py "$again" -f "$flavor" -t "zdtm/$test" $(without_choice "$@")
		cat "$again" >>"$out/$flavor.log"
		! names PASS "$again" | grep -qx "$test" || status=again
		echo "$test $status $label" >>"$out/$flavor.results"
	done
	if [ -n "$label" ] && [ -z "$(names '(PASS|FAIL)' "$log")" ] && ! grep -q '^Skipping zdtm/' "$log"; then
		echo "${2#zdtm/} fail $label" >>"$out/$flavor.results"
	fi
}

set_pattern()
{
	case $SET in
	stock) echo 'static|transition' ;;
	own) echo 'wptrack' ;;
	all) echo 'static|transition|wptrack' ;;
	*) die "there is no SET=$SET" ;;
	esac
}

# needed_tests: a regular expression for what has to be built, empty for all.
needed_tests()
{
	local line named='^$'

	for MODE in $wanted_modes; do
		while read -r -a line; do
			if [ "${line[1]}" = -t ]; then
				named="$named|^${line[2]#zdtm/}\$"
			elif [ "$SET" != own ]; then
				[ -n "$TESTS" ] || return 0
				named="$named|$TESTS"
			fi
		done < <(runs_of_mode "$MODE")
	done
	echo "$named"
}

# without_choice OPTION...: without those that say which tests.
without_choice()
{
	while [ $# -gt 0 ]; do
		case $1 in
		-a) ;;
		-t | -x) shift ;;
		*) echo "$1" ;;
		esac
		shift
	done
}

# pre_of OPTION...: the number of pre-dumps.
pre_of()
{
	while [ $# -gt 0 ]; do
		[ "$1" != --pre ] || { echo "${2%%:*}"; return; }
		shift
	done
	echo 0
}

run_mode()
{
	local flavor line began p f s

	out=$work/$MODE
	rm -rf "$out"
	mkdir -p "$out"
	for flavor in $FLAVORS; do
		began=$SECONDS p=$passed f=$failed s=$skipped
		: >"$out/$flavor.log" >"$out/$flavor.results"
		: >"$out/$flavor.rounds" >"$out/$flavor.held"
		: >"$out/$flavor.wanted"
		choose_user "$flavor"
		while read -r -a line; do
			[[ ${line[0]} == '*' || ${line[0]} == "$flavor" ]] || continue
			prepare_wrapper "$flavor" "$(pre_of "${line[@]}")"
			echo "${line[*]} $(pre_of "${line[@]}")" >>"$out/$flavor.wanted"
			echo "zdtm: $MODE, $flavor: ${line[*]:1}"
			one_run "$flavor" "${line[@]:1}"
		done < <(runs_of_mode "$MODE")
		[ -s "$out/$flavor.wanted" ] || continue
		judge "$flavor"
		echo "$MODE $flavor $((passed - p)) $((failed - f)) $((skipped - s)) $((SECONDS - began)) $(cat "$out/$flavor.sums")" \
			>"$out/$flavor.summary"
		echo "zdtm: $MODE, $flavor: $((SECONDS - began)) s; so far $passed passed, $failed failed, $skipped skipped"
	done
}

[ "$(id -u)" = 0 ] || die "must be run as root"
[ -x "$BUILD/bin/criu" ] || die "build criu first (make)"
exec 9>"$BUILD/.zdtm-lock" || exit 1
flock -n 9 || die "another one is running"
for MODE in $wanted_modes; do
	runs_of_mode "$MODE" >/dev/null || die "there is no MODE=$MODE, but $MODES"
done
for flavor in $FLAVORS; do
	[ -f "$here/test/zdtm/stock/$flavor" ] || die "there is no flavor $flavor"
done
check_list
"$here/scripts/zdtm-tree.sh" "$tree" "$(needed_tests)" || exit 1
huge=$(cat /proc/sys/vm/nr_hugepages)
touch "$work/.began"
trap leave_as_found EXIT
swap_on
for MODE in $wanted_modes; do
	run_mode
done
[ -n "${ZDTM_LINES:-}" ] || echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
