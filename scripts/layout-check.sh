#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Do the arrows between the folders go one way? wptrack, keeper and plugin may include what lib/ has, lib/ nothing of
# theirs, none of them another one's. Only plugin/ may know CRIU's headers, only the command CRIU's images, and only lib/
# calls ioctl(). Tests may do all that. And is each folder in docs/design.md, with a README.md of its own, and is the size
# of a page asked for? Prints PASS or FAIL lines as tests do.
#
#   layout-check.sh [TOP]
set -euo pipefail

cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"
for folder in lib plugin keeper wptrack; do
	[ -d "$folder" ] || {
		echo "FAIL layout-check: there is no folder $folder"
		exit 1
	}
done
rc=0

# may_include FOLDER HEADER: HEADER is as the file says it, and none of its own folder.
may_include()
{
	case $1:$2 in
	# CRIU's, by way of one header
	plugin:criu-*.h) return 0 ;;
	*:criu-*.h) return 1 ;;
	# What is generated: of our images, and of CRIU's
	lib:wptrack.pb-c.h | wptrack/*:migrate.pb-c.h | wptrack/*:criu_inventory.pb-c.h) return 0 ;;
	wptrack/*:pagemap.pb-c.h | wptrack/*:stats.pb-c.h | wptrack:pagemap.pb-c.h | wptrack:stats.pb-c.h) return 0 ;;
	*/*) ;;
	*) return 1 ;;
	esac
	case $1:$2 in
	*:lib/*.h) [ "$1" != lib ] ;;
	wptrack/*:wptrack/*.h) return 0 ;;
	*) return 1 ;;
	esac
}

# wrong_includes: "FILE includes HEADER" for each that goes another way.
wrong_includes()
{
	local file header

	grep -rEo '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]+' lib plugin keeper wptrack --include='*.[ch]' |
		sed -E 's/:[^"<]*(["<])/\t\1\t/' |
		while IFS=$'\t' read -r file how header; do
			# <> is for what is not ours.
			if [ "$how" = '<' ]; then
				[ ! -e "$header" ] || echo "$file includes <$header>"
			elif [[ $header == */* ]] || [ ! -e "${file%/*}/$header" ]; then
				may_include "${file%/*}" "$header" || echo "$file includes $header"
			fi
		done
}

wrong_calls()
{
	grep -rnE '\bioctl *\(' plugin keeper wptrack --include='*.[ch]' | sed -E 's/^([^:]+:[0-9]+):.*/\1 calls ioctl/' || true
}

# judge NAME WRONG
judge()
{
	if [ -z "$2" ]; then
		echo "PASS $1"
	else
		echo "FAIL $1: ${2//$'\n'/, }"
		rc=1
	fi
}

# wrong_folders: those without a README.md, or a row in the table of parts.
wrong_folders()
{
	local folder

	for folder in criu-patches images keeper lib plugin scripts test wptrack wptrack/migrate; do
		[ -e "$folder/README.md" ] || echo "$folder has no README.md"
		grep -qE "^\\|([^|]* )?$folder/[ ,]" docs/design.md || echo "docs/design.md's table of parts has no $folder/"
	done
}

# A size of pages that is written down is right on some machines only.
wrong_sizes()
{
	grep -rnwE '(4096|4095)(u|ul|ull)?|0x1000(u|ul|ull)?|PAGE_SIZE' lib plugin keeper wptrack --include='*.[ch]' |
		sed -E 's/^([^:]+:[0-9]+):.*/\1 names the size of a page, which lib\/page.h knows/' || true
}

judge includes_go_to_lib_and_never_back "$(wrong_includes)"
judge the_only_ioctls_are_in_lib "$(wrong_calls)"
judge each_folder_says_what_it_is_for "$(wrong_folders)"
judge the_size_of_a_page_is_asked_for "$(wrong_sizes)"
exit "$rc"
