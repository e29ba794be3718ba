// SPDX-License-Identifier: GPL-2.0-only
/* What the stamp of a chain of images notices, and what it leaves alone. */
#include <errno.h>
#include <stdio.h>

#include "harness.h"
#include "images_dir.h"
#include "lib/chain.h"

static bool put(const struct images *images, const char *name, const char *text)
{
	const int fd = openat(images->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const bool fine = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return fine;
}

static bool set_time(const struct images *images, const char *name, long nsec)
{
	const struct timespec times[2] = { { 1000, nsec }, { 1000, nsec } };

	return !utimensat(images->fd, name, times, 0);
}

static uint64_t stamp_of(const struct images *images)
{
	uint64_t stamp = 0;

	return wptrack_chain_stamp(images->fd, ".", &stamp) ? 0 : stamp;
}

static bool put_all(const struct images *images)
{
	return put(images, "inventory.img", "i") && put(images, "mm-1.img", "m") && put(images, "pagemap-1.img", "p") &&
	       put(images, "pages-1.img", "pages");
}

static void a_change_of_each_memory_image_is_noticed(void)
{
	static const char *const names[] = { "inventory.img", "mm-1.img", "pagemap-1.img", "pages-1.img" };
	IMAGES images = new_images();
	uint64_t before;

	CHECK(put_all(&images));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK(set_time(&images, names[i], 1));
		before = stamp_of(&images);
		CHECK(before);
		CHECK(before == stamp_of(&images));
		CHECK(set_time(&images, names[i], 2));
		CHECK(before != stamp_of(&images));
		CHECK(set_time(&images, names[i], 1));
		CHECK(before == stamp_of(&images));
		CHECK(put(&images, names[i], "longer than before"));
		CHECK(set_time(&images, names[i], 1));
		CHECK(before != stamp_of(&images));
		before = stamp_of(&images);
		CHECK(!unlinkat(images.fd, names[i], 0));
		CHECK(before != stamp_of(&images));
	}
}

static void a_file_that_takes_the_place_of_another_is_noticed(void)
{
	IMAGES images = new_images();
	uint64_t before;

	CHECK(put_all(&images));
	CHECK(put(&images, "other", "pages"));
	CHECK(set_time(&images, "pages-1.img", 1) && set_time(&images, "other", 1));
	before = stamp_of(&images);
	CHECK(!renameat(images.fd, "other", images.fd, "pages-1.img"));
	CHECK(before != stamp_of(&images));
}

static void logs_and_other_images_are_left_alone(void)
{
	IMAGES images = new_images();
	uint64_t before;

	CHECK(put_all(&images));
	before = stamp_of(&images);
	CHECK(put(&images, "restore.log", "x") && put(&images, "stats-restore", "x") && put(&images, "core-1.img", "x") &&
	      put(&images, WPTRACK_RECORD_NAME, "x"));
	CHECK(before == stamp_of(&images));
}

static void the_directories_behind_are_looked_at(void)
{
	IMAGES first = new_images();
	IMAGES last = new_images();
	uint64_t before, other, linked;

	CHECK(put_all(&first) && put_all(&last));
	before = stamp_of(&last);
	CHECK(!symlinkat(first.path, last.fd, "parent"));
	linked = stamp_of(&last);
	CHECK(linked && linked != before);
	CHECK(!wptrack_chain_stamp(last.fd, "parent", &other));
	CHECK(other == stamp_of(&first));
	CHECK(set_time(&first, "pages-1.img", 1));
	CHECK(linked != stamp_of(&last));
}

static void what_cannot_be_looked_at_has_no_stamp(void)
{
	IMAGES images = new_images();
	uint64_t stamp = 0;

	CHECK(put_all(&images));
	CHECK_EQ(wptrack_chain_stamp(images.fd, "parent", &stamp), -ENOENT);
	CHECK(!symlinkat("pages-1.img", images.fd, "parent"));
	CHECK_EQ(wptrack_chain_stamp(images.fd, ".", &stamp), -ENOTDIR);
	CHECK(!unlinkat(images.fd, "parent", 0));
	/* A ring. */
	CHECK(!symlinkat(".", images.fd, "parent"));
	CHECK_EQ(wptrack_chain_stamp(images.fd, ".", &stamp), -ELOOP);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(a_change_of_each_memory_image_is_noticed),
		TEST(a_file_that_takes_the_place_of_another_is_noticed),
		TEST(logs_and_other_images_are_left_alone),
		TEST(the_directories_behind_are_looked_at),
		TEST(what_cannot_be_looked_at_has_no_stamp),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
