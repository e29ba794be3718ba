#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Flags of mappings come from a BPF iterator where there is one. They have to be what smaps tells.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# In fault-injection.h: FI_DONT_USE_VMA_ITER
FROM_SMAPS=160

# dump_into DIRECTORY: a dump that leaves the program as it is.
dump_into() {
	mkdir "$T/$1" || die "mkdir"
	criu_cmd dump.log dump -t "$PID" -D "$T/$1" --track-mem --leave-running ||
		die "dump $1: $(log_errors "$T/$1/dump.log")"
}

dump_both() {
	dump_into iterator
	grep -q 'vma-flags: .* have been learned' "$T/iterator/dump.log" || skip "no BPF iterator for mappings here"
	(
		export CRIU_FAULT=$FROM_SMAPS
		dump_into smaps
	) || die "the dump with smaps failed"
	! grep -q 'have been learned' "$T/smaps/dump.log" || die "the fault did not happen"
}

same_as_in_smaps() {
	start_tracked kinds 1 --group main
	ctl step || die "a step failed: $(tail -n 3 "$T/program.log")"
	dump_both
	cmp "$T/iterator/mm-$PID.img" "$T/smaps/mm-$PID.img" || die "the images of the mappings differ"
	quit_program
}

# A walk over all pages is not needed for common programs: all their flags are known.
enough_is_known() {
	start_tracked pagekeeper 1 --mib 4
	dump_both
	! grep 'smaps is read' "$T/iterator/dump.log" || die "smaps was read"
	cmp "$T/iterator/mm-$PID.img" "$T/smaps/mm-$PID.img" || die "the images of the mappings differ"
	quit_program
}

run_test flags_of_mappings_are_the_same_as_in_smaps same_as_in_smaps
run_test flags_of_common_mappings_need_no_smaps enough_is_known
finish
