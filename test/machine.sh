# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Settings of the whole machine, for tests that run beside each other. Sourced by lib.sh.

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
