#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# CRIU_VERIFY_PARENT: what is left to the parent images is compared with them.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# spoil_parents: change a byte in each page of the round before's images, as if they were stale.
spoil_parents() {
	local file=$T/$ROUND/pages-1.img pages i

	pages=$(($(stat -c %s "$file") / 4096))
	[ "$pages" -gt 100 ] || die "only $pages pages to spoil"
	for ((i = 0; i < pages; i += pages / 50)); do
		printf 'spoilt!' | dd of="$file" bs=1 seek=$((i * 4096 + 99)) conv=notrunc status=none || die "dd"
	done
}

# said LOG PATTERN
said() {
	grep -q "$2" "$DIR/$1" || die "round $ROUND: nothing like '$2' in $1"
}

right_chain() {
	export CRIU_VERIFY_PARENT=1
	start_tracked "$1" 1 --mib 32
	pre_dump
	write_pages 300
	pre_dump --pre-dump-mode read
	assert_incremental
	said pre-dump.log 'verify: All [0-9]* pages that are left'
	write_pages 300
	final_dump
	assert_incremental
	said dump.log 'verify: All [0-9]* pages that are left'
	restore_and_verify
	quit_program
}

plain() {
	right_chain pagekeeper
}

sanitized() {
	right_chain pagekeeper-asan
}

# spoilt MODE: the first round is wrong in 50 places. They are found, dumped again, and the end is right.
spoilt() {
	local dumped

	export CRIU_VERIFY_PARENT=1
	start_tracked pagekeeper 1 --mib 32
	pre_dump
	spoil_parents
	ctl pause || die "the program does not pause"
	if [ "$1" = dump ]; then
		final_dump
	else
		pre_dump --pre-dump-mode "$1"
	fi
	said "$([ "$1" = dump ] && echo dump || echo pre-dump).log" 'Error .*verify: .*called it unchanged. It is dumped'
	dumped=$(grep -ho 'verify: [0-9]* pages of [0-9]* were not' "$DIR"/*.log | grep -o '[0-9]* pages' | head -n 1)
	dumped=${dumped%% *}
	# What the program wrote since, it covers.
	[ "${dumped:-0}" -ge 30 ] && [ "$dumped" -le 60 ] || die "${dumped:-0} pages found wrong, 50 were spoilt"
	[ "$1" = dump ] || final_dump
	CRIU_VERIFY_PARENT='' restore
	ctl resume || die "the program does not resume"
	verify_program "after the restore"
	quit_program
}

spoilt_dump() {
	spoilt dump
}

spoilt_read() {
	spoilt read
}

# Without it the same images are restored wrong: the test's own control.
unverified() {
	local out

	start_tracked pagekeeper 1 --mib 32
	pre_dump
	spoil_parents
	ctl pause || die "the program does not pause"
	final_dump
	restore
	ctl resume || die "the program does not resume"
	if out=$(ctl verify); then
		die "the spoilt pages are not noticed: $out"
	fi
	quit_program
}

# What cannot be verified is refused, not passed over.
page_server() {
	export CRIU_VERIFY_PARENT=1
	start_tracked pagekeeper 1 --mib 16
	pre_dump
	new_round
	if criu_cmd pre-dump.log pre-dump -t "$PID" -D "$DIR" --track-mem "${PREV[@]}" --page-server \
		--address 127.0.0.1 --port 9; then
		die "a pre-dump to a page-server is said to be verified"
	fi
	said pre-dump.log 'CRIU_VERIFY_PARENT needs the parent images to be local files: unset it'
	verify_program "after the refusal"
	quit_program
}

run_test verification_finds_nothing_wrong_in_a_right_chain plain
run_test verification_finds_nothing_wrong_in_a_sanitized_chain sanitized
run_test wrong_parent_pages_are_found_and_dumped_again spoilt_dump
run_test wrong_parent_pages_are_found_in_a_pre_dump_and_dumped_again spoilt_read
run_test wrong_parent_pages_without_verification_are_restored unverified
run_test verification_with_a_page_server_is_refused page_server
finish
