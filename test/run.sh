#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# run.sh [NAME...]: end-to-end tests, all of them or criu/NAME.sh. Each file
# prints PASS, FAIL or SKIP lines; this one exits non-zero when one of them
# did, did not end in time or printed nothing.
set -u

HERE=$(cd "$(dirname "$0")" && pwd)
TIME_SCALE=${TIME_SCALE:-$("$HERE/../scripts/time-scale.sh")}
export TIME_SCALE
FILE_TIMEOUT=${FILE_TIMEOUT:-$((900 * TIME_SCALE))}

failed=0
if [ $# = 0 ]; then
	set -- "$HERE"/criu/*.sh
fi
for name; do
	name=$(basename "$name" .sh)
	file=$HERE/criu/$name.sh
	if [ ! -f "$file" ]; then
		echo "FAIL $name: there is no $file"
		failed=1
		continue
	fi
	start=$SECONDS
	timeout -k 20 "$FILE_TIMEOUT" bash "$file"
	rc=$?
	if [ "$rc" = 124 ]; then
		echo "FAIL $name: not done after $FILE_TIMEOUT s"
	elif [ "$rc" = 125 ]; then
		echo "FAIL $name: it left processes behind"
	elif [ "$rc" != 0 ] && [ "$rc" != 1 ]; then
		echo "FAIL $name: ended with status $rc"
	fi
	[ "$rc" = 0 ] || failed=1
	echo "$name: $((SECONDS - start)) s" >&2
done
exit "$failed"
