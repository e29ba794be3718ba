# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What scripts/zdtm.sh runs, as CRIU's own jobs do (scripts/ci, test/jenkins).

MODES="plain pre pre-read pre-live pre-mixed pre-restore restored snaps page-server snaps-page-server dedup jobs again lazy lazy-pre iters freezer fault"

# Exclusions of CRIU's jobs for lazy pages.
LAZY_EXCLUDE="-x maps04 -x cmdlinenv00 -x maps007"

# runs_of_mode MODE: a line for each run of zdtm.py, "FLAVORS OPTION...". FLAVORS are those it is for, "*" all.
# With -a all tests are run, or those wanted; others are of single tests.
runs_of_mode()
{
	local test

	case $1 in
	plain) echo "* -a" ;;
	pre) echo "* -a --pre 3 -x maps04" ;;
	pre-read) echo "* -a --pre 3 --pre-dump-mode read -x maps04" ;;
	pre-live) echo "* -a --pre 3 --pre-dump-mode live -x maps04" ;;
	# scripts/zdtm-criu.sh takes another mode for each round; in pre-restore it also reads them before the restore
	pre-mixed | pre-restore) echo "* -a --pre 3 -x maps04" ;;
	# scripts/zdtm-criu.sh has tasks tracked from each restore on, and goes on from the images that they were restored from
	restored) echo "* -a --pre 1 --iters 3 -x maps04 -x bind-mount" ;;
	snaps) echo "* -a --pre 3 --snaps -x maps04" ;;
	page-server) echo "* -a --pre 3 --page-server -x maps04" ;;
	snaps-page-server) echo "* -a --pre 3 --snaps --page-server -x maps04" ;;
	dedup)
		echo "* -a --pre 2 --dedup -x maps04 -x maps007"
		for test in transition/maps007 static/mem-touch transition/maps008; do
			echo "* -t zdtm/$test --pre 8:.1 --dedup"
			echo "* -t zdtm/$test --pre 8:.1 --noauto-dedup"
		done
		;;
	jobs)
		for test in transition/maps007 static/mem-touch transition/maps008; do
			echo "* -t zdtm/$test --pre 8:.1"
		done
		for test in --dedup --noauto-dedup --page-server "--page-server --dedup" "--pre-dump-mode read"; do
			echo "* -t zdtm/transition/maps007 --pre 2 $test"
		done
		echo "* -t zdtm/transition/pid_reuse --pre 2"
		echo "* -t zdtm/transition/pidfd_store_sk --rpc --pre 2"
		echo "* -t zdtm/static/env00 --rpc"
		echo "* -t zdtm/static/env00 --rpc --pre 2"
		echo "* -t zdtm/static/env00 --rpc --pre 2 --page-server"
		echo "* -t zdtm/static/maps04 --pre 2:1"
		# With CRIU_TRACK_SHMEM: a criu that does not track shared memory must not be talked into it.
		for test in transition/shmem static/shm static/shm-mp static/shm-unaligned static/memfd00 static/memfd01 static/memfd03; do
			echo "* -t zdtm/$test --pre 3"
		done
		;;
	again) echo "* -a --pre 2 --iters 2 -x maps04 -x bind-mount" ;;
	lazy) echo "* -a --lazy-pages $LAZY_EXCLUDE" ;;
	lazy-pre) echo "* -a --lazy-pages --pre 2 $LAZY_EXCLUDE -x maps02" ;;
	iters) echo "* -a --iters 3 -x maps04" ;;
	freezer)
		for test in f t; do
			echo "h -t zdtm/transition/thread-bomb --freezecg zdtm:$test"
			echo "h -t zdtm/transition/thread-bomb --freezecg zdtm:$test --pre 3"
			echo "h -t zdtm/transition/thread-bomb --freezecg zdtm:$test --norst"
			echo "h -t zdtm/transition/maps007 --freezecg zdtm:$test --pre 3"
		done
		;;
	fault)
		echo "h -t zdtm/static/env00 --fault 1"
		echo "h -t zdtm/static/unlink_fstat00 --fault 2"
		echo "h -t zdtm/static/maps00 --fault 3"
		echo "uns -t zdtm/static/inotify_irmap --fault 128 --pre 2"
		echo "uns -t zdtm/static/env00 --fault 129"
		echo "h -t zdtm/transition/fork --fault 130"
		echo "* -t zdtm/static/vdso01 --fault 127"
		echo "* -t zdtm/static/vdso-proxy --fault 127 --iters 3"
		echo "h -t zdtm/static/vdso01 --fault 133"
		echo "* -t zdtm/static/mntns_ghost --fault 2"
		echo "* -t zdtm/static/mntns_ghost --fault 4"
		echo "* -t zdtm/static/mntns_ghost --fault 6"
		echo "* -t zdtm/static/mntns_link_remap --fault 6"
		echo "* -t zdtm/static/unlink_fstat03 --fault 6"
		echo "* -t zdtm/static/env00 --fault 5"
		echo "* -t zdtm/static/maps04 --fault 131 --pre 2:1"
		echo "* -t zdtm/transition/maps008 --fault 131 --pre 2:1"
		echo "h -t zdtm/static/maps01 --fault 132"
		echo "h -t zdtm/static/fpu03 --fault 134 --norst"
		echo "h -t zdtm/static/fpu00 --fault 134 --norst"
		echo "h -t zdtm/static/env00 --freezecg zdtm:t --fault 137"
		;;
	*) return 1 ;;
	esac
}
