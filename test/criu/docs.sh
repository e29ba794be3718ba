#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Every command that README.md, CONTRIBUTING.md, docs/ and the manual pages show is run as it stands there, or is listed
# here with the reason why not. PID, DIR and the like are filled in; /tmp/ck and /ck are directories of the test's.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../hosts.sh
. "$(dirname "$0")/../hosts.sh"
exec_under_reaper "$@"

TOP=$(cd "$TEST_DIR/.." && pwd)
cd "$TOP" || exit 2
COMMANDS=$TEST_DIR/criu/docs-commands.py
DOCS=(README.md CONTRIBUTING.md criu-patches/README.md docs/*.md docs/*.[18])

# Blocks, by their first lines, that the behaviours below run.
RUN_BLOCKS=(
	"README.md	mkdir -p /tmp/ck/1 /tmp/ck/2 /tmp/ck/3"
	"README.md	build/bin/wptrack migrate --criu build/bin/criu --downtime 50 PID /tmp/ck -- -L build/plugins"
	"docs/migrate.md	wptrack migrate --downtime 50 1234 /tmp/ck -- --tcp-established"
	"docs/migrate.md	wptrack migrate --address dst --port 7000 --page-server-cmd 'ssh dst \""
	"docs/pre-restore.md	mkdir -p /tmp/ck/1 /tmp/ck/2 /tmp/ck/3"
	"docs/wptrack.1	criu pre-dump -t 1234 -D /tmp/ck/3 --prev-images-dir ../2"
	"docs/migrate.md	wptrack migrate 1234 --to dst:/tmp/moved -- --tcp-established"
	"docs/migrate.md	wptrack migrate 1234 --to dst:/tmp/moved --move-address 10.0.0.7/24@eth0 -- --tcp-established"
	"docs/live.md	mkdir -p /tmp/ck/4 /tmp/ck/5"
)

# not_run COMMAND: why it is not run, nor what can be run instead of it. Nothing for all others.
not_run() {
	case $1 in
	git\ *) echo "it works on a CRIU tree of somebody's, or on this one" ;;
	"gdb -p PID"*) echo "removes what only two kills at the worst moment leave behind (interrupted.sh)" ;;
	"wptrack:"* | "wptrack verify:" | "wptrack migrate:"* | *", run it by hand to see why") echo "a message, no command" ;;
	"ssh HOST "*) echo "a login that is the user's" ;;
	"kill -CONT") echo "to be filled in with the keeper's pid (keeper.sh)" ;;
	"test/fuzz/run.sh --merge DIR") echo "changes the corpus" ;;
	test/criu/*.sh | test/kernels/*.sh\ *) echo "a test of its own" ;;
	"ROUND  "*) echo "what migrate prints" ;;
	"wptrack receive --ask" | "wptrack receive --abort "* | "wptrack migrate --to") echo "is not for people: migrate-to.sh" ;;
	"criu swrk") echo "is not for people: rpc.sh" ;;
	"runc "*) echo "containers.sh runs it" ;;
	"podman "* | "lxc-checkpoint "*) echo "these are not installed for the tests" ;;
	esac
}

# fill_in: from stdin, with what stands for something else.
fill_in() {
	sed -e "s#/tmp/moved#$T/moved#g" -e "s#/tmp/ck#$T/ck#g; s#\([ '\"/:]\)/ck\b#\1$T/ck#g; s#/ck/\([0-9\$]\)#/ck/\1#g" -e "s/\b1234\b/$PID/g; s/\bPID\b/$PID/g" \
		-e "s#\bDIR\b#${DIR:-DIR}#g; s#\(${DIR:-DIR}\)/N\b#\1#g" -e 's/ dst / dst /' -e "s/--address dst/--address 127.0.0.1/" \
		-e "s/--port 7000/--port ${PORT:-7000}/" -e 's/--nofile=NUMBER:/--nofile=1024:/; s/=seconds/=60/; s/=number/=1/; s/=regexp/=./' \
		-e 's/MODE=\.\.\./MODE=pre/; s/FLAVORS=\.\.\./FLAVORS=h/; s# \.\.\.$##; s#NAME\.\.\.#check#' -e "s#CRIU_SRC=dir#CRIU_SRC=$BUILD/criu-stock#"
}

# a_place: a directory from which the build is ./build, and programs that are found as if they were installed.
a_place() {
	mkdir "$T/top" "$T/bin" && ln -s "$BUILD" "$T/top/build" && ln -s "$CRIU" "$WPTRACK" "$T/bin" || die "cannot make a place"
	cd "$T/top" || die "cd"
	PATH=$T/bin:$PATH
}

# run_block FILE FIRST_LINE: all of it, as it stands; its output in $T/block.out
run_block() {
	"$COMMANDS" block "$TOP/$1" "$2" | fill_in >"$T/block"
	# How many rounds a migration makes is not known before: the last directory is that of the dump.
	[ "$1" != docs/migrate.md ] ||
		sed -i "s#/ck/3\\b#/ck/\$(ls $T/ck | grep -x '[0-9]*' | sort -n | tail -n 1)#g" "$T/block"
	[ -s "$T/block" ] || die "$1 has no block that begins with $2"
	timeout -k 5 "$CRIU_TIMEOUT" bash -eu "$T/block" </dev/null >"$T/block.out" 2>&1 ||
		die "$1: status $?: $(tail -n 3 "$T/block.out" | tr '\n' ' ')"
}

runs_on() {
	ctl ready 1 || die "restored, but the program does not run"
	verify_program "after the restore"
	quit_program
}

five_minutes() {
	a_place
	start_tracked pagekeeper 1 --mib 8
	run_block README.md "mkdir -p /tmp/ck/1 /tmp/ck/2 /tmp/ck/3"
	runs_on
	[ "$(stat_of "$T/ck/3" pages_skipped_parent)" -gt 0 ] || die "the dump is no increment"
	same_shape "COMM .*REGISTERED" "$T/block.out"
}

# shape: from stdin, without numbers, units, names and paths: what is the same in each session.
shape() {
	sed -E -e 's#/[^ ]*/ck/#/tmp/ck/#g; s/\b(redis-server|pagekeeper)\b/NAME/g; s/\b[0-9a-f]{8}\b/N/g' \
		-e 's/[0-9]+(\.[0-9]+)?( ?[KMG]i?B?\b|x[0-9a-f]+)?/N/g; s/[ \t]+/ /g; s/ - / N /; s/ -$/ N/; s/^ //'
}

