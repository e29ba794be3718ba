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

# What has guard pages has a flag of its own on some kernels.
guard_pages() {
	start_tracked kinds 1 --group main --only guard_pages
	! "$TEST_BIN/kinds" --control "$CTL" --wants | grep ' - - ' >"$T/missing" || skip "$(cut -d ' ' -f 4- "$T/missing")"
	dump_both
	! grep 'smaps is read' "$T/iterator/dump.log" || die "smaps was read"
	cmp "$T/iterator/mm-$PID.img" "$T/smaps/mm-$PID.img" || die "the images of the mappings differ"
	quit_program
}

# FI_WRONG_VMA_ITER: the iterator leaves out a mapping. What it says is not believed from there on.
disagreement() {
	start_tracked pagekeeper 1 --mib 4
	dump_both
	rm -r "$T/iterator"
	(
		export CRIU_FAULT=161
		dump_into iterator
	) || die "the dump failed"
	grep -q 'is not what was listed, smaps is read' "$T/iterator/dump.log" || die "the fault did not happen"
	cmp "$T/iterator/mm-$PID.img" "$T/smaps/mm-$PID.img" || die "the images of the mappings differ"
	quit_program
}

# In one go the kernel lists as many mappings as fit into 32 KiB, 24 bytes each. However many there are, all are listed.
any_number() {
	local nr

	start_program /usr/bin/python3 -c '
import mmap, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
kept = []
def add():
    kept.append(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ if len(kept) % 2 else mmap.PROT_READ | mmap.PROT_WRITE))
def have():
    return sum(1 for line in open("/proc/self/maps") if "vsyscall" not in line)
while have() < 1360:
    add()
while True:
    print(have(), flush=True)
    signal.sigwait([signal.SIGUSR1])
    add()'
	for ((nr = 1360; nr <= 1370; nr++)); do
		wait_for 10 grep -qx "$nr" "$T/program.log" || die "there are no $nr mappings: $(tail -n 1 "$T/program.log")"
		dump_both
		! grep 'smaps is read' "$T/iterator/dump.log" || die "$nr: smaps was read"
		cmp "$T/iterator/mm-$PID.img" "$T/smaps/mm-$PID.img" || die "$nr: the images of the mappings differ"
		rm -r "$T/iterator" "$T/smaps"
		kill -USR1 "$PID"
	done
	kill "$PID"
}

run_test flags_of_mappings_are_the_same_as_in_smaps same_as_in_smaps
run_test flags_of_common_mappings_need_no_smaps enough_is_known
run_test flags_of_mappings_with_guard_pages_need_no_smaps guard_pages
run_test an_iterator_that_leaves_out_a_mapping_gives_way_to_smaps disagreement
run_test flags_of_any_number_of_mappings any_number
finish
