# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# To fetch from any suite of Debian's archive with a private apt. No archive host
# is named here: the address and the keys are those of this machine's own apt
# sources. Sourced by the scripts that fetch.
#
#   archive_candidates DIR            what may be Debian's archive, a file each
#   write_apt_conf WORK               an apt of its own below WORK: apt-get -c WORK/apt.conf
#   archive_sources FILE TYPE SUITE   a candidate as an apt source, for WORK/sources.d

# One-line apt sources ("deb [signed-by=K] URI SUITE COMPONENT...") as deb822.
one_line_to_deb822()
{
	awk '$1 ~ /^deb(-src)?$/ {
		key = ""
		line = $0
		if (match(line, /\[[^]]*\]/)) {
			options = substr(line, RSTART + 1, RLENGTH - 2)
			line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH)
			n = split(options, option, " ")
			for (i = 1; i <= n; i++)
				if (tolower(option[i]) ~ /^signed-by=/)
					key = substr(option[i], 11)
		}
		sub(/#.*/, "", line)
		n = split(line, word, " ")
		printf "Types: %s\nURIs: %s\nSuites: %s\nComponents:", word[1], word[2], word[3]
		for (i = 4; i <= n; i++)
			printf " %s", word[i]
		printf "\n%s\n", key == "" ? "" : "Signed-By: " key "\n"
	}' "$1"
}

# pick_archive OUTDIR CODENAME: from deb822 on stdin, write OUTDIR/RANK-N.sources
# for each entry that may be Debian's main archive, best rank first in name order:
# 0 signed with Debian's archive keyring, 1 carries the suite of this release.
# Each has the entry's address and key, and TYPE and SUITE where these belong.
pick_archive()
{
	awk -v RS='' -v out="$1" -v codename="$2" '
	function has(list, word) { return (" " list " ") ~ ("[ \n\t]" word "[ \n\t]") }
	{
		split("", field)
		name = ""
		n = split($0, line, "\n")
		for (i = 1; i <= n; i++) {
			if (line[i] ~ /^#/)
				continue
			if (line[i] ~ /^[ \t]/) {
				field[name] = field[name] "\n" line[i]
			} else if ((colon = index(line[i], ":"))) {
				name = tolower(substr(line[i], 1, colon - 1))
				field[name] = substr(line[i], colon + 1)
			}
		}
		if (field["enabled"] ~ /^[ \t]*no/ || field["suites"] ~ /security|\/updates/ ||
		    !has(field["components"], "main") || field["uris"] ~ /cdrom:/)
			next
		if (field["signed-by"] ~ /debian-archive-keyring/)
			rank = 0
		else if (codename != "" && has(field["suites"], codename))
			rank = 1
		else
			next
		if (seen[field["uris"], field["signed-by"]]++)
			next
		file = sprintf("%s/%d-%03d.sources", out, rank, ++count)
		printf "Types: TYPE\nURIs:%s\nSuites: SUITE\nComponents: main\n", field["uris"] > file
		if ("signed-by" in field && field["signed-by"] != "")
			printf "Signed-By:%s\n", field["signed-by"] > file
		close(file)
	}'
}

# archive_candidates OUTDIR: pick_archive over all apt sources of this machine.
archive_candidates()
{
	local list='' parts='' codename file

	eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
	codename=$(awk -F= '$1 == "VERSION_CODENAME" { gsub(/"/, "", $2); print $2 }' /etc/os-release)
	mkdir -p "$1"
	for file in "$list" "$parts"/*.list "$parts"/*.sources; do
		[ -f "$file" ] || continue
		case $file in
		*.sources) cat "$file" ;;
		*) one_line_to_deb822 "$file" ;;
		esac
		echo
	done | pick_archive "$1" "$codename"
}

# write_apt_conf WORK: an apt that keeps everything below WORK and leaves the
# machine's lists and cache, and the hooks of its apt.conf.d, alone. It runs as
# whoever runs this: the sandbox user could not reach a private directory.
write_apt_conf()
{
	mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/sources.d"
	cat >"$1/apt.conf" <<-EOF
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Dir::State "$1/state";
		Dir::State::lists "$1/state/lists";
		Dir::Cache "$1/cache";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$1/sources.d";
		APT::Sandbox::User "$(id -un)";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
		Acquire::http::Timeout "30";
		Acquire::https::Timeout "30";
	EOF
}

# archive_sources FILE deb|deb-src SUITE: a candidate as an apt source of that suite, to stdout.
archive_sources()
{
	sed "s/^Types: TYPE\$/Types: $2/; s/^Suites: SUITE\$/Suites: $3/" "$1"
}