# same_shape REGEXP FILE: README.md shows output that has that in its first line, and FILE has the same but for numbers.
same_shape() {
	awk -v first="$1" '/^```/ { shown = 0; at = NR + 1 } NR == at && $0 ~ first { shown = 1 } shown' "$TOP/README.md" >"$T/shown"
	[ -s "$T/shown" ] || die "README.md does not show that"
	# Warnings of criu's about the machine are no part of it.
	diff <(shape <"$T/shown") <(grep -v '^Warn ' "$2" | shape) >"$T/diff" ||
		die "README.md shows something else: $(head -n 4 "$T/diff" | tr '\n' '|')"
}

demo() {
	WPTRACK_REAPED="" "$TEST_DIR/demo/demo.sh" </dev/null >"$T/demo.out" 2>&1 ||
		die "the demo fails: $(tail -n 1 "$T/demo.out")"
	WPTRACK_REAPED="" "$TEST_DIR/demo/move.sh" </dev/null >"$T/demo.out" 2>&1 ||
		die "the demo of a move fails: $(tail -n 1 "$T/demo.out")"
	same_shape "^demo:" "$T/demo.out"
}

# The pictures are the scripts'. They need nothing but python.
picture() {
	local drawn

	"$TOP/scripts/draw-migration.py" >"$T/migration.svg" || die "it can't be drawn"
	cmp -s "$T/migration.svg" "$TOP/docs/migration.svg" || die "docs/migration.svg is not what scripts/draw-migration.py draws"
	"$TOP/scripts/draw-away.py" "$TOP/docs/performance.md" >"$T/away.svg" || die "it can't be drawn"
	cmp -s "$T/away.svg" "$TOP/docs/away.svg" || die "docs/away.svg is not what scripts/draw-away.py draws of docs/performance.md"
	grep -q '^!\[.*\](away.svg)$' "$TOP/docs/performance.md" || die "docs/performance.md does not show it"
	for drawn in migration away; do
		python3 -c 'import sys, xml.dom.minidom as dom; dom.parse(sys.argv[1])' "$T/$drawn.svg" || die "$drawn.svg is no XML"
	done
	grep -q '^!\[.*\](docs/migration.svg)$' "$TOP/README.md" || die "README.md does not show it"
}

