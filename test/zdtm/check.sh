#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What `make check` runs of zdtm; docs/testing.md says why these.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=../lib.sh
. "$here/test/lib.sh"
export ZDTM_LINES=1
failed=0
lacks=$(kernel_lacks)
if [ -n "$lacks" ]; then
	echo "SKIP zdtm: $lacks"
	exit 0
fi

zdtm()
{
	env "$@" "$here/scripts/zdtm.sh" || failed=1
}

memory='maps|mem-touch|mprotect|mlock|mremap|madvise|wipeonfork|thp|shm|memfd|vdso|sigaltstack|pthread|thread|fork|exec|cow|pid_reuse|uffd|aio|ghost_holes|env00|file_fown|ptrace|seccomp|zombie'

zdtm MODE=pre SET=own FLAVORS=h
zdtm MODE=pre SET=stock FLAVORS="h uns" TESTS="$memory"
zdtm MODE=pre-restore SET=stock FLAVORS=h TESTS="$memory"
zdtm MODE=jobs SET=stock FLAVORS=h
exit "$failed"
