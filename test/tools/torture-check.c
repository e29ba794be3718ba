// SPDX-License-Identifier: GPL-2.0-only
/*
 * torture-check ORACLE DIR EPOCH MODE: compare what a round wrote with what the
 * torture program did (oracle.h). EPOCH is the one the round lies in, MODE is
 * splice, read, live or dump.
 *
 * A page that was written since the round before and is left to the parent is
 * missing, and so is one that has been there for long and is in no image. A page
 * that is dumped though neither written nor disturbed is extra. In live mode, one
 * that has been there for long and is in no image is left for later. Prints
 *
 *	dumped N parent N missing N extra N judged N later N
 *
 * and a line for each of the first missing pages. Exit status: 0, 1 if a page
 * is missing, 2 if the comparison could not be made.
 *
 * torture-check ORACLE operations|moves: how many operations the program has
 * done, or how many of its mremap() calls have failed half-way.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pagemap.pb-c.h"

#include "../programs/oracle.h"

#define IMG_COMMON_MAGIC 0x54564319u
#define PAGEMAP_MAGIC	 0x56084025u
#define ENTRY_MAX	 4096u
#define PE_PARENT	 1u
#define SHOWN		 10u

enum fate { ABSENT, DUMPED, PARENT };

struct sums {
	uint64_t dumped, parent, missing, extra, judged, later;
};

static uint8_t fate[ORACLE_WINDOWS][ORACLE_PAGES];

static void mark(uint64_t vaddr, uint64_t nr_pages, enum fate what)
{
	for (uint64_t i = 0; i < nr_pages; i++) {
		uint64_t offset = vaddr + i * ORACLE_PAGE - ORACLE_BASE;
		uint64_t window = offset / ORACLE_STRIDE, page = offset % ORACLE_STRIDE / ORACLE_PAGE;

		if (vaddr + i * ORACLE_PAGE >= ORACLE_BASE && window < ORACLE_WINDOWS && page < ORACLE_PAGES)
			fate[window][page] = what;
	}
}

/* Return: 1, 0 at the end, -1 for an image that is none. */
static int read_entry(FILE *f, uint8_t *buf, uint32_t *ret_len)
{
	size_t n = fread(ret_len, 1, sizeof(*ret_len), f);

	if (!n)
		return 0;
	if (n != sizeof(*ret_len) || *ret_len > ENTRY_MAX || fread(buf, 1, *ret_len, f) != *ret_len)
		return -1;
	return 1;
}

