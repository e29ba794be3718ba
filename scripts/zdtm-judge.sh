# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# How scripts/zdtm.sh comes to its verdict. Each run of zdtm.py has left lines
#
#	$out/FLAVOR.results	TEST STATUS LABEL	pass, again (at the second try) or fail
#	$out/FLAVOR.rounds	TEST KIND NR WRITTEN SKIPPED BASES WRONG PRE
#
# with TEST being "static/env00", LABEL the options of a single test's run, and PRE the
# number of pre-dumps in a chain, 0 for none.

passed=0 failed=0 skipped=0

# report FLAVOR TEST WHY: a failure.
report()
{
	printf 'FAIL %s %s %s: %s\n' "$MODE" "$@"
	failed=$((failed + 1))
}

# is_so IF: of test/zdtm/expected.
is_so()
{
	case $1 in
	"") ;;
	no-resource) ! has_resource ;;
	no-sit) ! unshare -n ip link add name wpt type sit 2>/dev/null ;;
	no-tun) ! [[ $(stat -c %A /dev/net/tun 2>/dev/null) == *w? ]] ;;
	*) die "test/zdtm/expected: there is no condition $1" ;;
	esac
}

# is_one_of STRING PATTERN: "h|ns" is a pattern, too.
is_one_of()
{
	# shellcheck disable=SC2053
	[[ $1 == @($2) ]]
}

