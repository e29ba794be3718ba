# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What those who work on the series do to the CRIU tree $tree. Sourced; what make says goes to $work/log, and GIT_DIR is to
# keep CRIU's make from the repository that it is in.

# build_criu: with no variables of a make that runs this.
build_criu()
{
	env -u MAKEFLAGS -u MAKELEVEL make -C "$tree" -j"$(nproc)" CC="${CC:-gcc}" PYTHON=: criu >"$work/log" 2>&1
}

# change PATCH OPTION...: by patch(1), which says what it does.
change()
{
	patch -d "$tree" -p1 --force --no-backup-if-mismatch "${@:2}" <"$1"
}
