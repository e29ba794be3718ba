# SPDX-License-Identifier: GPL-2.0-only
"""Another host, and a network: namespaces, as test/hosts.sh makes them for the tests."""
import contextlib
import ctypes
import os
import signal
import stat
import subprocess

from harness import HERE, BenchError, wait_until

TESTS = os.path.join(HERE, "..")
CLONE_NEWNET = 0x40000000
ADDRESS, PORT = "10.77.0.1", 7777


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as of:
        return of.read().split()


def namespace(pid, kind):
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def run(argv, **options):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True, **options)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: {done.stderr.strip()}")


class Host:
    """Where criu restores to: namespaces of pids, mounts, and of a network if that is wanted. They end with it, and all that
    runs there. What a criu has found out of the kernel is in a /run of its own: two kinds of criu would overwrite that of
    each other, and find it out each time."""

    def __init__(self, bench, criu, network=False):
        of_network = ["--net"] if network else []
        self.child = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", *of_network,
                                       bench.binary("reaper"), "sleep", "infinity"], stdin=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        bench.programs.append(self)
        self.bench = bench
        wait_until(lambda: children(self.child.pid) and children(children(self.child.pid)[0]), "there is no other host")
        self.init = children(self.child.pid)[0]
        self.own = {self.init, *children(self.init)}
        self.enter = ["nsenter", "--target", self.init, "--pid", "--mount", *of_network]
        if network:
            run([*self.enter, "ip", "link", "set", "lo", "up"])
        self.know_kernel(criu)

    def know_kernel(self, criu):
        """criu keeps it on a tmpfs only. It is found out once."""
        kept = os.path.join(self.bench.dir, "kdat-stock" if criu == self.bench.stock else "kdat-ours")
        run([*self.enter, "mount", "-t", "tmpfs", "none", "/run"])
        if os.path.exists(kept):
            run([*self.enter, "cp", kept, "/run/criu.kdat"])
            return
        # It says what this kernel lacks, too, which is no failure here.
        subprocess.run([*self.enter, criu, "check"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        run([*self.enter, "cp", "/run/criu.kdat", kept])

    def have_address(self):
        """That of the program, which no packets come to."""
        run([*self.enter, "ip", "address", "add", ADDRESS + "/24", "dev", "lo"])

    def rsh(self):
        """Return: a remote shell."""
        path = os.path.join(self.bench.dir, "rsh")
        with open(path, "w", encoding="ascii") as rsh:
            rsh.write(f'#!/bin/sh\nshift\nexec {" ".join(self.enter)} /bin/sh -c "$*"\n')
        os.chmod(path, stat.S_IRWXU)
        return path

    def pids(self):
        """Of all that has been started there."""
        of = namespace(self.init, "pid")
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and pid not in self.own and namespace(pid, "pid") == of]

    def end(self):
        """The kernel lets nobody wait for the first process there before all others have gone."""
        os.kill(int(self.init), signal.SIGKILL)
        self.child.wait()
        self.bench.programs.remove(self)


@contextlib.contextmanager
def network_of_our_own():
    """For us, and what is started by us in the meantime."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", encoding="ascii") as before:
        if libc.unshare(CLONE_NEWNET):
            raise BenchError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            run(["ip", "link", "set", "lo", "up"])
            yield
        finally:
            libc.setns(before.fileno(), CLONE_NEWNET)


class Outside:
    """Where the clients are, and a bridge that leads to our network, which has the program's address, and to that of a host."""

    def __init__(self, bench, host=None):
        self.bench = bench
        self.clients = None
        self.child = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        bench.programs.append(self)
        wait_until(lambda: namespace(self.child.pid, "net") != namespace("self", "net"), "there is no outside")
        script = f"die() {{ echo \"$*\" >&2; exit 1; }}; . {TESTS}/hosts.sh; OUTSIDE={self.child.pid}; make_bridge; join $$ port1"
        if host:
            script += f"; join {host.init} port2"
        run(["bash", "-c", script + f"; ip address add {ADDRESS}/24 dev eth"])

    def path(self, name):
        return os.path.join(self.bench.dir, f"{name}-{self.child.pid}")

    def last_line(self):
        with open(self.path("clients"), encoding="ascii", errors="replace") as log:
            return (log.read().splitlines() or [""])[-1]

    def connect(self, number):
        """So many clients, each of which minds every byte."""
        argv = ["nsenter", "--target", str(self.child.pid), "--net", "/usr/bin/python3",
                os.path.join(TESTS, "criu", "stream-clients.py"), ADDRESS, str(PORT), str(number), self.path("stop")]
        with open(self.path("clients"), "wb") as log:
            self.clients = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.last_line().isdigit(), "the clients do not connect")

    def longest_pause_us(self):
        """They stop, when all bytes have come back. Return: the longest time that one of them got nothing."""
        with open(self.path("stop"), "wb"):
            pass
        self.clients.wait()
        if self.clients.returncode:
            raise BenchError(f"a client: {self.last_line()}")
        return int(self.last_line().split()[-2]) * 1000

    def end(self):
        for child in (self.clients, self.child):
            if child:
                child.kill()
                child.wait()
        self.bench.programs.remove(self)
