#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Stands in for criu when zdtm.py runs it (scripts/zdtm.sh): the plugin of the
# build, a keeper for each of zdtm's runners, verification of what is left to
# parent images, and a line in $ZDTM_ROUNDS for each dump (scripts/zdtm-judge.sh).
#
# zdtm.py gives its own value to CRIU_LIBS_DIR, and each of its runners has a pid
# namespace of its own, in which pids mean something else to a keeper.
here=${BASH_SOURCE[0]%/*}
# shellcheck source=/dev/null
. "$here/zdtm-criu.env"

export CRIU_LIBS_DIR=$ZDTM_PLUGINS
[ "$ZDTM_MODE" != jobs ] || export CRIU_TRACK_SHMEM=1
ns=$(readlink /proc/self/ns/pid)
export WPTRACK_RUN_DIR=$ZDTM_RUN_DIRS/${ns//[^0-9]/}
mkdir -p "$ZDTM_RUN_DIRS" && chmod 711 "$ZDTM_RUN_DIRS"

# mixed IMAGES: another mode for each round of a chain, and another order for each test.
mixed()
{
	local modes=(splice read live)

	echo "${modes[(${#1} + ${1##*/}) % 3]}"
}

kind=$1 dir=. server=no
args=("$@")
for ((i = 0; i < ${#args[@]}; i++)); do
	case ${args[i]} in
	-D | --images-dir) dir=${args[i + 1]} ;;
	--page-server) server=yes ;;
	--pre-dump-mode) [[ $ZDTM_MODE != pre-mixed && $ZDTM_MODE != pre-restore ]] || args[i + 1]=$(mixed "$PWD/$dir") ;;
	esac
done
set -- "${args[@]}"
# Tracked from the restore on: the first round after it goes on from these images. All rounds but the first one have a parent.
if [[ $ZDTM_MODE = restored ]]; then
	ZDTM_PRE=99
	if [ "$kind" = restore ]; then
		set -- "$@" --track-mem
	elif [[ $kind == @(pre-dump|dump) && " $* " != *" --prev-images-dir "* && ${dir##*/} -gt 1 ]]; then
		set -- "$@" --track-mem --prev-images-dir "../$((${dir##*/} - 1))"
	fi
fi
# Memory of the pre-dumps first, and what became of it: how many mappings were in memory.
if [[ $kind = restore && $ZDTM_MODE = pre-restore ]]; then
	names=()
	for ((i = 1; i < ${dir##*/}; i++)); do
		names+=("$PWD/${dir%/*}/$i")
	done
	CRIU_VERIFY_PRE_RESTORE=1 "$ZDTM_CRIU" "$@" --pre-restore < <(printf '%s\n' "${names[@]}") >/dev/null
	rc=$?
	held=$(grep -oE '[0-9]+ mappings are in memory' "$dir/restore.log" | awk '{ sum += $1 } END { print sum + 0 }')
	echo "$dir $held" >>"$ZDTM_HELD"
	exit "$rc"
fi
if [[ $kind != dump && $kind != pre-dump ]] || [ "$server" = yes ]; then
	[ "$kind" != page-server ] || exec "$ZDTM_CRIU" "$@"
	[[ $kind == dump || $kind == pre-dump ]] || exec "$ZDTM_CRIU" "$@"
else
	export CRIU_VERIFY_PARENT=1
fi

"$ZDTM_CRIU" "$@"
rc=$?
[ "$rc" = 0 ] || exit "$rc"

name=$(pwd)/$dir
# dump/zdtm/KIND/TEST/PID/NR
[[ $name =~ dump/zdtm/([a-z]+/[^/]+)/[^/]+/([0-9]+) ]] || exit 0
name=${BASH_REMATCH[1]} nr=${BASH_REMATCH[2]}
log=$(cat "$dir/$kind.log" 2>/dev/null)
written=$("$ZDTM_STATS" "$dir/stats-dump" pages_written 2>/dev/null)
skipped=$("$ZDTM_STATS" "$dir/stats-dump" pages_skipped_parent 2>/dev/null)
wrong=$(grep -c 'is not what the parent images have' <<<"$log")
bases=$(grep -oE 'wptrack: [0-9]+: generation [0-9]+ \([^)]*\)' <<<"$log" | grep -oE '\(.*\)' | sort -u | tr -d '()' | tr ' \n' '_,')
echo "$name $kind $nr ${written:-0} ${skipped:-0} ${bases:-untracked} $wrong $ZDTM_PRE" >>"$ZDTM_ROUNDS"
exit 0
