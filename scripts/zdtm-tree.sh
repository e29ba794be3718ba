#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# zdtm-tree.sh TREE [REGEXP]: a copy of the patched tree with what zdtm needs, and its
# tests whose names match ("static/env00"). The tests of our own are all built, in
# TREE/test/zdtm/wptrack. Does nothing when it is all there and up to date.
set -u
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$here/build}
CC=${CC:-gcc}
tree=$1
wanted=${2:-}
log=$tree.log
own=$tree/test/zdtm/wptrack
# All of our tests do their steps behind pre-dumps.
NOTIFY="'flags': 'pre-dump-notify'"

die()
{
	printf 'zdtm: %s\n' "$*" >&2
	exit 1
}

# is_newer FILE THAN...: than all of them.
is_newer()
{
	local file=$1 other

	shift
	for other; do
		[ "$file" -nt "$other" ] || return 1
	done
}

make_tree()
{
	is_newer "$tree/.complete" "$BUILD/criu/criu/criu" "${BASH_SOURCE[0]}" && return
	echo "  ZDTM     building zdtm in $tree (log in $log)"
	rm -rf "$tree"
	mkdir -p "${tree%/*}"
	cp -a "$BUILD/criu" "$tree" || die "cannot copy the tree"
	(
		# The tree asks git for its version.
		export GIT_DIR=$BUILD/no-git
		make -C "$tree" -j"$(nproc)" criu lib && make -C "$tree/test/zdtm" -j"$(nproc)" lib
	) >"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		die "zdtm cannot be built"
	}
	# It runs itself again by this name, so the one that is wanted is put there.
	cp "$tree/test/zdtm.py" "$tree/test/zdtm.py.user"
	sed "s/if not test_flag(self.__desc, 'suid'):/if False:/" "$tree/test/zdtm.py.user" >"$tree/test/zdtm.py.root"
	! cmp -s "$tree/test/zdtm.py.user" "$tree/test/zdtm.py.root" || die "zdtm.py is not the one that is known"
	chmod 0777 "$tree/test" "$tree/test/zdtm/static" "$tree/test/zdtm/transition"
	touch "$tree/.complete"
}

# tests_of KIND: those of static or transition that are wanted, as zdtm's makefile has them.
tests_of()
{
	local name

	for name in $(make -s -C "$tree/test/zdtm/$1" --eval 'wanted-tests:;@echo $(TST)' wanted-tests 2>/dev/null); do
		[[ ! $1/$name =~ $wanted ]] || echo "$name"
	done
}

# zdtm runs all tests it finds built.
make_tests()
{
	local kind names

	[ "$wanted" != '^$' ] || return 0
	! grep -qxF -e "$wanted" -e "" "$tree/.tests" 2>/dev/null || return 0
	echo "  ZDTM     building its tests"
	for kind in static transition; do
		mapfile -t names < <(tests_of "$kind")
		[ ${#names[@]} != 0 ] || continue
		GIT_DIR=$BUILD/no-git make -C "$tree/test/zdtm/$kind" -j"$(nproc)" "${names[@]}" >>"$log" 2>&1 </dev/null || {
			tail -n 20 "$log" >&2
			die "tests of $kind cannot be built"
		}
	done
	echo "$wanted" >>"$tree/.tests"
}

# --- tests of our own ----------------------------------------------------------------------

# The table, and the cases of kinds that take part in nothing special.
own_tests()
{
	grep -v '^#' "$here/test/zdtm/tests"
	"$BUILD/test/kinds" --list | while read -r name group others; do
		[ "$others" = alone ] || continue
		[[ $group = main || $group = heap || $group = ksm ]] || continue
		grep -q "^$name[[:space:]]" "$here/test/zdtm/tests" || echo "$name kinds 1 140 - --only $name"
	done
}

# compile PROGRAM BUILD: the program below zdtm's main().
compile()
{
	local flags=(-std=gnu11 -D_GNU_SOURCE -O1 -g -Wall -iquote "$here/test/programs" -iquote "$tree/test/zdtm/lib") cc=$CC
	local name=$own/.$1-$2

	[ -z "$2" ] || { flags+=("-fsanitize=$2"); cc=clang; }
	"$cc" "${flags[@]}" -Dmain=program_main -c -o "$name.o" "$here/test/programs/$1.c" &&
		"$cc" "${flags[@]}" -o "$name" "$here/test/zdtm/driver.c" "$name.o" "$tree/test/zdtm/lib/libzdtmtst.a" -pthread
}

# describe NAME DESC: what zdtm has to know of it; "_" stands for a space.
describe()
{
	case $2 in
	-) echo "{$NOTIFY}" ;;
	"'flags':'"*) echo "{'flags': 'pre-dump-notify ${2#"'flags':'"}}" ;;
	*) echo "{$NOTIFY, ${2//_/ }}" ;;
	esac >"$own/$1.desc"
}

install_test()
{
	local name=$1 program=${2%/*} build="" processes=$3 desc=$5 file

	[ "$program" = "$2" ] || build=${2#*/}
	shift 5
	if [ ! -e "$own/.$program-$build" ]; then
		compile "$program" "$build" >>"$log" 2>&1 || die "$program cannot be built, see $log"
	fi
	cp "$own/.$program-$build" "$own/$name" || die "cannot install $name"
	describe "$name" "$desc"
	printf 'PROCESSES-%s := %s\nRUN-%s := %s\n' "$name" "$processes" "$name" "$*" >>"$own/tests.mk"
	for file in "$here/test/zdtm/$name".*; do
		[ ! -x "$file" ] || install -m 755 "$file" "$own"
	done
}

install_tests()
{
	local line

	is_newer "$own/.complete" "$tree/.complete" "$here"/test/zdtm/* "$here"/test/programs/*.[ch] && return
	echo "  ZDTM     building our own tests"
	rm -rf "$own"
	mkdir "$own" || die "cannot make $own"
	chmod 0777 "$own"
	cp "$here/test/zdtm/Makefile" "$own"
	own_tests >"$own/.tests"
	while read -r -a line; do
		install_test "${line[@]}"
	done <"$own/.tests"
	# zdtm takes all that can be executed for tests.
	find "$own" -name '.*-*' -type f -delete
	touch "$own/.complete"
}

make_tree
make_tests
install_tests
