/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>

#include "images_dir.h"
#include "pagemap.pb-c.h"
#include "wptrack/images.h"

#define PAGE	      4096ull
#define ID	      7
#define PAGEMAP	      "pagemap-7.img"
#define PAGES	      "pages-3.img"
#define COMMON_MAGIC  0x54564319u
#define PAGEMAP_MAGIC 0x56084025u
#define PARENT	      1u
#define LAZY	      2u
#define PRESENT	      4u

struct entry {
	uint64_t page; /* number, not address */
	uint64_t nr;
	uint32_t flags;
};

#define CHAIN __attribute__((cleanup(wptrack_images_close))) struct wptrack_images

/* A directory below @at; its parent link leads to @parent unless that is NULL. Return: descriptor, -1 when it failed.
 */
static int make_round(const struct images *at, const char *name, const char *parent)
{
	int fd;

	if (mkdirat(at->fd, name, 0700))
		return -1;
	fd = openat(at->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && parent && symlinkat(parent, fd, "parent"))
		return -1;
	return fd;
}

static bool append(int fd, const void *data, size_t len)
{
	return write(fd, data, len) == (ssize_t)len;
}

static bool append_message(int fd, const ProtobufCMessage *msg)
{
	uint8_t buf[128];
	const uint32_t len = (uint32_t)protobuf_c_message_pack(msg, buf);

	return append(fd, &len, sizeof(len)) && append(fd, buf, len);
}

