#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs CRIU's own test suite on the patched criu with the plugin.
#
#   zdtm.sh           MODE=plain|pre|pre-read|snaps|page-server|dedup|lazy|lazy-pre|iters|fault
#                     FLAVORS="h ns uns" TESTS=regular expression of names
#
# It works on a copy of the built tree in $BUILD/zdtm/tree. Ends with a line
# "N passed, N failed, N skipped" for all flavors together. Fails when a test
# fails that passes on the unpatched criu (test/zdtm/stock/FLAVOR), when a page
# was left to parent images that do not have it, or when nothing ran. Tests that
# fail on the unpatched criu, too, are counted as skipped.
set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$here/build}
MODE=${MODE:-pre}
FLAVORS=${FLAVORS:-h}
TESTS=${TESTS:-}
# zdtm and crit need the distribution's python3, whatever else is in PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
umask 0

work=$BUILD/zdtm
tree=$work/tree
out=$work/$MODE
RUN_DIRS=/run/criu-wptrack-zdtm

die()
{
	printf 'zdtm: %s\n' "$*" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || die "must be run as root"
exec 9>"$BUILD/.zdtm-lock" || exit 1
flock -n 9 || die "another one is running"

# --- the tree ------------------------------------------------------------------------------

make_tree()
{
	local stamp=$BUILD/criu/criu/criu

	[ -x "$stamp" ] || die "build criu first (make)"
	if [ -e "$tree/.complete" ] && [ "$tree/.complete" -nt "$stamp" ] && [ "$tree/.complete" -nt "${BASH_SOURCE[0]}" ]; then
		return
	fi
	echo "  ZDTM     building the tests in $tree (log in $work/build.log)"
	rm -rf "$tree"
	mkdir -p "$work"
	cp -a "$BUILD/criu" "$tree" || die "cannot copy the tree"
	(
		# The tree asks git for its version.
		export GIT_DIR=$BUILD/no-git
		make -C "$tree" -j"$(nproc)" && make -C "$tree/test/zdtm" -j"$(nproc)"
	) >"$work/build.log" 2>&1 </dev/null || {
		tail -n 20 "$work/build.log" >&2
		die "the tests cannot be built"
	}
	# It runs itself again by this name, so the one that is wanted is put there.
	cp "$tree/test/zdtm.py" "$tree/test/zdtm.py.user"
	sed "s/if not test_flag(self.__desc, 'suid'):/if False:/" "$tree/test/zdtm.py.user" >"$tree/test/zdtm.py.root"
	! cmp -s "$tree/test/zdtm.py.user" "$tree/test/zdtm.py.root" || die "zdtm.py is not the one that is known"
	chmod 0777 "$tree/test" "$tree/test/zdtm/static" "$tree/test/zdtm/transition"
	touch "$tree/.complete"
}

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

make_wrapper()
{
	mkdir -p "$out"
	install -m 755 "$here/scripts/zdtm-criu.sh" "$out/criu"
	cat >"$out/zdtm-criu.env" <<-END
		ZDTM_CRIU=$BUILD/bin/criu
		ZDTM_PLUGINS=$BUILD/plugins
		ZDTM_STATS=$BUILD/test/criu-stats
		ZDTM_ROUNDS=$out/rounds
		ZDTM_RUN_DIRS=$RUN_DIRS
	END
}

# --- what is run -----------------------------------------------------------------------------

# Options of zdtm.py for a mode, one run to a line. Exclusions are those of CRIU's own jobs.
runs_of_mode()
{
	local lazy='-x maps01 -x maps04 -x cmdlinenv00 -x maps007 -x futex -x futex-rl'

	case $MODE in
	plain) echo "-a" ;;
	pre) echo "-a --pre 3 -x maps04" ;;
	pre-read) echo "-a --pre 3 --pre-dump-mode read -x maps04" ;;
	snaps) echo "-a --pre 3 --snaps -x maps04" ;;
	page-server) echo "-a --pre 3 --page-server -x maps04" ;;
	dedup)
		echo "-a --pre 2 --dedup -x maps04 -x maps007"
		for test in transition/maps007 static/mem-touch transition/maps008; do
			echo "-t zdtm/$test --pre 8:.1 --dedup"
		done
		echo "-t zdtm/transition/maps007 --pre 8:.1 --noauto-dedup"
		echo "-t zdtm/static/mem-touch --pre 8:.1 --noauto-dedup"
		;;
	lazy) echo "-a --lazy-pages $lazy" ;;
	lazy-pre) echo "-a --lazy-pages --pre 2 $lazy -x maps02" ;;
	iters) echo "-a --iters 3 -x maps04" ;;
	fault)
		echo "-t zdtm/static/env00 --fault 1"
		echo "-t zdtm/static/unlink_fstat00 --fault 2"
		echo "-t zdtm/static/maps00 --fault 3"
		echo "-t zdtm/transition/fork --fault 130"
		echo "-t zdtm/static/vdso01 --fault 127"
		echo "-t zdtm/static/vdso-proxy --fault 127 --iters 3"
		echo "-t zdtm/static/vdso01 --fault 133"
		echo "-t zdtm/static/unlink_fstat03 --fault 6"
		echo "-t zdtm/static/env00 --fault 5"
		echo "-t zdtm/static/maps04 --fault 131 --pre 2:1"
		echo "-t zdtm/transition/maps008 --fault 131 --pre 2:1"
		echo "-t zdtm/static/maps01 --fault 132"
		;;
	*) die "there is no MODE=$MODE" ;;
	esac
}

