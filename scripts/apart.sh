#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# apart.sh COMMAND...: run it as what is alone in new pid, mount, IPC and network namespaces: with a /run of its
# own, the loopback up, and no descriptor but the standard ones. APART_TMP is a directory to be its /tmp: programs have
# their pid in the names of files there, and it is no other's only in here. Not the command is the first process, for
# which the kernel has rules of its own, but this one.
mount -t tmpfs -o mode=755 none /run || exit 1
ip link set lo up || exit 1
# Not over what is run.
if [ -n "${APART_TMP:-}" ] && [[ $PWD/:$(realpath "$0"):${BUILD:-} != */tmp/* ]]; then
	mount --bind "$APART_TMP" /tmp || exit 1
fi
unset APART_TMP
for fd in "/proc/$$/fd"/*; do
	fd=${fd##*/}
	if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then
		exec {fd}>&-
	fi
done
"$@"
exit $?