short_readme() {
	local long file files=()

	[ "$(wc -l <"$TOP/README.md")" -le 110 ] || die "README.md has $(wc -l <"$TOP/README.md") lines, more than 110"
	for file in README CONTRIBUTING criu-patches/README docs/{limits,live,containers,design,decisions,kernel,testing,troubleshooting}; do
		files+=("$TOP/$file.md")
	done
	long=$("$COMMANDS" sentences 24 "${files[@]}") || die "sentences"
	[ -z "$long" ] || die "a sentence of 25 words or more: $(head -n 1 <<<"$long")"
}

# What the documents send a reader to is there.
paths_are_there() {
	local file path found=0

	while IFS=: read -r -u 9 file path; do
		found=$((found + 1))
		[ -e "$TOP/$path" ] || die "$file names $path, which is not there"
	done 9< <(cd "$TOP" && grep -oHE '\b(docs|test|scripts|plugin|keeper|lib|wptrack|images|criu-patches)/[a-z0-9_/-]+\.(md|sh|py|c|h|[18]|proto|svg)\b' "${DOCS[@]}")
	[ "$found" -gt 0 ] || die "no paths were found"
}

one_command() {
	a_place
	start_tracked pagekeeper 1 --mib 8
	run_block README.md "${RUN_BLOCKS[1]#*	}"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$(find "$T/ck" -name core-\* -printf '%h\n' | head -n 1)"
	quit_program
}

migrate_and_restore() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	start_tracked pagekeeper 1 --mib 8
	ctl pause || die "the program does not pause"
	run_block docs/migrate.md "${RUN_BLOCKS[2]#*	}"
	ctl resume || die "the restored program does not resume"
	runs_on
}

# The other host is this one, with another directory in the place of /ck.
migrate_to_a_server() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	mkdir "$T/ck" "$T/dst" || die "mkdir"
	cat >"$T/bin/ssh" <<-EOF
		#!/bin/bash
		shift
		exec unshare -m bash -c 'mount --bind $T/dst $T/ck && eval "\$1"' ssh "\$*"
	EOF
	cat >"$T/bin/rsync" <<-EOF
		#!/bin/bash
		mkdir -p "$T/dst/\${4##*/ck/}" && cp -rn "\$3." "$T/dst/\${4##*/ck/}"
	EOF
	chmod 755 "$T/bin/ssh" "$T/bin/rsync"
	PORT=$((20000 + RANDOM))
	start_tracked pagekeeper 1 --mib 8
	ctl pause || die "the program does not pause"
	run_block docs/migrate.md "${RUN_BLOCKS[3]#*	}"
	ctl resume || die "the restored program does not resume"
	runs_on
}