/* Return: 0, -ENOENT if the process is not in the images, -EBADMSG. */
static int read_pagemap(const char *dir, uint32_t pid)
{
	uint32_t magic[2], len;
	uint8_t buf[ENTRY_MAX];
	char path[4096];
	int ret;
	FILE *f;

	memset(fate, ABSENT, sizeof(fate));
	snprintf(path, sizeof(path), "%s/pagemap-%u.img", dir, pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	ret = fread(magic, sizeof(magic), 1, f) == 1 && magic[0] == IMG_COMMON_MAGIC && magic[1] == PAGEMAP_MAGIC &&
			      read_entry(f, buf, &len) == 1 ?
		      0 :
		      -EBADMSG;
	while (!ret) {
		PagemapEntry *entry;
		int more = read_entry(f, buf, &len);

		if (more <= 0) {
			ret = more ? -EBADMSG : 0;
			break;
		}
		entry = pagemap_entry__unpack(NULL, len, buf);
		if (!entry) {
			ret = -EBADMSG;
			break;
		}
		mark(entry->vaddr, entry->has_nr_pages ? entry->nr_pages : entry->compat_nr_pages,
		     entry->has_flags && (entry->flags & PE_PARENT) ? PARENT : DUMPED);
		pagemap_entry__free_unpacked(entry, NULL);
	}
	fclose(f);
	return ret;
}

/* Was it touched in one of the epochs @from to @to, both included? */
static bool was(uint32_t bits, uint32_t last, uint32_t from, uint32_t to)
{
	for (uint32_t epoch = from; epoch <= to; epoch++)
		if (epoch <= last && last - epoch < 16 && (bits >> (last - epoch) & 1))
			return true;
	return false;
}

static void complain(struct sums *sums, unsigned int window, unsigned int i, const char *what,
		     const struct oracle_page *page)
{
	if (sums->missing++ >= SHOWN)
		return;
	fprintf(stderr,
		"missing: window %u page %u (%" PRIx64 "): %s; map %u state %u prot %u, last touched in epoch %u, "
		"written %x, disturbed %x\n",
		window, i, oracle_window(window) + (uint64_t)i * ORACLE_PAGE, what, (unsigned int)page->want.map,
		(unsigned int)page->want.state, (unsigned int)page->want.prot, page->journal.epoch,
		page->journal.written, page->journal.disturbed);
}

static void judge_page(struct sums *sums, const struct oracle_proc *proc, unsigned int window, unsigned int i,
		       uint32_t epoch, const char *mode)
{
	struct oracle_page page = {
		.want_bits = atomic_load(&proc->page[window][i].want_bits),
	};
	struct oracle_journal *journal = &page.journal;
	uint32_t born = atomic_load(&proc->born);

	page.journal_bits = atomic_load(&proc->page[window][i].journal_bits);
	sums->judged++;
	if (fate[window][i] == PARENT) {
		sums->parent++;
		if (born < epoch - 1 && was(journal->written, journal->epoch, epoch - 1, epoch - 1))
			complain(sums, window, i, "written, but left to the parent", &page);
		return;
	}
	if (fate[window][i] == ABSENT) {
		/*
		 * A pre-dump in read mode leaves out what it cannot read, one of a running
		 * program mappings that change meanwhile.
		 */
		if (journal->epoch >= epoch || born >= epoch || page.want.map == ORACLE_NONE ||
		    page.want.state != ORACLE_DATA)
			return;
		if (!strcmp(mode, "live"))
			sums->later++;
		else if (strcmp(mode, "read") || page.want.prot != ORACLE_NO)
			complain(sums, window, i, "has content, but is not in the images", &page);
		return;
	}
	sums->dumped++;
	/* Copied pages of file mappings are dumped in every round, unreadable ones in every dump. */
	if (born + 2 < epoch && page.want.map != ORACLE_FILE_PRIVATE &&
	    !(!strcmp(mode, "dump") && page.want.prot == ORACLE_NO) &&
	    !was(journal->written | journal->disturbed, journal->epoch, epoch - 2, epoch + 2))
		sums->extra++;
}

static int judge_process(struct sums *sums, const struct oracle_proc *proc, const char *dir, uint32_t epoch,
			 const char *mode)
{
	uint32_t pid = atomic_load(&proc->pid);
	int err;

	if (!pid)
		return 0;
	err = read_pagemap(dir, pid);
	if (err == -ENOENT)
		return 0; /* it came later */
	if (err) {
		fprintf(stderr, "torture-check: pagemap-%u.img in %s cannot be read: %s\n", pid, dir, strerror(-err));
		return err;
	}
	for (unsigned int window = 0; window < ORACLE_WINDOWS; window++)
		for (unsigned int i = 0; i < ORACLE_PAGES; i++)
			judge_page(sums, proc, window, i, epoch, mode);
	return 0;
}

static void print_sum(const struct oracle *oracle, bool operations)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < ORACLE_PROCS; i++)
		sum += atomic_load(operations ? &oracle->proc[i].ops : &oracle->proc[i].lost_moves);
	printf("%" PRIu64 "\n", sum);
}

int main(int argc, char **argv)
{
	struct sums sums = { 0 };
	struct oracle *oracle;
	uint32_t epoch;
	int fd;

	if (argc != 5 && (argc != 3 || (strcmp(argv[2], "operations") && strcmp(argv[2], "moves")))) {
		fprintf(stderr, "usage: torture-check ORACLE DIR EPOCH splice|read|live|dump\n"
				"       torture-check ORACLE operations|moves\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	oracle = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*oracle), PROT_READ, MAP_SHARED, fd, 0);
	if (oracle == MAP_FAILED || oracle->magic != ORACLE_MAGIC) {
		fprintf(stderr, "torture-check: %s is no oracle\n", argv[1]);
		return 2;
	}
	if (argc == 3) {
		print_sum(oracle, !strcmp(argv[2], "operations"));
		return 0;
	}

	epoch = (uint32_t)strtoul(argv[3], NULL, 10);
	for (unsigned int i = 0; i < ORACLE_PROCS; i++)
		if (judge_process(&sums, &oracle->proc[i], argv[2], epoch, argv[4]))
			return 2;

	printf("dumped %" PRIu64 " parent %" PRIu64 " missing %" PRIu64 " extra %" PRIu64 " judged %" PRIu64
	       " later %" PRIu64 "\n",
	       sums.dumped, sums.parent, sums.missing, sums.extra, sums.judged, sums.later);
	return sums.missing ? 1 : 0;
}
