#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What wptrack's usage, its completion in bash and its manual page name: the same subcommands, and the same options.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

MAN=$TEST_DIR/../docs/wptrack.1

# commands_of_usage, options_of_usage COMMAND: one in a line, sorted.
commands_of_usage() {
	"$WPTRACK" help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' | sort
}

options_of_usage() {
	"$WPTRACK" "$1" --help | sed -n 's/^  \(--[a-z-]\+\).*/\1/p' | sort
}

# completed WORD...: what bash offers for the last of them.
completed() {
	(
		# shellcheck disable=SC1090,SC1091 # it is made
		. "$BUILD/wptrack.bash"
		# shellcheck disable=SC2034 # of bash's
		COMP_WORDS=(wptrack "$@") COMP_CWORD=$#
		_wptrack
		printf '%s\n' "${COMPREPLY[@]}"
	) | grep . | sort
}

# The manual page without its marks; a line that begins with BREAK ends what is told of a command.
man_text() {
	sed 's/\\-/-/g; s/\\f[BIPR]//g; s/["\\]//g; s/^\.\(BR\|BI\|RB\|B\) //' "$MAN"
}

commands_of_man() {
	man_text | sed -n '/^\.SH SYNOPSIS/,/^\.SH DESCRIPTION/s/^wptrack \([a-z][a-z-]*\).*/\1/p' | sort
}

# options_of_man COMMAND: in the lines that head a paragraph, from the command's own on to the next one's.
options_of_man() {
	man_text | awk -v wanted="$1" -v commands="$(commands_of_man | tr '\n' ' ')" '
		BEGIN { split(commands, names, " "); for (i in names) is_command[names[i]] = 1 }
		/^\.SH/ { inside = 0; body = $2 == "COMMANDS" }
		heads && body && (is_command[$1] || /^--(version|completion)/) { inside = $1 == wanted }
		heads && inside { print }
		{ heads = $1 == ".TP" }' | grep -o -- '--[a-z][a-z-]*' | sort
}

# same WHAT FIRST SECOND
same() {
	diff <(echo "$2") <(echo "$3") >"$T/diff" || die "$1: $(grep '^[<>]' "$T/diff" | tr '\n' ' ')"
}

commands_agree() {
	local commands option

	commands=$(commands_of_usage)
	[ "$(wc -l <<<"$commands")" -ge 7 ] || die "the usage has only: $commands"
	same "usage and completion" "$commands" "$(completed "" | grep -v ^-)"
	same "usage and manual page" "$commands" "$(commands_of_man)"
	same "own options" "$("$WPTRACK" help | sed -n 's/^ \+\(-., \)\?\(--[a-z]\+\) .*/\2/p' | sort)" "$(completed -)"
	for option in $(completed -); do
		man_text | grep -q -- "^\(.*, \|.* \)\?$option" || die "the manual page has no $option"
	done
}

options_agree() {
	local command found=0

	for command in $(commands_of_usage | grep -vx help); do
		same "$command: usage and completion" "$(options_of_usage "$command")" "$(completed "$command" - | grep -vx -- --help)"
		same "$command: usage and manual page" "$(options_of_usage "$command")" "$(options_of_man "$command")"
		found=$((found + $(options_of_usage "$command" | wc -l)))
	done
	[ "$found" -ge 15 ] || die "only $found options were found"
}

# What the usage names, the program takes.
options_are_taken() {
	local command option

	for command in $(commands_of_usage | grep -vx help); do
		for option in $(options_of_usage "$command"); do
			# Behind it, --help is the option's value or asks for help.
			"$WPTRACK" "$command" "$option" --help --help >"$T/out" 2>&1 || die "$command $option: $(cat "$T/out")"
			grep -q '^usage: ' "$T/out" || die "$command $option --help: $(cat "$T/out")"
		done
		! "$WPTRACK" "$command" --no-such-option >"$T/out" 2>&1 || die "$command takes an option that there is not"
	done
}

values_are_completed() {
	same "modes" "$(printf '%s\n' live read splice)" "$(completed migrate --pre-dump-mode "")"
	completed migrate --criu tru | grep -qx true || die "no program is found"
	[ -z "$(completed verify --image-id "")" ] || die "a number is made up"
	completed verify "$$" | grep -qx "$$" || die "no process is found"
	mkdir "$T/images" || die "mkdir"
	[ "$(completed show "$T/im")" = "$T/images" ] || die "no directory is found"
	touch "$T/images/file"
	[ "$(completed migrate 1 /ck -- --root "$T/images/f")" = "$T/images/file" ] || die "no file is found for criu"
}

run_test usage_completion_and_manual_page_have_the_same_commands commands_agree
run_test usage_completion_and_manual_page_have_the_same_options options_agree
run_test options_of_the_usage_are_taken options_are_taken
run_test values_are_completed values_are_completed
finish