# to_another_host NUMBER: of the block. The other host is namespaces, which ssh enters.
to_another_host() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	start_host
	ln -s "$T/rsh" "$T/bin/ssh"
	on_host ip link add name eth0 type veth peer name peer && on_host ip link set eth0 up && on_host ip link set peer up ||
		die "no device there"
	start_tracked pagekeeper 1 --mib 8
	run_block docs/migrate.md "${RUN_BLOCKS[$1]#*	}"
	grep -q "^moved to dst:$T/moved: away for " "$T/block.out" || die "it says: $(tail -n 2 "$T/block.out")"
	wait_for 10 session_is_gone "$PID" || die "it is still here"
	verify_program "on the other host"
	ctl quit || die "control file"
}

to_a_host() {
	to_another_host 6
}

# In network namespaces of their own, both have such a device.
with_an_address() {
	ip link add name eth0 type veth peer name peer && ip link set eth0 up && ip link set peer up &&
		ip address add 10.0.0.7/24 dev eth0 || die "no device"
	to_another_host 7
	ip address show dev eth0 | grep -q 10.0.0.7 && die "the address is still here"
	return 0
}

memory_before_the_dump() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	start_tracked pagekeeper 1 --mib 8
	run_block docs/pre-restore.md "${RUN_BLOCKS[4]#*	}"
	[ "$(grep -c ': in memory$' "$T/ck/answers")" = 2 ] || die "the answers are: $(cat "$T/ck/answers")"
	runs_on
}

after_a_restore() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	mkdir -p "$T/ck/3" || die "mkdir"
	start_tracked pagekeeper 1 --mib 8
	criu dump -t "$PID" -D "$T/ck/3" --track-mem || die "dump"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	run_block docs/live.md "${RUN_BLOCKS[8]#*	}"
	[ "$(stat_of "$T/ck/4" pages_skipped_parent)" -gt 0 ] || die "the round after the restore is no increment"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$T/ck/5"
	quit_program
}

manual_page() {
	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	mkdir -p "$T/ck/1" "$T/ck/2" "$T/ck/3" || die "mkdir"
	start_tracked pagekeeper 1 --mib 8
	criu pre-dump -t "$PID" -D "$T/ck/1" && criu pre-dump -t "$PID" -D "$T/ck/2" --prev-images-dir ../1 || die "pre-dump"
	# A migration wants a directory of its own.
	"$COMMANDS" block "$TOP/docs/wptrack.1" "${RUN_BLOCKS[5]#*	}" | grep -q '^wptrack migrate .* /tmp/ck ' || die "no migration"
	fill_in() { sed "s/1234/$PID/g; /migrate/s#/tmp/ck#$T/m#; s#/tmp/ck#$T/ck#g"; }
	run_block docs/wptrack.1 "${RUN_BLOCKS[5]#*	}"
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$(find "$T/m" -name core-\* -printf '%h\n' | head -n 1)"
	quit_program
}

# ---------------------------------------------------------------- commands in the text

# criu_knows COMMAND: the command, and each of its options.
criu_knows() {
	local word words

	read -ra words <<<"$(sed 's/^[A-Z_]*=[^ ]* //' <<<"$1")"
	for word in "${words[@]:1}"; do
		case $word in
		-L | --*) grep -qE -- "(^|[ |])${word%%=*}([ |,=\[]|$)" "$T/criu.help" || die "criu has no option $word: $1" ;;
		[a-z]*) grep -qE -- "(criu|\||^ ) *$word|$word" "$T/criu.help" || die "criu has no command or value $word: $1" ;;
		esac
	done
}

# make_knows COMMAND: make -n does it.
make_knows() {
	# In words as a shell makes them of it
	eval "env -u MAKEFLAGS -u MAKELEVEL make -n -C \"\$TOP\" BUILD=\"\$BUILD\" ${1#make}" >"$T/out" 2>&1 </dev/null ||
		die "$1: $(tail -n 2 "$T/out" | tr '\n' ' ')"
}

