#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
#   proto-numbers.sh BASE TREE
#
# Compares the messages of two CRIU trees: what TREE adds to those of BASE, fields as well as values of enumerations,
# must have numbers that upstream does not hand out, and what BASE has must be as it was. Prints a line for each that is
# not so, and fails if there is one. Needs protoc.
set -euo pipefail
export LC_ALL=C

# Also in CONTRIBUTING.md.
first_number=8000

# numbers TREE: "MESSAGE.FIELD NUMBER TYPE" of every field, and the same of every value of an enumeration.
numbers()
{
	protoc -I "$1/images" -I /usr/include --descriptor_set_out=/dev/stdout "$1"/images/*.proto |
		protoc -I /usr/include --decode=google.protobuf.FileDescriptorSet google/protobuf/descriptor.proto |
		awk '/\{$/ { depth++; name[depth] = number[depth] = type[depth] = ""; next }
		     $1 == "name:" { name[depth] = $2 }
		     $1 == "number:" { number[depth] = $2 }
		     $1 == "type:" || $1 == "type_name:" || $1 == "label:" { type[depth] = type[depth] $2 }
		     /\}$/ {
			if (number[depth] != "") {
				path = name[1]
				for (i = 2; i <= depth; i++)
					path = path "." name[i]
				gsub("\"", "", path)
				print path, number[depth], type[depth]
			}
			depth--
		     }' | sort
}

base=$(numbers "$1")
tree=$(numbers "$2")
[ -n "$base" ] && [ -n "$tree" ] || {
	echo "no messages found"
	exit 1
}

wrong=$(
	while read -r name number _; do
		[ "$number" -ge "$first_number" ] || 
			echo "$name has the number $number, but ours begin at $first_number: those below are upstream's to hand out"
	done < <(comm -13 <(echo "$base") <(echo "$tree"))
	comm -23 <(echo "$base") <(echo "$tree") | sed 's/$/ is not as upstream has it/'
)
[ -z "$wrong" ] || {
	echo "$wrong"
	exit 1
}