static int create(int dir, const char *name)
{
	return openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

/* A pagemap with its heading, for the caller to append entries to and close. */
static int begin_pagemap(int dir)
{
	const uint32_t magic[] = { COMMON_MAGIC, PAGEMAP_MAGIC };
	const int fd = create(dir, PAGEMAP);
	PagemapHead head = PAGEMAP_HEAD__INIT;

	head.pages_id = 3;
	return append(fd, magic, sizeof(magic)) && append_message(fd, &head.base) ? fd : -1;
}

static bool append_entry(int fd, uint64_t vaddr, uint64_t nr, uint32_t flags)
{
	PagemapEntry msg = PAGEMAP_ENTRY__INIT;

	msg.vaddr = vaddr;
	msg.compat_nr_pages = (uint32_t)nr;
	msg.has_nr_pages = true;
	msg.nr_pages = nr;
	msg.has_flags = true;
	msg.flags = flags;
	return append_message(fd, &msg.base);
}

static bool put_pages(int dir, unsigned int nr, uint8_t mark)
{
	const int fd = create(dir, PAGES);
	uint8_t page[PAGE];
	bool fine = fd >= 0;

	for (unsigned int i = 0; i < nr && fine; i++) {
		memset(page, mark + (int)i, sizeof(page));
		fine = append(fd, page, sizeof(page));
	}
	close(fd);
	return fine;
}

/* Images with @nr entries; the pages that are present hold @mark, @mark + 1... */
static bool put_images(int dir, const struct entry *entries, size_t nr, uint8_t mark)
{
	const int fd = begin_pagemap(dir);
	unsigned int pages = 0;
	bool fine = fd >= 0;

	for (size_t i = 0; i < nr && fine; i++) {
		fine = append_entry(fd, entries[i].page * PAGE, entries[i].nr, entries[i].flags);
		pages += entries[i].flags & PRESENT ? (unsigned int)entries[i].nr : 0;
	}
	close(fd);
	return fine && put_pages(dir, pages, mark);
}

/* The same in a directory of their own. */
static bool put_round(const struct images *at, const char *name, const char *parent, const struct entry *entries,
		      size_t nr, uint8_t mark)
{
	const int dir = make_round(at, name, parent);
	const bool fine = put_images(dir, entries, nr, mark);

	close(dir);
	return fine;
}

#define PUT(dir, mark, ...)                                    \
	put_images(dir, (const struct entry[]){ __VA_ARGS__ }, \
		   sizeof((const struct entry[]){ __VA_ARGS__ }) / sizeof(struct entry), mark)
#define PUT_ROUND(name, parent, mark, ...)                                  \
	put_round(&at, name, parent, (const struct entry[]){ __VA_ARGS__ }, \
		  sizeof((const struct entry[]){ __VA_ARGS__ }) / sizeof(struct entry), mark)

/* What the last read_all() has said, "" for nothing. */
static char last_why[WPTRACK_IMAGES_WHY_LEN];

/* Read all there is. Return: 0 at the end, or what ended it. */
static int read_all(const struct images *at, const char *name)
{
	CHAIN chain = { 0 };
	struct wptrack_piece piece;
	char path[80];
	int ret;

	snprintf(path, sizeof(path), "%s/%s", at->path, name);
	ret = wptrack_images_open(&chain, path, ID);
	while (!ret) {
		uint8_t page[PAGE];

		ret = wptrack_images_next(&chain, &piece);
		if (ret <= 0)
			break;
		ret = wptrack_images_read(&chain, &piece, page, sizeof(page));
	}
	/* Whatever is wrong is told. */
	if (ret && !chain.why[0])
		abort();
	memcpy(last_why, chain.why, sizeof(last_why));
	return ret;
}

/* The next piece is of those pages, is found at that level, and its first page holds @mark. */
static bool next_is(struct wptrack_images *chain, uint64_t page, uint64_t nr, unsigned int level, uint8_t mark)
{
	struct wptrack_piece piece;
	uint8_t buf[PAGE];

	return wptrack_images_next(chain, &piece) == 1 && piece.start == page * PAGE &&
	       piece.end == (page + nr) * PAGE && piece.level == level &&
	       !wptrack_images_read(chain, &piece, buf, sizeof(buf)) && buf[0] == mark && buf[PAGE - 1] == mark;
}

static void one_directory_is_read_in_order(void)
{
	IMAGES at = new_images();
	CHAIN chain = { 0 };
	struct wptrack_piece piece = { 0 };

	CHECK(PUT(at.fd, 10, { 1, 2, PRESENT }, { 3, 1, PRESENT | LAZY }, { 1ull << 34, 1, PRESENT }));
	CHECK_EQ(wptrack_images_open(&chain, at.path, ID), 0);
	CHECK(next_is(&chain, 1, 2, 0, 10));
	CHECK(next_is(&chain, 3, 1, 0, 12));
	CHECK(next_is(&chain, 1ull << 34, 1, 0, 13));
	CHECK_EQ(wptrack_images_next(&chain, &piece), 0);
	CHECK_EQ(piece.end, 0);
}

static void pages_left_to_the_parent_come_from_there(void)
{
	IMAGES at = new_images();
	CHAIN chain = { 0 };
	struct wptrack_piece piece;
	char path[80];

	CHECK(PUT_ROUND("1", NULL, 10, { 1, 4, PRESENT }, { 5, 4, PRESENT }, { 20, 1, PRESENT }));
	CHECK(PUT_ROUND("2", "../1", 50, { 1, 2, PARENT }, { 3, 1, PRESENT }, { 4, 3, PARENT }, { 20, 1, PRESENT }));
	CHECK(PUT_ROUND("3", "../2", 90, { 2, 4, PARENT }, { 6, 1, PRESENT }, { 20, 1, PARENT }));
	snprintf(path, sizeof(path), "%s/3", at.path);
	CHECK_EQ(wptrack_images_open(&chain, path, ID), 0);
	CHECK(next_is(&chain, 2, 1, 2, 11));
	CHECK(next_is(&chain, 3, 1, 1, 50));
	CHECK(next_is(&chain, 4, 1, 2, 13));
	CHECK(next_is(&chain, 5, 1, 2, 14));
	CHECK(next_is(&chain, 6, 1, 0, 90));
	CHECK(next_is(&chain, 20, 1, 1, 51));
	CHECK_EQ(wptrack_images_next(&chain, &piece), 0);
	snprintf(path, sizeof(path), "%s/1", at.path);
	CHECK(!strcmp(wptrack_images_path(&chain, 2), path));
}

/* A full dump may have been made because its parent is gone. */
static void parent_that_is_not_needed_is_not_opened(void)
{
	IMAGES at = new_images();

	CHECK(PUT_ROUND("1", "../nowhere", 1, { 1, 1, PRESENT }));
	CHECK_EQ(read_all(&at, "1"), 0);
	CHECK(PUT_ROUND("2", "../nowhere", 1, { 1, 1, PARENT }));
	CHECK_EQ(read_all(&at, "2"), -ENOENT);
	CHECK(PUT_ROUND("3", NULL, 1, { 1, 1, PARENT }));
	CHECK_EQ(read_all(&at, "3"), -ENOENT);
}

static void parent_links_that_lead_back_are_refused(void)
{
	IMAGES at = new_images();

	CHECK(PUT_ROUND("1", "../2", 1, { 1, 1, PARENT }));
	CHECK(PUT_ROUND("2", "../1", 1, { 1, 1, PARENT }));
	CHECK_EQ(read_all(&at, "2"), -EBADMSG);
}

static void parent_without_the_page_is_refused(void)
{
	IMAGES at = new_images();

	CHECK(PUT_ROUND("1", NULL, 1, { 1, 1, PRESENT }, { 3, 1, PRESENT }));
	CHECK(PUT_ROUND("2", "../1", 1, { 1, 3, PARENT }));
	CHECK_EQ(read_all(&at, "2"), -EBADMSG);
	CHECK(PUT_ROUND("3", "../1", 1, { 3, 2, PARENT }));
	CHECK_EQ(read_all(&at, "3"), -EBADMSG);
	CHECK(PUT_ROUND("4", "../1", 1, { 1, 1, PARENT }, { 3, 1, PARENT }));
	CHECK_EQ(read_all(&at, "4"), 0);
}

/* Before there were flags, an entry was in the parent or not, and had 32 bits for its pages. */
static void old_entries_are_understood(void)
{
	IMAGES at = new_images();
	CHAIN chain = { 0 };
	PagemapEntry here = PAGEMAP_ENTRY__INIT, there = PAGEMAP_ENTRY__INIT;
	const int dir = make_round(&at, "2", "../1");
	char path[80];
	int fd;

	CHECK(PUT_ROUND("1", NULL, 30, { 5, 2, PRESENT }));
	CHECK(put_pages(dir, 2, 10));
	here.vaddr = PAGE;
	here.compat_nr_pages = 2;
	there.vaddr = 5 * PAGE;
	there.compat_nr_pages = 2;
	there.has_in_parent = there.in_parent = true;
	fd = begin_pagemap(dir);
	CHECK(append_message(fd, &here.base) && append_message(fd, &there.base));
	close(fd);
	close(dir);
	snprintf(path, sizeof(path), "%s/2", at.path);
	CHECK_EQ(wptrack_images_open(&chain, path, ID), 0);
	CHECK(next_is(&chain, 1, 2, 0, 10));
	CHECK(next_is(&chain, 5, 2, 1, 30));
}

static int status_of(const struct images *at, uint64_t vaddr, uint64_t nr, uint32_t flags)
{
	const int fd = begin_pagemap(at->fd);
	bool fine = append_entry(fd, PAGE, 1, PRESENT) && append_entry(fd, vaddr, nr, flags);

	close(fd);
	return fine && put_pages(at->fd, 3, 1) ? read_all(at, ".") : 1;
}

static void hostile_entries_are_refused(void)
{
	IMAGES at = new_images();

	CHECK_EQ(status_of(&at, 2 * PAGE, 2, PRESENT), 0);
	CHECK_EQ(status_of(&at, 2 * PAGE, 3, PRESENT), -EBADMSG); /* more than the pages image has */
	CHECK_EQ(status_of(&at, 2 * PAGE, 0, PRESENT), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE + 1, 1, PRESENT), -EBADMSG);
	CHECK_EQ(status_of(&at, PAGE, 1, PRESENT), -EBADMSG);
	CHECK_EQ(status_of(&at, 0, 1, PRESENT), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE, 1, PRESENT | PARENT), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE, 1, LAZY), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE, 1, 0), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE, UINT64_MAX, PRESENT), -EBADMSG);
	CHECK_EQ(status_of(&at, 2 * PAGE, UINT64_MAX / PAGE, PARENT), -EBADMSG);
	CHECK_EQ(status_of(&at, -PAGE, 1, PARENT), -EBADMSG);
}

