// SPDX-License-Identifier: GPL-2.0-only
/*
 * criu-pagemap DIR PID START END: count the pages of a range in an images
 * directory: those that are in it, those left to the parent images, those that
 * are in neither, and those of the first that a lazy restore may fetch later.
 * Addresses are hexadecimal. "shmem" for PID counts all shared memory of the
 * directory together.
 *
 * criu-pagemap DIR PID --check FILE: compare with what FILE expects. Its lines
 * are "NAME START END WANT" with WANT one of
 *
 *   dumped, parent, absent	all pages are that
 *   populated			dumped, or left to the parent
 *   unchanged			left to the parent, or absent
 *   anything			whatever it is
 *
 * and each that is not so is printed.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <google/protobuf-c/protobuf-c.h>

#include "pagemap.pb-c.h"

#define COMMON_MAGIC  0x54564319u
#define PAGEMAP_MAGIC 0x56084025u
#define PAGE	      4096ull
#define SIZE_MAX_OK   (1u << 20)

/* As CRIU has them: PE_PARENT, PE_LAZY, PE_PRESENT. */
#define IN_PARENT 1u
#define LAZY	  2u
#define PRESENT	  4u

struct range {
	uint64_t start, end;
	bool in_parent, lazy;
};

struct pagemap {
	struct range *ranges;
	size_t nr;
};

struct count {
	uint64_t present, parent, absent, lazy;
};

static int fail(const char *path, const char *why)
{
	fprintf(stderr, "criu-pagemap: %s: %s\n", path, why);
	return -1;
}

/* Return: 1 and a message, the caller's; 0 at the end of the file; -1. */
static int read_message(FILE *f, uint8_t **ret_buf, uint32_t *ret_size)
{
	uint8_t *buf;
	uint32_t size;
	size_t n = fread(&size, 1, sizeof(size), f);

	if (n == 0 && feof(f))
		return 0;
	if (n != sizeof(size) || !size || size > SIZE_MAX_OK)
		return -1;
	buf = malloc(size);
	if (!buf || fread(buf, size, 1, f) != 1) {
		free(buf);
		return -1;
	}
	*ret_buf = buf;
	*ret_size = size;
	return 1;
}

static int add_entry(struct pagemap *map, const PagemapEntry *e)
{
	uint32_t flags = e->has_flags ? e->flags : e->has_in_parent && e->in_parent ? IN_PARENT : PRESENT;
	uint64_t nr = e->has_nr_pages ? e->nr_pages : e->compat_nr_pages;
	struct range *ranges = reallocarray(map->ranges, map->nr + 1, sizeof(*ranges));

	if (!ranges)
		return -1;
	map->ranges = ranges;
	/* Either it is in the images, or in the parent's. */
	if (!(flags & PRESENT) == !(flags & IN_PARENT))
		return -1;
	ranges[map->nr++] = (struct range){
		.start = e->vaddr,
		.end = e->vaddr + nr * PAGE,
		.in_parent = flags & IN_PARENT,
		.lazy = flags & LAZY,
	};
	return 0;
}

static int read_entries(FILE *f, struct pagemap *map)
{
	bool head = true;
	uint8_t *buf;
	uint32_t size;
	int ret;

	while ((ret = read_message(f, &buf, &size)) == 1) {
		PagemapEntry *e;

		/* The first one names the file with the pages. */
		if (!head) {
			e = pagemap_entry__unpack(NULL, size, buf);
			ret = e ? add_entry(map, e) : -1;
			if (e)
				pagemap_entry__free_unpacked(e, NULL);
		}
		free(buf);
		if (ret < 0)
			return ret;
		head = false;
	}
	return head ? -1 : ret;
}

static int read_pagemap(const char *path, struct pagemap *map)
{
	FILE *f = fopen(path, "re");
	uint32_t magic[2];
	int ret = -1;

	if (!f)
		return fail(path, strerror(errno));
	if (fread(magic, sizeof(magic), 1, f) == 1 && magic[0] == COMMON_MAGIC && magic[1] == PAGEMAP_MAGIC)
		ret = read_entries(f, map);
	fclose(f);
	return ret ? fail(path, "not a well-formed pagemap image") : 0;
}

