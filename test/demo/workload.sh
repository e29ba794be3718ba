# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Of both demos: the program that WORKLOAD names. Sets PROGRAM.

WORKLOAD=${WORKLOAD:-asan}
# shellcheck disable=SC2034 # for the demo
case $WORKLOAD in
asan) PROGRAM=pagekeeper-asan ;;
msan | tsan) PROGRAM=pagekeeper-clang-$WORKLOAD ;;
plain) PROGRAM=pagekeeper ;;
*)
	echo "demo: WORKLOAD=$WORKLOAD is none of asan, msan, tsan and plain" >&2
	exit 2
	;;
esac