leave_as_found()
{
	echo "$huge" >/proc/sys/vm/nr_hugepages 2>/dev/null
	rm -rf "$RUN_DIRS" /run/criu.kdat.tmp
	find /tmp -maxdepth 1 \( -name 'criu-root-*' -o -name 'zdtm_ext*' \) -newer "$out/.began" -exec rm -rf {} + 2>/dev/null
}

# run_zdtm FLAVOR OPTION...: the output goes to the log; killed as a whole when it hangs.
run_zdtm()
{
	local flavor=$1 log=$out/$1.log

	shift
	if [ -n "$TESTS" ] && [ "$1" = -a ]; then
		shift
		set -- -T ".*($TESTS)" "$@"
	fi
	(
		cd "$tree/test" || exit 1
		timeout -k 30 "${ZDTM_TIMEOUT:-1500}" setsid -w /usr/bin/python3 zdtm.py run -f "$flavor" --keep-going \
			--ignore-taint -p "$(nproc)" --criu-bin "$out/criu" "$@" 9>&-
	) </dev/null >>"$log" 2>&1
	[ $? != 124 ] || echo "zdtm: TIMEOUT $flavor $*" | tee -a "$log"
}

# names PATTERN LOG: of the tests whose line matches.
names()
{
	grep -oE "Test zdtm/[a-z]+/[^ ]+ $1" "$2" | awk '{ print $2 }' | sort -u
}

passed=0 failed=0 skipped=0
judge()
{
	local flavor=$1 log=$out/$1.log pass fail regress known

	names PASS "$log" >"$out/$flavor.pass"
	names FAIL "$log" | comm -23 - "$out/$flavor.pass" >"$out/$flavor.fail.all"
	names FAIL "$log" >"$out/$flavor.fail"
	comm -12 "$out/$flavor.fail" <(sort "$here/test/zdtm/stock/$flavor") >"$out/$flavor.regress"
	pass=$(comm -23 "$out/$flavor.pass" "$out/$flavor.fail" | wc -l)
	fail=$(wc -l <"$out/$flavor.fail")
	regress=$(wc -l <"$out/$flavor.regress")
	known=$((fail - regress))
	passed=$((passed + pass))
	failed=$((failed + regress))
	skipped=$((skipped + known + $(grep -c '^Skipping zdtm/' "$log")))
	echo "$flavor: $pass passed, $regress regressed, $known failed as they do on the unpatched criu"
	sed "s/^/FAIL $flavor /" "$out/$flavor.regress"
	if [ "$pass" = 0 ]; then
		echo "FAIL $flavor: nothing ran"
		failed=$((failed + 1))
	fi
}

# Rounds upon parents: how many were incremental, and was any of them wrong?
judge_rounds()
{
	local wrong

	[ -s "$out/rounds" ] || return 0
	awk '{ n++; w += $3; s += $4; if ($4 > 0) inc++; if ($5 == "untracked") un++ }
		END { printf "rounds: %d, %d left pages to their parents, %d not tracked; pages: %d written, %d left\n", n, inc, un, w, s }' \
		"$out/rounds"
	wrong=$(awk '$6 > 0 { print $1 }' "$out/rounds" | sort -u)
	if [ -n "$wrong" ]; then
		printf 'FAIL left to parent images that do not have it: %s\n' $wrong
		failed=$((failed + $(wc -l <<<"$wrong")))
	fi
	# A test none of whose rounds left anything, though there were some upon a parent.
	awk '$5 != "untracked" { rounds[$1]++; if ($4 > 0) inc[$1] = 1 } END { for (t in rounds) if (rounds[t] > 1 && !inc[t]) print "never incremental:", t }' \
		"$out/rounds" | sort
}

make_tree
rm -rf "$out"
make_wrapper
touch "$out/.began"
huge=$(cat /proc/sys/vm/nr_hugepages)
trap leave_as_found EXIT
for flavor in $FLAVORS; do
	[ -f "$here/test/zdtm/stock/$flavor" ] || die "there is no flavor $flavor"
	echo "zdtm: MODE=$MODE, flavor $flavor"
	: >"$out/$flavor.log"
	choose_user "$flavor"
	while read -r line; do
		# shellcheck disable=SC2086
		run_zdtm "$flavor" $line
	done < <(runs_of_mode)
	judge "$flavor"
done
judge_rounds
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
