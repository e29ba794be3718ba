// SPDX-License-Identifier: GPL-2.0-only
/*
 * umem --control FILE [--stranger]: some of its pages are the packet memory of an AF_XDP
 * socket, which it holds itself, or a process that is no relative of it. Every step writes
 * some pages; in the second one the kernel puts a packet into one of them, past all page
 * tables, and in the third one the socket is closed.
 */
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "steps.h"

#define PAGE	   4096ul
#define WORDS	   (PAGE / sizeof(uint64_t))
#define PAGES	   1024u
#define UMEM	   8u
#define RECEIVES   3u
#define PER_STEP   16u
#define RING_SLOTS 8u
/* The kernel leaves so much in front of a packet. */
#define HEADROOM 256u
#define PACKET	 ((uint64_t)1 << 60)

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

/* Nobody else uses that slot: what the holder has to do, and has done. */
#define HOLDER_SLOT 15
enum { HOLD, RECEIVE, CLOSE, FAILED };

static uint64_t (*pages)[WORDS];
static uint64_t expected[PAGES];
static bool has_packet;
static unsigned int step_nr;
static struct control *ctl;
static bool stranger;

/* Who holds the socket. */
static struct holder {
	int socket;
	int map;
	int link;
	unsigned int loopback;
} holder;

static void write_page(unsigned int i)
{
	expected[i] = ((uint64_t)step_nr << 32) + i + 1;
	for (size_t w = 0; w < WORDS; w++)
		pages[i][w] = expected[i] + w;
}

static uint64_t word_of(unsigned int page, size_t w)
{
	if (page == RECEIVES && has_packet && w >= HEADROOM / sizeof(uint64_t))
		return PACKET + w;
	return expected[page] + w;
}

static void verify(struct control_slot *s)
{
	uint64_t bad = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		for (size_t w = 0; w < WORDS; w++)
			if (pages[i][w] != word_of(i, w)) {
				bad++;
				break;
			}
	control_report(s, PAGES, bad, 0, NULL);
}

static int bpf(int cmd, union bpf_attr *attr)
{
	int ret = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return ret < 0 ? -errno : ret;
}

/* return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS) */
static int load_redirect(int map)
{
	struct bpf_insn code[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W,
		  .dst_reg = 2,
		  .src_reg = 1,
		  .off = offsetof(struct xdp_md, rx_queue_index) },
		{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_XDP,
				.insns = (uintptr_t)code,
				.insn_cnt = sizeof(code) / sizeof(code[0]),
				.license = (uintptr_t) "GPL" };

	return bpf(BPF_PROG_LOAD, &attr);
}

