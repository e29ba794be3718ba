# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Settings of the whole machine, for tests that run beside each other, and its huge pages. Sourced by lib.sh.

MACHINE_LOCK=${MACHINE_LOCK:-$BUILD/test/machine.lock}

# machine_stays, machine_changes: settings of the machine are felt by tests that run beside. Who minds says so, and who
# changes one waits for these, and others for him, until the behaviour is over.
machine_stays() {
	exec {MACHINE}>>"$MACHINE_LOCK" && flock --shared "$MACHINE" || die "flock"
}

machine_changes() {
	[ -z "${MACHINE:-}" ] || return 0
	exec {MACHINE}>>"$MACHINE_LOCK" && flock "$MACHINE" || die "flock"
}

# give_back: undo what set_machine has set. Runs whatever becomes of the behaviour.
give_back() {
	local rc=$? file value

	while read -r file value; do
		echo "$value" >"$file"
	done <"$T/machine"
	# What clean_up is to go by.
	(exit "$rc")
	clean_up
}

# set_machine FILE VALUE: a setting of the machine, until the behaviour is over.
set_machine() {
	local now

	machine_changes
	now=$(cat "$1" 2>/dev/null) || skip "there is no $1"
	# Where the file lists what can be chosen, what is.
	[[ $now != *\[*\]* ]] || now=$(sed 's/.*\[\(.*\)\].*/\1/' <<<"$now")
	if [ ! -e "$T/machine" ]; then
		: >"$T/machine"
		trap give_back EXIT
	fi
	echo "$1 $now" >>"$T/machine"
	{ echo "$2" >"$1"; } 2>/dev/null || skip "$1 cannot be set"
}

# rollup PID FIELD: kB of a process, by its smaps_rollup.
rollup() {
	awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/smaps_rollup"
}

# start_with_huge_pages MIB: a program whose heap has asked for huge pages, and got most of it in such.
start_with_huge_pages() {
	machine_stays
	grep -q '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled && skip "huge pages are turned off"
	export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
	start_tracked pagekeeper 1 --mib "$1" --rate 500 --working-set 16
	unset GLIBC_TUNABLES
	wait_for 10 has_huge "$(($1 * 1024 / 2))" || skip "the kernel gave no huge pages: $(rollup "$PID" AnonHugePages) kB"
}

# has_huge KB: the program has so much in huge pages, at least.
has_huge() {
	[ "$(rollup "$PID" AnonHugePages)" -ge "$1" ]
}
