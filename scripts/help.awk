# SPDX-License-Identifier: GPL-2.0-only
# The "target: ... ## text" lines of a Makefile.
BEGIN {
	print "Targets:"
}
/^[a-z-]+:.*## / {
	target = $0
	sub(/:.*/, "", target)
	sub(/.*## /, "")
	printf "  %-15s %s\n", target, $0
}
END {
	print ""
	print "Variables: CC CFLAGS LDFLAGS V=1 BUILD=dir WERROR=0 PREFIX PLUGINDIR DESTDIR"
	print "           CRIU_SRC=dir  a CRIU source tree to use instead of Debian's (it is copied)"
	print "What is installed looks for its plugin in PLUGINDIR: give it to `make` as well as to `make install`."
}