/* What comes in on the loopback goes to the socket. */
static int redirect(struct holder *h)
{
	union bpf_attr of_map = { .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	union bpf_attr of_link = { 0 }, of_entry = { 0 };
	int prog, queue = 0;

	h->map = bpf(BPF_MAP_CREATE, &of_map);
	prog = h->map < 0 ? h->map : load_redirect(h->map);
	if (prog < 0)
		return prog;

	of_link.link_create.prog_fd = prog;
	of_link.link_create.target_ifindex = h->loopback;
	of_link.link_create.attach_type = BPF_XDP;
	of_link.link_create.flags = XDP_FLAGS_SKB_MODE;
	h->link = bpf(BPF_LINK_CREATE, &of_link);
	close(prog);
	if (h->link < 0)
		return h->link;

	of_entry.map_fd = h->map;
	of_entry.key = (uintptr_t)&queue;
	of_entry.value = (uintptr_t)&h->socket;
	return bpf(BPF_MAP_UPDATE_ELEM, &of_entry);
}

static int make_socket(struct holder *h)
{
	struct xdp_umem_reg umem = { .addr = (uintptr_t)pages, .len = UMEM * PAGE, .chunk_size = PAGE };
	struct sockaddr_xdp addr = { .sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY };
	int slots = RING_SLOTS;

	addr.sxdp_ifindex = h->loopback = if_nametoindex("lo");
	h->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (h->socket < 0 || setsockopt(h->socket, SOL_XDP, XDP_UMEM_REG, &umem, sizeof(umem)) ||
	    setsockopt(h->socket, SOL_XDP, XDP_UMEM_FILL_RING, &slots, sizeof(slots)) ||
	    setsockopt(h->socket, SOL_XDP, XDP_UMEM_COMPLETION_RING, &slots, sizeof(slots)) ||
	    setsockopt(h->socket, SOL_XDP, XDP_RX_RING, &slots, sizeof(slots)) ||
	    bind(h->socket, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	return redirect(h);
}

/* The next packet is to go into that page. */
static int offer_page(const struct holder *h)
{
	struct xdp_mmap_offsets off;
	socklen_t len = sizeof(off);
	size_t size;
	char *ring;

	if (getsockopt(h->socket, SOL_XDP, XDP_MMAP_OFFSETS, &off, &len))
		return -errno;
	size = off.fr.desc + RING_SLOTS * sizeof(uint64_t);
	ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, h->socket, (off_t)XDP_UMEM_PGOFF_FILL_RING);
	if (ring == MAP_FAILED)
		return -errno;
	*(uint64_t *)(ring + off.fr.desc) = RECEIVES * PAGE;
	atomic_fetch_add((_Atomic uint32_t *)(ring + off.fr.producer), 1);
	munmap(ring, size);
	return 0;
}

static int send_packet(const struct holder *h)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)h->loopback, .sll_halen = 6 };
	uint64_t packet[WORDS - HEADROOM / sizeof(uint64_t)];
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), err = 0;

	for (size_t w = 0; w < sizeof(packet) / sizeof(*packet); w++)
		packet[w] = PACKET + HEADROOM / sizeof(uint64_t) + w;
	if (fd < 0 || sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) != sizeof(packet))
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static int receive(const struct holder *h)
{
	struct pollfd arrived = { .fd = h->socket, .events = POLLIN };
	int err = offer_page(h);

	if (!err)
		err = send_packet(h);
	return err ? err : poll(&arrived, 1, 20000) == 1 ? 0 : -ETIMEDOUT;
}

static int serve(const struct holder *h, uint64_t todo)
{
	if (todo == RECEIVE)
		return receive(h);
	close(h->link);
	close(h->map);
	close(h->socket);
	return 0;
}

/* Serves the program, and goes when that has gone. */
static void hold(const struct holder *h, pid_t of)
{
	struct control_slot *slot = &ctl->slot[HOLDER_SLOT];
	uint64_t done = HOLD, todo;

	setsid();
	while (done != CLOSE && !kill(of, 0)) {
		todo = atomic_load(&slot->writes);
		if (todo == done) {
			steps_nap_ms(1);
			continue;
		}
		done = serve(h, todo) ? FAILED : todo;
		atomic_store(&slot->checked, done);
	}
	_exit(0);
}

static int ask(uint64_t what)
{
	struct control_slot *slot = &ctl->slot[HOLDER_SLOT];
	uint64_t done;

	if (!stranger)
		return serve(&holder, what);
	atomic_store(&slot->writes, what);
	do {
		steps_nap_ms(1);
		done = atomic_load(&slot->checked);
	} while (done != what && done != FAILED);
	return done == FAILED ? -EIO : 0;
}

/* The memory is ours, and the socket the other's. */
static int give_away(void)
{
	pid_t us = getpid(), pid = fork();

	if (pid == 0) {
		if (fork() == 0)
			hold(&holder, us);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		return -errno;
	return serve(&holder, CLOSE);
}

static int step(void)
{
	step_nr++;
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page(UMEM + (step_nr * 97 + i * 31) % (PAGES - UMEM));
	if (step_nr == 2)
		has_packet = true;
	return step_nr == 2 ? ask(RECEIVE) : step_nr == 3 ? ask(CLOSE) : 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	int err;

	stranger = argc == 4 && !strcmp(argv[3], "--stranger");
	if (argc != 3 + stranger || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: umem --control FILE [--stranger]\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return 1;
	for (unsigned int i = 0; i < PAGES; i++)
		write_page(i);
	err = make_socket(&holder);
	if (!err && stranger)
		err = give_away();
	if (err) {
		fprintf(stderr, "umem: %s\n", strerror(-err));
		return 1;
	}
	steps_serve(ctl, slot, &ops);
	return 0;
}