# tracked_again: commands release it.
tracked_again() {
	wptrack status --json | grep -q "\"pid\": $PID," && return
	DIR=$T/$((ROUND += 1))
	mkdir "$DIR" && criu pre-dump -t "$PID" -D "$DIR" >/dev/null 2>&1 || die "pre-dump"
}

# wptrack_does COMMAND: with what it works on; a name alone is a question for how it is used.
wptrack_does() {
	local rc command limit=$CRIU_TIMEOUT

	# It ends with the process only.
	[ "$1" != "wptrack dirty-rate PID" ] || limit=2
	tracked_again
	# It says so itself, and the documents before it.
	if [ "$1" = "wptrack verify PID DIR" ]; then
		kill -STOP "$PID"
		wait_for 5 grep -q '^State:.T' "/proc/$PID/status" || die "it does not stop"
	fi
	if [ "$1" = "wptrack migrate PID DIR" ]; then
		DIR=$T/m
	fi
	command=$(fill_in <<<"$1")
	timeout -s INT -k 5 "$limit" bash -c "$command" </dev/null >"$T/out" 2>&1
	rc=$?
	case "$rc $1" in
	"0 "*) ;;
	*" wptrack" | "2 wptrack "[a-z-]*) [[ $1 != *\ *\ * ]] && ! grep -q "unknown command" "$T/out" ;;
	"124 wptrack dirty-rate PID") grep -q . "$T/out" ;;
	*) false ;;
	esac || die "$command: status $rc: $(tail -n 2 "$T/out" | tr '\n' ' ')"
	kill -CONT "$PID" 2>/dev/null
	[ "$DIR" != "$T/m" ] && return
	wait_for 10 session_is_gone "$PID" || die "the dumped program is still there"
	restore_and_verify "$(find "$T/m" -name core-\* -printf '%h\n' | head -n 1)"
	rm -r "$T/m"
}

# do_command COMMAND: fails for one that is of no known kind.
do_command() {
	[ -z "$(not_run "$1")" ] || return 0
	case $1 in
	make | make\ *) make_knows "$(fill_in <<<"$1")" ;;
	"build/bin/criu check "*) (cd "$T/top" && bash -c "$1") >"$T/out" 2>&1 || die "$1: $(tail -n 2 "$T/out" | tr '\n' ' ')" ;;
	criu | *criu\ [a-z]*) criu_knows "$1" ;;
	wptrack | *"wptrack "*) wptrack_does "$1" ;;
	wptrack-keeper) [ -x "$PLUGINS/wptrack-keeper" ] || die "there is no wptrack-keeper" ;;
	"prlimit --pid PID"*) bash -c "$(fill_in <<<"$1")" || die "$1: status $?" ;;
	"test/run.sh NAME...") [ -x "$TOP/test/run.sh" ] || die "there is no test/run.sh" ;;
	"build/test/criu-pagemap DIR PID START END") (cd "$T/top" && bash -c "$(fill_in <<<"$1" | sed 's/START END/0 100000/')") >/dev/null || die "$1" ;;
	*) return 1 ;;
	esac
}

in_the_text() {
	local file command

	a_place
	export CRIU_LIBS_DIR=$PLUGINS
	criu --help >"$T/criu.help" 2>&1
	start_tracked pagekeeper 1 --mib 8
	while IFS=$'\t' read -r -u 9 file command; do
		do_command "$command" || die "$file shows a command that is neither run nor listed here: $command"
	done 9< <(cd "$TOP" && "$COMMANDS" inline "${DOCS[@]}")
	[ -n "$command$file" ] || [ -s "$T/out" ] || die "no commands were found"
	quit_program
}

