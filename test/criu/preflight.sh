#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# wptrack migrate refuses before the first round what the dump would refuse after all of them, and says what to do.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
exec_under_reaper "$@"

# Programs that are hard to dump, by what they have.
programs() {
	cat >"$T/program.py" <<-'E'
		import ctypes, fcntl, mmap, os, socket, struct, subprocess, sys, time
		libc = ctypes.CDLL(None, use_errno=True)
		what, where, keep = sys.argv[1], sys.argv[2], []
		def number(ret):
		    if ret < 0:
		        print("skip", os.strerror(ctypes.get_errno()), flush=True)
		        sys.exit(1)
		    return ret
		def big_file():
		    file = open(where, "w+b")
		    file.write(b"x" * (2 << 20))
		    file.flush()
		    return file
		if what == "lock":
		    keep = [open(where, "w")]
		    fcntl.flock(keep[0], fcntl.LOCK_EX)
		elif what == "range":
		    keep = [open(where, "w")]
		    fcntl.lockf(keep[0], fcntl.LOCK_EX)
		elif what == "tcp":
		    listener = socket.create_server(("127.0.0.1", 0))
		    keep = [listener, socket.create_connection(listener.getsockname()), listener.accept()]
		elif what == "tcp6":
		    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
		    keep = [listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()]
		elif what == "dgram":
		    keep = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
		    keep[0].connect(where)
		elif what == "stream":
		    keep = [socket.socket(socket.AF_UNIX)]
		    while keep[0].connect_ex(where):
		        time.sleep(0.01)
		elif what == "sysv":
		    key = number(libc.shmget(0, 4096, 0o1600))
		    libc.shmat.restype = ctypes.c_void_p
		    libc.shmat(key, None, 0)
		    libc.shmctl(key, 0, None)
		elif what == "io_uring":
		    number(libc.syscall(425, 8, ctypes.create_string_buffer(120)))
		elif what == "perf":
		    attr = struct.pack("IIQ", 1, 112, 0).ljust(128, b"\0")
		    number(libc.syscall(298, attr, 0, -1, -1, 0))
		elif what == "ghost":
		    keep = [big_file()]
		    os.unlink(where)
		elif what == "mapped":
		    file = big_file()
		    keep = [mmap.mmap(file.fileno(), 2 << 20, flags=mmap.MAP_PRIVATE)]
		    file.close()
		    os.unlink(where)
		elif what == "renamed":
		    keep = [open(where, "w")]
		    os.link(where, where + ".2")
		    os.unlink(where)
		elif what == "child":
		    # In a child, as that is dumped, too.
		    if not os.fork():
		        keep = [open(where, "w")]
		        fcntl.flock(keep[0], fcntl.LOCK_EX)
		        print("ready", flush=True)
		        time.sleep(600)
		    time.sleep(600)
		elif what == "zombie":
		    print(subprocess.Popen(["true"]).pid, flush=True)
		    time.sleep(0.1)
		print("ready", flush=True)
		time.sleep(600)
	E
}

start() {
	programs
	start_program /usr/bin/python3 "$T/program.py" "$1" "${2:-$T/file}"
	wait_for 20 grep -qE 'ready|skip' "$T/program.log" || die "the program is not ready: $(tail -n 1 "$T/program.log")"
	! grep -q '^skip' "$T/program.log" || skip "the program cannot: $(head -n 1 "$T/program.log")"
}

# migrate [OPTION...] [-- CRIU_OPTION...]: by $BELOW, if that is set. Sets RC.
migrate() {
	rm -rf "$T/m"
	migrate_program "--downtime 20000" "" "$@"
}

# refused TEXT: in one line, and nothing has been made.
refused() {
	[ "$RC" = 1 ] || die "ended with $RC, not with 1: $(tail -n 2 "$T/err" | tr '\n' ' ')"
	grep -qF -- "$1" "$T/err" || die "does not say \"$1\": $(tail -n 3 "$T/err" | tr '\n' ' ')"
	[ "$(wc -l <"$T/err")" = 1 ] || die "more than one line: $(cat "$T/err")"
	[ ! -e "$T/m" ] || die "a directory has been made"
}

# rightly: the dump would have failed.
rightly() {
	migrate --no-checks
	[ "$RC" = 1 ] && grep -q 'criu dump failed' "$T/err" ||
		die "refused, but it can be dumped ($RC): $(tail -n 3 "$T/err" | tr '\n' ' ')"
	[ -e "$T/m/1/stats-dump" ] || die "no round was made"
}

# helped OPTION...: with these it is dumped.
helped() {
	migrate --leave-running -- "$@"
	[ "$RC" = 0 ] || die "not dumped with $*: $(tail -n 3 "$T/err" | tr '\n' ' ')"
}

lock() {
	start lock
	migrate
	refused "give --file-locks after --"
	rightly
	helped --file-locks
	# As it may be written.
	helped -l
	helped --file-l
	migrate -- --file-locks --no-file-locks
	refused "give --file-locks after --"
	printf '# comment\n file-locks # another\n' >"$T/config"
	helped --config "$T/config"
}