# expected FLAVOR: the lines of test/zdtm/expected for this mode and flavor, as "TEST WHAT CAUSE".
expected()
{
	local mode flavor test what cause condition

	while read -r mode flavor test what cause; do
		[[ $mode != \#* ]] && is_one_of "$MODE" "$mode" && is_one_of "$1" "$flavor" || continue
		condition=${what#"${what%%:*}"}
		is_so "${condition#:}" || continue
		echo "$test ${what%%:*} $cause"
	done <"$here/test/zdtm/expected"
}

# cause_of FLAVOR TEST WHAT: fails when it is not on the list.
cause_of()
{
	awk -v t="$2" -v w="$3" '$1 == t && ($2 == w || $2 == "may-" w) { $1 = $2 = ""; print substr($0, 3); found = 1; exit }
		END { exit !found }' "$out/$1.expected"
}

# tell PASS|SKIP FLAVOR TEST [WHY]: a line for those who count them (scripts/run-checks.sh), if that is wanted.
tell()
{
	if [ -n "${ZDTM_LINES:-}" ]; then
		printf '%s %s %s %s%s\n' "$1" "$MODE" "$2" "$3" "${4:+: $4}"
	elif [ "$1" = SKIP ]; then
		echo "as expected: $2 $3 $4"
	fi
}

passes_on_stock()
{
	grep -qx "zdtm/$2" "$here/test/zdtm/stock/$1"
}

judge_failures()
{
	local flavor=$1 test status label cause note

	while read -r test status label; do
		[ "$status" != again ] || echo "AGAIN $flavor $test${label:+ $label}: passed at the second try"
		if [ "$status" != fail ]; then
			passed=$((passed + 1))
			tell PASS "$flavor" "$test${label:+ $label}"
		elif cause=$(cause_of "$flavor" "$test" fail); then
			tell SKIP "$flavor" "$test${label:+ $label}" "fails, as expected: $cause"
			skipped=$((skipped + 1))
		else
			note="is not on the list of expected failures"
			! passes_on_stock "$flavor" "$test" || note="passes on the unpatched criu, plainly"
			report "$flavor" "$test${label:+ $label}" "$note"
		fi
	done <"$out/$flavor.results"
	# A test is on the list that need not be.
	while read -r test status cause; do
		if [ "$status" = fail ] && grep -q "^$test pass\|^$test again" "$out/$flavor.results" &&
			! grep -q "^$test fail" "$out/$flavor.results"; then
			report "$flavor" "$test" "passes, but is expected to fail: $cause"
		fi
	done <"$out/$flavor.expected"
}

# own_limit TEST: what a later round of a test of our own may write; nothing for other tests.
own_limit()
{
	[[ $1 == wptrack/* ]] || return 0
	awk -v t="${1#wptrack/}" '$1 == t { print $4 }' "$tree/test/zdtm/wptrack/.tests"
}

# judge_later FLAVOR TEST NR WRITTEN SKIPPED BASES: a round upon a parent.
judge_later()
{
	local limit cause

	limit=$(own_limit "$2")
	# zdtm runs no hooks behind snapshots, so nothing is lost there.
	[[ $limit != full || $MODE != snaps* ]] || limit=-
	if [ "$limit" = full ]; then
		[ "$5" = 0 ] || report "$1" "$2" "round $3 left $5 pages to a parent that is not to be trusted"
	elif [ "$5" = 0 ]; then
		if cause=$(cause_of "$1" "$2" full); then
			echo "$2 $cause" >>"$out/$1.full"
		else
			report "$1" "$2" "round $3 left nothing to its parent: $6"
		fi
	elif [ -n "$limit" ] && [ "$limit" != - ] && [ "$4" -gt "$limit" ]; then
		report "$1" "$2" "round $3 wrote $4 pages, not $limit at most"
	fi
}

# has_later FLAVOR TEST: was there a round upon a parent?
has_later()
{
	awk -v t="$2" '$1 == t && $8 && ($3 - 1) % ($8 + 1) { found = 1; exit } END { exit !found }' "$out/$1.rounds"
}

judge_rounds()
{
	local flavor=$1 test kind nr written left bases wrong pre what cause

	: >"$out/$flavor.full"
	while read -r test kind nr written left bases wrong pre; do
		if [ "$wrong" != 0 ]; then
			report "$flavor" "$test" "round $nr left $wrong ranges to parent images that do not have them"
		fi
		[ "$pre" != 0 ] || continue
		if [ "$bases" = untracked ]; then
			report "$flavor" "$test" "round $nr was not tracked"
		elif (((nr - 1) % (pre + 1))); then
			judge_later "$flavor" "$test" "$nr" "$written" "$left" "$bases"
		fi
	done <"$out/$flavor.rounds"
	while read -r test what cause; do
		if [ "$what" = full ] && has_later "$flavor" "$test" && ! grep -q "^$test " "$out/$flavor.full"; then
			report "$flavor" "$test" "its rounds are incremental, but are expected to be full: $cause"
		fi
	done <"$out/$flavor.expected"
	sort -u "$out/$flavor.full" | sed "s/^\([^ ]*\) /as expected: $flavor \1 has full rounds: /"
}

# sum_up FLAVOR: what was written, and against what the same tests write in a plain dump.
sum_up()
{
	local flavor=$1

	awk '$6 != "untracked" {
			n++; later = $8 && ($3 - 1) % ($8 + 1)
			if (later) { l++; lw += $4; ls += $5; if ($5 > 0) inc++ } else { f++; fw += $4 }
		}
		END { if (n) printf "%d %d %d %d %d %d\n", f, l, inc, fw, lw, ls }' "$out/$flavor.rounds" >"$out/$flavor.sums"
	awk -v f="$flavor" '{ printf "%s rounds: %d first, %d later, %d of these incremental; pages: first rounds wrote %d, later ones %d and left %d\n", \
		f, $1, $2, $3, $4, $5, $6 }' "$out/$flavor.sums"
	if [ "$MODE" = plain ]; then
		awk '$2 == "dump" { print $1, $4 }' "$out/$flavor.rounds" | sort -u -k 1,1 >"$work/plain-pages.$flavor"
	elif [ -s "$work/plain-pages.$flavor" ]; then
		awk 'NR == FNR { plain[$1] = $2; next }
			$6 != "untracked" && $1 in plain && $8 { c[$1]++; w[$1] += $4; if (($3 - 1) % ($8 + 1)) lw[$1] += $4; else fw[$1] += $4 }
			END { for (t in w) { p += plain[t]; n++; s += w[t]; f += fw[t]; l += lw[t]; r += c[t] }
				if (n && p) printf "against plain: %d tests, whose plain dumps wrote %d pages; all %d rounds together %d (%.2f times), first rounds %d, later ones %d\n", \
					n, p, r, s, s / p, f, l }' "$work/plain-pages.$flavor" "$out/$flavor.rounds" | sed "s/^/$flavor /"
	fi
}

# judge_held FLAVOR: restores that read pre-dumps had memory of the program before the dump, nearly all of them.
judge_held()
{
	local all some

	all=$(wc -l <"$out/$1.held")
	some=$(awk '$2 > 0' "$out/$1.held" | wc -l)
	echo "$1: $some of $all restores had memory of the program beforehand"
	[ $((some * 10)) -gt $((all * 9)) ] || report "$1" "$MODE" "only $some of $all restores had memory of the program beforehand"
}

judge()
{
	local flavor=$1

	expected "$flavor" >"$out/$flavor.expected"
	judge_failures "$flavor"
	judge_rounds "$flavor"
	[ "$MODE" != pre-restore ] || judge_held "$flavor"
	skipped=$((skipped + $(grep -h '^Skipping zdtm/' "$out/$flavor.log" | sort -u | wc -l)))
	if [ ! -s "$out/$flavor.results" ]; then
		report "$flavor" "$MODE" "nothing ran"
	elif grep -q ' [1-9][0-9]*$' "$out/$flavor.wanted" && ! grep -vq ' untracked ' "$out/$flavor.rounds"; then
		report "$flavor" "$MODE" "no round was tracked"
	fi
	sum_up "$flavor"
}

# The list must not make up for what the patches break.
check_list()
{
	local mode flavor test what cause f

	while read -r mode flavor test what cause; do
		[[ $mode != \#* && -n $mode ]] || continue
		what=${what%%:*}
		[[ $what == @(|may-)@(fail|full) ]] && [ -n "$cause" ] ||
			die "test/zdtm/expected: not understood: $mode $flavor $test $what $cause"
		for f in h ns uns; do
			if [[ $what == *fail ]] && is_one_of "$f" "$flavor" && is_one_of plain "$mode" && passes_on_stock "$f" "$test"; then
				die "test/zdtm/expected: $test passes on the unpatched criu in $f, and must not fail plainly"
			fi
		done
	done <"$here/test/zdtm/expected"
}