static size_t get_pagemap(const struct images *at, uint8_t *buf, size_t room)
{
	const int fd = openat(at->fd, PAGEMAP, O_RDONLY | O_CLOEXEC);
	const ssize_t len = read(fd, buf, room);

	close(fd);
	return len > 0 ? (size_t)len : 0;
}

static bool put_pagemap(const struct images *at, const uint8_t *buf, size_t len)
{
	const int fd = create(at->fd, PAGEMAP);
	const bool fine = append(fd, buf, len);

	close(fd);
	return fine;
}

static void truncation_within_an_entry_is_noticed(void)
{
	IMAGES at = new_images();
	uint8_t whole[256];
	unsigned int fine = 0;
	size_t len;

	CHECK(PUT(at.fd, 1, { 1, 1, PRESENT }, { 2, 1, PRESENT }));
	len = get_pagemap(&at, whole, sizeof(whole));
	for (size_t cut = 0; cut < len; cut++) {
		int ret;

		CHECK(put_pagemap(&at, whole, cut));
		ret = read_all(&at, ".");
		CHECK(!ret || ret == -EBADMSG);
		fine += !ret;
	}
	/* Behind the heading and behind the first entry. */
	CHECK_EQ(fine, 2);
}

static void flipped_bits_do_no_harm(void)
{
	IMAGES at = new_images();
	uint8_t whole[256];
	size_t len;

	CHECK(PUT(at.fd, 1, { 1, 1, PRESENT }, { 2, 1, PARENT }));
	len = get_pagemap(&at, whole, sizeof(whole));
	for (size_t bit = 0; bit < 8 * len; bit++) {
		whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(put_pagemap(&at, whole, len));
		CHECK(read_all(&at, ".") <= 0);
		whole[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void missing_images_are_told_as_such(void)
{
	IMAGES at = new_images();

	CHECK_EQ(read_all(&at, "nowhere"), -ENOENT);
	CHECK_EQ(read_all(&at, "."), -ENOENT);
	CHECK(PUT(at.fd, 1, { 1, 1, PRESENT }));
	CHECK_EQ(read_all(&at, "."), 0);
	CHECK_EQ(unlinkat(at.fd, PAGES, 0), 0);
	CHECK_EQ(read_all(&at, "."), -ENOENT);
}

static void oversize_length_is_refused_unread(void)
{
	IMAGES at = new_images();
	const uint8_t rest[4096] = { 0 };
	const uint32_t len = 2000;
	int fd;

	CHECK(put_pages(at.fd, 1, 1));
	fd = begin_pagemap(at.fd);
	CHECK(append(fd, &len, sizeof(len)) && append(fd, rest, sizeof(rest)));
	close(fd);
	CHECK_EQ(read_all(&at, "."), -EBADMSG);
	CHECK(strstr(last_why, "too long"));
}

static void only_regular_files_are_read(void)
{
	IMAGES at = new_images();

	CHECK_EQ(mkfifoat(at.fd, PAGEMAP, 0600), 0);
	CHECK_EQ(read_all(&at, "."), -EBADMSG);
	CHECK(strstr(last_why, "is no regular file"));
	CHECK_EQ(unlinkat(at.fd, PAGEMAP, 0), 0);
	CHECK(PUT(at.fd, 1, { 1, 1, PRESENT }));
	CHECK_EQ(unlinkat(at.fd, PAGES, 0), 0);
	CHECK_EQ(mkfifoat(at.fd, PAGES, 0600), 0);
	CHECK_EQ(read_all(&at, "."), -EBADMSG);
	CHECK(strstr(last_why, "is no regular file"));
}

static void pages_image_that_shrinks_is_noticed(void)
{
	IMAGES at = new_images();
	CHAIN chain = { 0 };
	struct wptrack_piece piece;
	uint8_t buf[2 * PAGE];

	CHECK(PUT(at.fd, 1, { 1, 2, PRESENT }));
	CHECK_EQ(wptrack_images_open(&chain, at.path, ID), 0);
	CHECK_EQ(wptrack_images_next(&chain, &piece), 1);
	CHECK(put_pages(at.fd, 1, 1));
	CHECK_EQ(wptrack_images_read(&chain, &piece, buf, sizeof(buf)), -EBADMSG);
}

static void one_huge_entry_is_one_piece(void)
{
	const uint64_t nr = 1ull << 28; /* 1 TiB */
	IMAGES at = new_images();
	CHAIN chain = { 0 };
	struct wptrack_piece piece;
	int fd;

	CHECK(put_pages(at.fd, 0, 0));
	fd = openat(at.fd, PAGES, O_WRONLY | O_CLOEXEC);
	if (ftruncate(fd, (off_t)(nr * PAGE))) {
		close(fd);
		SKIP("no file of 1 TiB is possible here");
	}
	close(fd);
	fd = begin_pagemap(at.fd);
	CHECK(append_entry(fd, PAGE, nr, PRESENT));
	close(fd);
	CHECK_EQ(wptrack_images_open(&chain, at.path, ID), 0);
	CHECK_EQ(wptrack_images_next(&chain, &piece), 1);
	CHECK_EQ(piece.end - piece.start, nr * PAGE);
	CHECK_EQ(wptrack_images_next(&chain, &piece), 0);
}

static void nothing_stays_open(void)
{
	IMAGES at = new_images();
	int before;

	CHECK(PUT_ROUND("1", NULL, 1, { 1, 1, PRESENT }));
	CHECK(PUT_ROUND("2", "../1", 1, { 1, 1, PARENT }));
	before = harness_count_fds();
	CHECK_EQ(read_all(&at, "2"), 0);
	CHECK_EQ(harness_count_fds(), before);
	CHECK_EQ(unlinkat(at.fd, "1/" PAGES, 0), 0);
	CHECK_EQ(read_all(&at, "2"), -ENOENT);
	CHECK_EQ(unlinkat(at.fd, "1/" PAGEMAP, 0), 0);
	CHECK_EQ(read_all(&at, "2"), -ENOENT);
	CHECK_EQ(harness_count_fds(), before);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(one_directory_is_read_in_order),
		TEST(pages_left_to_the_parent_come_from_there),
		TEST(parent_that_is_not_needed_is_not_opened),
		TEST(parent_links_that_lead_back_are_refused),
		TEST(parent_without_the_page_is_refused),
		TEST(old_entries_are_understood),
		TEST(hostile_entries_are_refused),
		TEST(truncation_within_an_entry_is_noticed),
		TEST(flipped_bits_do_no_harm),
		TEST(oversize_length_is_refused_unread),
		TEST(missing_images_are_told_as_such),
		TEST(only_regular_files_are_read),
		TEST(pages_image_that_shrinks_is_noticed),
		TEST(one_huge_entry_is_one_piece),
		TEST(nothing_stays_open),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
