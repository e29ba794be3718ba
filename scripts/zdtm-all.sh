#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The whole matrix, as CRIU's own jobs have it: all modes in h, those that track memory in
# ns and uns, too. Tests of our own run where memory is tracked. With WRITE_DOCS=1 its table goes to docs/zdtm.md. PART=regular expression
# of "MODE FLAVOR" runs a part; what has been run before stays in the table.
set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$here/build}
PART=${PART:-.}
sums=$BUILD/zdtm/all
docs=$here/docs/zdtm.md
failed=0

# The plain dumps come first: others are compared with them.
matrix()
{
	cat <<-END
		plain h
		plain ns
		plain uns
		pre h
		pre ns
		pre uns
		pre-read h
		pre-read uns
		pre-live h
		pre-live ns
		pre-live uns
		snaps h
		snaps uns
		page-server h
		page-server uns
		snaps-page-server h
		dedup h
		jobs h
		jobs ns
		jobs uns
		again h
		lazy h
		lazy-pre h
		iters h
		freezer h
		fault h
		fault ns
		fault uns
	END
}

run_one()
{
	local set=all

	[[ $1 != plain && $1 != iters && $1 != lazy ]] || set=stock
	MODE=$1 FLAVORS=$2 SET=$set BUILD=$BUILD TESTS="" "$here/scripts/zdtm.sh" >"$sums/$1.$2.log" 2>&1 || failed=1
	cp "$BUILD/zdtm/$1/$2.summary" "$sums/$1.$2" 2>/dev/null || echo "$1 $2 0 1 0 0" >"$sums/$1.$2"
	date -u +%F >"$sums/$1.$2.date"
	grep -E "^(FAIL|AGAIN|zdtm: TIMEOUT)" "$sums/$1.$2.log"
	tail -n 2 "$sums/$1.$2.log"
}

rows()
{
	local mode flavor

	while read -r mode flavor; do
		[ -s "$sums/$mode.$flavor" ] || continue
		awk -v d="$(cat "$sums/$mode.$flavor.date")" '{
			rounds = NF > 6 && $8 ? $8 ", " $9 : "-"
			pages = NF > 6 && $8 ? $10 ", " $11 ", " $12 : "-"
			printf "| %s | %s | %d | %d | %d | %s | %s | %d s | %s |\n", $1, $2, $3, $4, $5, rounds, pages, $6, d }' \
			"$sums/$mode.$flavor"
	done < <(matrix)
}

notes()
{
	grep -hE '^(AGAIN|as expected:)' "$sums"/*.log | sed 's/^as expected: //; s/^AGAIN \(.*\)/\1/' | sort -u | sed 's/^/- /'
}

# What is between the two marks is ours.
write_docs()
{
	{
		sed '/<!-- table -->/q' "$docs"
		echo
		printf '`make zdtm-all WRITE_DOCS=1`, Linux %s, %s cores.\n\n' "$(uname -r)" "$(nproc)"
		echo "| mode | flavor | passed | failed | skipped | later rounds, incremental | pages: first rounds, later ones, left | time | date |"
		echo "|---|---|---|---|---|---|---|---|---|"
		rows
		echo
		echo "Passed at the second try, or expected not to pass:"
		echo
		notes
		echo
		sed -n '/<!-- end of table -->/,$p' "$docs"
	} >"$docs.new" && mv "$docs.new" "$docs"
}

if ! matrix | grep -qE -- "$PART"; then
	echo "zdtm-all: no \"MODE FLAVOR\" matches PART=$PART" >&2
	exit 1
fi
mkdir -p "$sums"
while read -r mode flavor; do
	[[ "$mode $flavor" =~ $PART ]] || continue
	run_one "$mode" "$flavor"
done < <(matrix)
[ -z "${WRITE_DOCS:-}" ] || write_docs
while read -r mode flavor; do
	cat "$sums/$mode.$flavor" 2>/dev/null
done < <(matrix) | awk '{ p += $3; f += $4; s += $5 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }'
exit "$failed"
