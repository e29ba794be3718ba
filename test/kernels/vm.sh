#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# vm.sh KERNEL SHARE COMMAND...: run a command, as root, under another kernel.
#
# KERNEL is a directory of scripts/kernels-fetch.sh. The guest's root is this
# machine's, read-only, with /tmp, /run and /var/tmp in memory; SHARE is writable,
# at the same path, and the working directory. COMMAND is a line for bash. What it
# prints is printed, and its exit status is ours: 124 if it was not done within
# VM_TIMEOUT (3600) seconds, 125 if the guest gave none. VM_MIB=4096, VM_CPUS=2.
#
# The processor is emulated, as stock kernels need not run under what KVM a
# machine of this kind offers: some eight times as slow, but the same everywhere.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VM_TIMEOUT=${VM_TIMEOUT:-3600} VM_MIB=${VM_MIB:-4096} VM_CPUS=${VM_CPUS:-2}
# In seconds, for a guest that is emulated on a busy machine; usual are 5.
BOOT_TIMEOUT=120
BOOTS=4

say()
{
	printf 'vm: %s\n' "$*" >&2
}

[ $# -ge 3 ] || { say "usage: vm.sh KERNEL SHARE COMMAND..."; exit 125; }
kernel=$(realpath "$1") share=$(realpath "$2")
shift 2
for need in "$kernel/vmlinux" "$(dirname "$kernel")/guest-init" "$share"; do
	[ -e "$need" ] || { say "$need is missing"; exit 125; }
done
for virtiofsd in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
	[ ! -x "$virtiofsd" ] || break
done
work=$(mktemp -d "${TMPDIR:-/tmp}/wptrack-vm.XXXXXX") || exit 125
state=$share/.vm
mkdir -p "$state"
printf '%s\n' "$*" >"$state/command"
pids=() qemu='' timer=''

end_all()
{
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
	# Not the timer's sleep, which would be waited for.
	wait 2>/dev/null
	pids=()
}
trap 'end_all; rm -rf "$work"' EXIT
trap 'exit 143' INT TERM HUP

# serve NAME DIR CACHE: a directory for the guest. The daemon ends with the guest.
serve()
{
	if "$virtiofsd" --help 2>&1 | grep -q -- --shared-dir; then
		"$virtiofsd" --socket-path="$work/$1.sock" --shared-dir "$2" --cache "$3" --sandbox chroot --xattr --log-level error
	else
		"$virtiofsd" --socket-path="$work/$1.sock" -o "source=$2,cache=$3,sandbox=chroot,xattr,log_level=err"
	fi >"$work/$1.log" 2>&1 &
	pids+=($!)
}

wait_until()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

has_sockets()
{
	[ -S "$work/root.sock" ] && [ -S "$work/share.sock" ]
}

has_booted_or_ended()
{
	[ -s "$state/booted" ] || ! kill -0 "$qemu" 2>/dev/null
}

# In order: -cx16, as QEMU 7.2's cmpxchg16b leaves garbage in the flags, which the
# kernel's allocator trips over in one boot of six; the rest saves time.
boot()
{
	local append="console=ttyS0 loglevel=4 panic=-1 root=vmroot rootfstype=virtiofs ro vmkernel=$kernel vmshare=$share"

	append+=" init=$(dirname "$kernel")/guest-init vminit=$(dirname "$kernel")/guest-init"
	append+=" mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests random.trust_cpu=on audit=0"
	rm -f "$state/status" "$state/booted" "$work"/*.sock
	serve root / always
	serve share "$share" auto
	wait_until 20 has_sockets || return 1
	qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -cpu max,-la57,-svm,-cx16 \
		-smp "$VM_CPUS" -m "$VM_MIB" -object memory-backend-memfd,id=mem,size="$VM_MIB"M,share=on -numa node,memdev=mem \
		-M q35,hpet=off,smm=off,vmport=off -nodefaults -no-user-config -display none -no-reboot \
		-kernel "$kernel/vmlinux" $([ ! -e "$kernel/initrd" ] || echo -initrd "$kernel/initrd") -append "$append" \
		-chardev socket,id=c0,path="$work/root.sock" -device vhost-user-fs-pci,queue-size=1024,chardev=c0,tag=vmroot \
		-chardev socket,id=c1,path="$work/share.sock" -device vhost-user-fs-pci,queue-size=1024,chardev=c1,tag=vmshare \
		-device virtio-serial-pci -chardev stdio,id=con,signal=off -device virtconsole,chardev=con \
		-device virtio-rng-pci -serial file:"$work/console.log" </dev/null 2>"$work/qemu.log" &
	qemu=$!
	pids+=("$qemu")
	wait_until "$BOOT_TIMEOUT" has_booted_or_ended && [ -s "$state/booted" ]
}

tell_why()
{
	tail -n 15 "$work/console.log" "$work/qemu.log" "$work/root.log" "$work/share.log" >&2
}

for ((n = 1; ; n++)); do
	boot && break
	say "boot $n failed"
	tell_why
	end_all
	[ "$n" -lt "$BOOTS" ] || exit 125
done
(
	sleep "$VM_TIMEOUT" &
	trap 'kill $!; exit' TERM
	wait $!
	touch "$work/late"
	kill "$qemu"
) 2>/dev/null &
timer=$!
pids+=("$timer")
wait "$qemu"
cp "$work/console.log" "$state/console"
if [ -s "$state/status" ]; then
	exit "$(cat "$state/status")"
fi
if [ -e "$work/late" ]; then
	say "not done after $VM_TIMEOUT s"
	exit 124
fi
say "the guest ended without an exit status"
tell_why
exit 125