range_lock() {
	start range
	migrate
	refused "give --file-locks after --"
	rightly
}

of_a_child() {
	start child
	migrate
	refused "process $(cat "/proc/$PID/task/$PID/children" | tr -d ' ') (python3) holds a lock"
}

connection() {
	start "$1"
	migrate
	refused "give --tcp-established after --"
	rightly
	helped --tcp-established
	helped --tcp-close
}

connection4() { connection tcp; }
connection6() { connection tcp6; }

# The other end is not in the tree.
listen_unix() {
	/usr/bin/python3 -c '
import socket, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if sys.argv[2] == "stream" else socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print("ready", flush=True)
if sys.argv[2] == "stream":
    listener.listen()
    peer = listener.accept()
    print("accepted", flush=True)
time.sleep(60)' "$T/socket" "$1" >"$T/listener.log" 2>&1 &
	LISTENER=$!
	wait_for 20 grep -qs ready "$T/listener.log" || die "nobody listens: $(cat "$T/listener.log")"
}

dgram() {
	listen_unix dgram
	start dgram "$T/socket"
	migrate
	refused "give --ext-unix-sk after --"
	rightly
	helped --ext-unix-sk
	kill "$LISTENER"
}

stream() {
	listen_unix stream
	start stream "$T/socket"
	wait_for 20 grep -q accepted "$T/listener.log" || die "no connection: $(cat "$T/listener.log")"
	migrate
	refused "has a unix connection that leads out of the tree (unix["
	rightly
	kill "$LISTENER"
}

sysv() {
	start sysv
	migrate
	refused "start it in one of its own (unshare --ipc)"
	rightly
}

io_uring() {
	start io_uring
	migrate
	refused "has an io_uring, which criu cannot dump"
	rightly
}

perf() {
	start perf
	migrate
	refused "has a descriptor that criu cannot dump ([perf_event])"
	rightly
}

ghost() {
	start "$1"
	migrate
	refused "give --ghost-limit SIZE after --"
	rightly
	helped --ghost-limit 4M
	migrate -- --ghost-limit 1M
	refused "give --ghost-limit SIZE after --"
}

open_ghost() { ghost ghost; }
mapped_ghost() { ghost mapped; }

renamed() {
	start renamed
	migrate
	refused "give --link-remap after --"
	rightly
	helped --link-remap
}

# Its descriptors were opened in another mount namespace.
other_mount() {
	start_program unshare --mount sleep 600
	wait_for 5 grep -q sleep "/proc/$PID/comm" || die "no program"
	BELOW="nsenter --mount --target $PID"
	migrate
	refused "has a file open on a mount that it does not see (/dev/null)"
	rightly
}

# script(1) has the other end.
terminal() {
	programs
	PID=$(
		close_inherited
		setsid script -qfc "echo \$\$ >$T/pid; exec /usr/bin/python3 $T/program.py none $T/file" "$T/typescript" </dev/null >/dev/null 2>&1 &
		echo $!
	)
	echo "$PID" >>"$T/sessions"
	wait_for 20 grep -qs ready "$T/typescript" || die "the program is not ready"
	PID=$(cat "$T/pid")
	echo "$PID" >>"$T/sessions"
	migrate
	refused "give --shell-job after --"
	rightly
	helped --shell-job
	! grep -A 1 '^to restore it:' "$T/out" | grep -q -- ' -d' || die "it would be restored in the background"
}

# As from a shell: the session is the shell's.
session() {
	start_program /usr/bin/python3 -c '
import subprocess, sys, time
print(subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL).pid, flush=True)
time.sleep(600)'
	wait_for 20 test -s "$T/program.log" || die "it does not start"
	PID=$(head -n 1 "$T/program.log")
	migrate
	refused "give --shell-job after --"
	rightly
}

traced() {
	start none
	/usr/bin/python3 -c '
import ctypes, sys, time
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
if ptrace(0x4206, int(sys.argv[1]), None, None):
    sys.exit("ptrace")
print("ready", flush=True)
time.sleep(60)' "$PID" >"$T/tracer.log" 2>&1 &
	TRACER=$!
	wait_for 20 grep -qs ready "$T/tracer.log" || die "it is not traced: $(cat "$T/tracer.log")"
	migrate
	refused "is being traced (process $TRACER)"
	kill "$TRACER"
}

# criu reads all limits, for which the kernel wants a privilege.
other_user() {
	start none
	kill_session "$PID"
	start_program setpriv --reuid 65534 --clear-groups sleep 600
	wait_for 5 grep -q '^Uid:[[:space:]]*65534' "/proc/$PID/status" || die "it is not another user's"
	BELOW="setpriv --bounding-set -sys_resource --inh-caps -sys_resource" migrate
	refused "CAP_SYS_RESOURCE"
}