/* Entries are in the order of their addresses, but nothing here relies on it. */
static struct count count_pages(const struct pagemap *map, uint64_t start, uint64_t end)
{
	struct count c = { 0 };

	for (size_t i = 0; i < map->nr; i++) {
		const struct range *r = &map->ranges[i];
		uint64_t from = r->start > start ? r->start : start, to = r->end < end ? r->end : end;

		if (from >= to)
			continue;
		if (r->in_parent)
			c.parent += (to - from) / PAGE;
		else
			c.present += (to - from) / PAGE;
		if (r->lazy)
			c.lazy += (to - from) / PAGE;
	}
	c.absent = (end - start) / PAGE - c.present - c.parent;
	return c;
}

static bool is_as_wanted(const struct count *c, const char *want)
{
	if (!strcmp(want, "anything"))
		return true;
	return !((c->present && strcmp(want, "dumped") && strcmp(want, "populated")) ||
		 (c->parent && strcmp(want, "parent") && strcmp(want, "populated") && strcmp(want, "unchanged")) ||
		 (c->absent && strcmp(want, "absent") && strcmp(want, "unchanged")));
}

static int check(const struct pagemap *map, const char *path)
{
	char line[512], name[128], want[32];
	FILE *f = fopen(path, "re");
	uint64_t start, end;
	int ret = 0;

	if (!f)
		return fail(path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		struct count c;

		if (sscanf(line, "%127s %" SCNx64 " %" SCNx64 " %31s", name, &start, &end, want) != 4)
			continue;
		c = count_pages(map, start, end);
		if (is_as_wanted(&c, want))
			continue;
		printf("%s %" PRIx64 "-%" PRIx64 ": wanted %s, but %" PRIu64 " dumped %" PRIu64 " parent %" PRIu64
		       " absent\n",
		       name, start, end, want, c.present, c.parent, c.absent);
		ret = 1;
	}
	fclose(f);
	return ret;
}

static int read_shmem(const char *dir, struct pagemap *map)
{
	DIR *d = opendir(dir);
	char path[4096];
	int ret = 0;

	if (!d)
		return fail(dir, strerror(errno));
	for (const struct dirent *e; !ret && (e = readdir(d));) {
		if (strncmp(e->d_name, "pagemap-shmem-", strlen("pagemap-shmem-")))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		ret = read_pagemap(path, map);
	}
	closedir(d);
	return ret;
}

/* Shared memory begins at 0 in each of its files: ranges overlap, and nothing can be absent. */
static void count_all(const struct pagemap *map)
{
	struct count c = { 0 };

	for (size_t i = 0; i < map->nr; i++)
		*(map->ranges[i].in_parent ? &c.parent : &c.present) += (map->ranges[i].end - map->ranges[i].start) /
									PAGE;
	printf("present %" PRIu64 "\nparent %" PRIu64 "\n", c.present, c.parent);
}

int main(int argc, char **argv)
{
	struct pagemap map = { 0 };
	bool shmem = argc == 3 && !strcmp(argv[2], "shmem");
	struct count c;
	char path[4096];
	int ret;

	if (argc != 5 && !shmem) {
		fprintf(stderr, "usage: criu-pagemap DIR PID START END | DIR PID --check FILE | DIR shmem\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/pagemap-%s.img", argv[1], argv[2]);
	ret = shmem ? read_shmem(argv[1], &map) : read_pagemap(path, &map);
	if (ret)
		return 2;
	if (shmem) {
		count_all(&map);
	} else if (!strcmp(argv[3], "--check")) {
		ret = check(&map, argv[4]);
	} else {
		c = count_pages(&map, strtoull(argv[3], NULL, 16), strtoull(argv[4], NULL, 16));
		printf("present %" PRIu64 "\nparent %" PRIu64 "\nabsent %" PRIu64 "\nlazy %" PRIu64 "\n", c.present,
		       c.parent, c.absent, c.lazy);
	}
	free(map.ranges);
	return ret < 0 ? 2 : ret;
}
