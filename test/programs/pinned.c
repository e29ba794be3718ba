// SPDX-License-Identifier: GPL-2.0-only
/*
 * pinned --control FILE: some of its pages are registered with an io_uring, which
 * only a process that is no relative of it holds. Every step writes some pages; in
 * the second one the holder has a page written through the ring, past all page
 * tables, and in the third one it gives the ring up.
 */
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "steps.h"

#define PAGE	   4096ul
#define PAGES	   1024u
#define REGISTERED 8u
#define BY_RING	   3u
#define PER_STEP   16u

/* Nobody else uses that slot: what the holder has to do, and has done. */
#define HOLDER_SLOT 15
enum { HOLD, READ, CLOSE, FAILED };

static uint64_t (*pages)[PAGE / sizeof(uint64_t)];
static uint64_t expected[PAGES];
static unsigned int step_nr;
static struct control *ctl;

static void fill_page(uint64_t *page, uint64_t first)
{
	for (size_t w = 0; w < PAGE / sizeof(uint64_t); w++)
		page[w] = first + w;
}

static void write_page(unsigned int i)
{
	expected[i] = ((uint64_t)step_nr << 32) + i + 1;
	fill_page(pages[i], expected[i]);
}

static void verify(struct control_slot *s)
{
	uint64_t bad = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		for (size_t w = 0; w < PAGE / sizeof(uint64_t); w++)
			if (pages[i][w] != expected[i] + w) {
				bad++;
				break;
			}
	control_report(s, PAGES, bad, 0, NULL);
}

struct holder {
	struct io_uring_params params;
	int ring;
	int file;
	pid_t of;
};

/* Read the file into the page, through the registered buffer. */
static int read_by_ring(const struct holder *h)
{
	const struct io_sqring_offsets *off = &h->params.sq_off;
	char *sq = mmap(NULL, off->array + h->params.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_POPULATE, h->ring, IORING_OFF_SQ_RING);
	struct io_uring_sqe *sqe = mmap(NULL, h->params.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_POPULATE, h->ring, IORING_OFF_SQES);

	if (sq == MAP_FAILED || sqe == MAP_FAILED)
		return -errno;
	*sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED,
		.fd = h->file,
		.addr = (uintptr_t)pages[BY_RING],
		.len = PAGE,
	};
	*(uint32_t *)(sq + off->array) = 0;
	atomic_fetch_add((_Atomic uint32_t *)(sq + off->tail), 1);
	return syscall(SYS_io_uring_enter, h->ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1 ? 0 : -errno;
}

/* Serves the program, and goes when that has gone. */
static void hold(const struct holder *h)
{
	struct control_slot *slot = &ctl->slot[HOLDER_SLOT];
	uint64_t done = HOLD, todo;

	setsid();
	while (done != CLOSE && !kill(h->of, 0)) {
		todo = atomic_load(&slot->writes);
		if (todo == done) {
			steps_nap_ms(1);
			continue;
		}
		if (todo == READ && read_by_ring(h))
			todo = FAILED;
		if (todo == CLOSE)
			close(h->ring);
		done = todo;
		atomic_store(&slot->checked, done);
	}
	_exit(0);
}

static int ask_holder(uint64_t what)
{
	struct control_slot *slot = &ctl->slot[HOLDER_SLOT];
	uint64_t done;

	atomic_store(&slot->writes, what);
	do {
		steps_nap_ms(1);
		done = atomic_load(&slot->checked);
	} while (done != what && done != FAILED);
	return done == FAILED ? -EIO : 0;
}

/* What the ring is to write lies in a file that only the holder has. */
static int start_holder(void)
{
	struct iovec buffer = { .iov_base = pages, .iov_len = REGISTERED * PAGE };
	struct holder h = { .of = getpid() };
	uint64_t page[PAGE / sizeof(uint64_t)];
	pid_t pid;

	h.file = memfd_create("page", MFD_CLOEXEC);
	fill_page(page, 1ull << 60);
	if (h.file < 0 || pwrite(h.file, page, PAGE, 0) != (ssize_t)PAGE)
		return errno;
	h.ring = (int)syscall(SYS_io_uring_setup, 4, &h.params);
	if (h.ring < 0 || syscall(SYS_io_uring_register, h.ring, IORING_REGISTER_BUFFERS, &buffer, 1))
		return errno;
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			hold(&h);
		_exit(0);
	}
	close(h.ring);
	close(h.file);
	return pid < 0 || waitpid(pid, NULL, 0) != pid ? errno : 0;
}

static int step(void)
{
	step_nr++;
	for (unsigned int i = 0; i < PER_STEP; i++)
		write_page(REGISTERED + (step_nr * 97 + i * 31) % (PAGES - REGISTERED));
	if (step_nr == 2)
		expected[BY_RING] = 1ull << 60;
	return step_nr == 2 ? ask_holder(READ) : step_nr == 3 ? ask_holder(CLOSE) : 0;
}

int main(int argc, char **argv)
{
	static const struct steps_ops ops = { .step = step, .verify = verify };
	struct control_slot *slot;
	int err;

	if (argc != 3 || strcmp(argv[1], "--control") || control_map(argv[2], false, &ctl)) {
		fprintf(stderr, "usage: pinned --control FILE\n");
		return 2;
	}
	slot = control_take_slot(ctl, 0);
	pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		return 1;
	for (unsigned int i = 0; i < PAGES; i++)
		write_page(i);
	err = start_holder();
	if (err) {
		fprintf(stderr, "pinned: %s\n", strerror(err));
		return err == ENOSYS || err == EPERM ? 77 : 1;
	}
	steps_serve(ctl, slot, &ops);
	return 0;
}