no_program() {
	start zombie
	local program=$PID

	PID=$(head -n 1 "$T/program.log")
	migrate
	refused "process $PID has ended"
	PID=2
	[ "$(cat /proc/2/comm 2>/dev/null)" = kthreadd ] || { PID=$program && return 0; }
	migrate
	refused "is a thread of the kernel"
	PID=$program
}

not_root() {
	start none
	BELOW="setpriv --reuid 65534 --clear-groups --inh-caps=-all" migrate
	refused "only root can do that"
}

# The stock criu says this to a mode that it does not know.
not_ours() {
	start none
	printf '#!/bin/sh\necho "Error (criu/config.c:1016): Unable to parse value of --pre-dump-mode" >&2\nexit 1\n' >"$T/stock"
	chmod 755 "$T/stock"
	CRIU=$T/stock migrate
	refused "has no pre-dump mode \"live\", it is not the patched one"
	printf '#!/bin/sh\necho "cannot" >&2\nexit 1\n' >"$T/stock"
	CRIU=$T/stock migrate
	refused "--version fails: cannot"
	PLUGINS=$T CRIU_LIBS_DIR=$T migrate --pre-dump-mode splice
	[ "$RC" != 0 ] || "$CRIU" check --feature mem_dirty_track >/dev/null 2>&1 || die "migrated without a plugin"
	grep -q 'does it find the plugin (-- -L DIR)' "$T/err" || skip "the kernel tracks memory by itself"
}

# disk SIZE: $T/disk, of its own.
disk() {
	mkdir "$T/disk" && mount -t tmpfs -o "size=$1" none "$T/disk" || die "mount"
	echo "$T/disk" >>"$T/mounts"
}

# migrate_to_disk OPTION...
migrate_to_disk() {
	timeout -k 5 "$CRIU_TIMEOUT" "$WPTRACK" migrate --criu "$CRIU" "$@" "$PID" "$T/disk/m" -- -L "$PLUGINS" </dev/null \
		>"$T/out" 2>"$T/err"
	RC=$?
}

full_disk() {
	start_tracked pagekeeper 1 --mib 32
	disk 4m
	migrate_to_disk
	refused "No space left on device: $T/disk/m has room for"
	migrate_to_disk --no-checks
	[ "$RC" = 1 ] || die "ended with $RC, not with 1"
	grep -q 'round 1: .*No space left on device' "$T/err" || die "does not say why: $(cat "$T/err")"
	# Its log has no room there, either.
	rm -r "$T/disk/m"
	mkdir "$T/disk/m"
	head -c 8M /dev/zero >"$T/disk/other" 2>/dev/null
	migrate_to_disk --no-checks
	[ "$RC" = 1 ] || die "ended with $RC, not with 1"
	grep -q 'No space left on device' "$T/err" || die "does not say why: $(cat "$T/err")"
	verify_program "afterwards"
	quit_program
}

# Descriptors that are no obstacle.
harmless() {
	start_program /usr/bin/python3 -c '
import mmap, os, socket, sys, time, select
keep = [socket.socketpair(), socket.create_server(("127.0.0.1", 0)), os.pipe(), os.memfd_create("m"), select.epoll(),
        os.eventfd(0), mmap.mmap(-1, 4 << 20), socket.socket(type=socket.SOCK_DGRAM), open("/dev/null")]
small = open(sys.argv[1], "w+b")
small.write(b"x" * 4096)
small.flush()
os.unlink(sys.argv[1])
master, slave = os.openpty()
print("ready", flush=True)
time.sleep(600)' "$T/small"
	wait_for 20 grep -q ready "$T/program.log" || die "not ready: $(tail -n 1 "$T/program.log")"
	migrate
	[ "$RC" = 0 ] || die "not dumped: $(tail -n 3 "$T/err" | tr '\n' ' ')"
}

run_test a_file_lock_wants_an_option lock
run_test a_lock_of_a_range_wants_the_same range_lock
run_test children_are_looked_at_as_well of_a_child
run_test a_connection_wants_an_option connection4
run_test a_connection_of_ipv6_wants_the_same connection6
run_test a_unix_socket_that_sends_outside_wants_an_option dgram
run_test a_unix_connection_that_leads_outside_is_named stream
run_test system_v_memory_of_the_machine_is_refused sysv
run_test an_io_uring_is_refused io_uring
run_test descriptors_that_criu_does_not_know_are_refused perf
run_test a_large_file_without_a_name_wants_an_option open_ghost
run_test so_does_one_that_is_only_mapped mapped_ghost
run_test a_file_that_has_lost_its_name_wants_an_option renamed
run_test a_file_on_a_mount_that_is_not_seen_is_named other_mount
run_test a_terminal_wants_an_option terminal
run_test a_session_of_others_wants_the_same session
run_test a_tracer_is_named traced
run_test another_user_wants_a_privilege other_user
run_test what_is_no_program_is_refused no_program
run_test who_is_not_root_is_told_so not_root
run_test a_criu_that_is_not_ours_is_noticed not_ours
run_test a_full_disk_is_noticed_before_and_after full_disk
run_test what_can_be_dumped_is_not_refused harmless
finish
