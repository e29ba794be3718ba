#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# apart.sh COMMAND...: run it as what is alone in new pid, mount, IPC and network namespaces: with a /run of its
# own, the loopback up, and no descriptor but the standard ones. Not the command is the first process, for which the
# kernel has rules of its own, but this one.
mount -t tmpfs -o mode=755 none /run || exit 1
ip link set lo up || exit 1
for fd in "/proc/$$/fd"/*; do
	fd=${fd##*/}
	if [ "$fd" -gt 2 ] && [ "$fd" != 255 ]; then
		exec {fd}>&-
	fi
done
"$@"
exit $?