blocks_are_known() {
	local file line found=0

	while IFS=$'\t' read -r -u 9 file line; do
		found=$((found + 1))
		[ -z "$(not_run "$line")" ] || continue
		case $line in
		make\ *)
			"$COMMANDS" block "$TOP/$file" "$line" | sed 's/ *#.*//' >"$T/block"
			! grep -vE '^make( |$)' "$T/block" || die "$file: a block of make has something else"
			while read -r -u 8 line; do make_knows "$line"; done 8<"$T/block"
			;;
		*)
			printf '%s\n' "${RUN_BLOCKS[@]}" | grep -qxF -- "$file	$line" ||
				die "$file shows commands that are neither run nor listed here: $line"
			;;
		esac
	done 9< <("$COMMANDS" blocks "${DOCS[@]}")
	[ "$found" -ge "${#RUN_BLOCKS[@]}" ] || die "only $found blocks were found"
}

# write_kernels: docs/kernels.md of what results there are below $T/top/build.
write_kernels() {
	KERNELS=" " WRITE_DOCS=1 BUILD=$T/top/build bash "$T/top/scripts/kernels.sh" >"$T/out" 2>&1 || die "$(tail -n 3 "$T/out")"
}

# A test that was not run again keeps its line, another result replaces it.
kernels_table() {
	local table=$T/top/docs/kernels.md dir=$T/top/build/kernels release

	mkdir -p "$T/top/test" "$T/top/docs" "$dir/6.12" "$dir/results/6.12" && cp -a "$TOP/scripts" "$T/top/" &&
		cp -a "$TOP/test/kernels" "$T/top/test/" && cp "$TOP/docs/kernels.md" "$table" || die "copy"
	write_kernels
	cmp -s "$table" "$TOP/docs/kernels.md" || die "without results the table changes: $(diff "$table" "$TOP/docs/kernels.md" | head -n 3)"
	release=$(sed -n 's/^## Linux \(6\.12\..*\)/\1/p' "$table")
	[ -n "$release" ] || die "there is no 6.12 in the table"
	echo trixie >"$dir/6.12/suite"
	echo "release: $release" >"$dir/results/6.12/facts.log"
	printf 'PASS a\nPASS b\nended: 0 after 7 s on 2000-01-01\n' >"$dir/results/6.12/chain.log"
	write_kernels
	grep -qxF '| chain | 2 | 0 | 0 | after 7 s on 2000-01-01 |  |' "$table" || die "a new result is not in the table"
	diff <(grep '^| [a-z]' "$table") <(grep '^| [a-z]' "$TOP/docs/kernels.md") | grep '^[<>]' >"$T/changed"
	[ "$(wc -l <"$T/changed")" = 2 ] || die "more than one line changes: $(head -n 3 "$T/changed")"
	sed -i 's/^release: .*/release: 6.12.0-another/' "$dir/results/6.12/facts.log"
	write_kernels
	sed -n '/^## Linux 6.12.0-another/,/^## Linux 7/p' "$table" | grep -q '^| kernel | | | | not run' ||
		die "lines of another release are kept"
}

run_test a_move_to_another_host_as_in_migrate_md to_a_host
run_test a_move_with_an_address_as_in_migrate_md with_an_address
run_anywhere the_table_of_kernels_keeps_what_was_not_run_again kernels_table
run_anywhere the_readme_is_short_and_so_are_its_sentences short_readme
run_anywhere the_picture_is_what_the_script_draws picture
run_anywhere what_the_documents_name_is_there paths_are_there
run_test every_block_of_commands_is_run_or_listed blocks_are_known
run_test every_command_in_the_text_works_or_is_listed in_the_text
run_test the_first_commands_of_the_readme_work five_minutes
run_test the_demo_prints_what_the_readme_shows demo
run_test the_rounds_in_one_command_work one_command
run_test a_migration_and_its_restore_work_as_shown migrate_and_restore
run_test a_migration_to_a_page_server_works_as_shown migrate_to_a_server
run_test memory_is_there_before_the_dump_as_shown memory_before_the_dump
run_test rounds_go_on_from_a_restore_as_shown after_a_restore
run_test the_example_of_the_manual_page_works manual_page
finish
