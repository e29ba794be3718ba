// SPDX-License-Identifier: GPL-2.0-only
/* What is read of the machine's counts of pinned memory. */
#include <errno.h>

#include "harness.h"
#include "lib/pins.h"

static void counts_are_read_wherever_they_stand(void)
{
	uint64_t acquired = 0, released = 0;

	CHECK_EQ(wptrack_pins_parse_vmstat("nr_free_pages 5\nnr_foll_pin_acquired 4294967300\nnr_foll_pin_released 7\n"
					   "nr_kernel_misc_reclaimable 0\n",
					   &acquired, &released),
		 0);
	CHECK_EQ(acquired, 4294967300);
	CHECK_EQ(released, 7);
}

static void counts_that_are_missing_are_no_zeroes(void)
{
	uint64_t acquired = 1, released = 2;

	CHECK_EQ(wptrack_pins_parse_vmstat("nr_free_pages 5\nnr_foll_pin_acquired 3\n", &acquired, &released), -EBADMSG);
	CHECK_EQ(wptrack_pins_parse_vmstat("\nnr_foll_pin_released 3\n", &acquired, &released), -EBADMSG);
	CHECK_EQ(wptrack_pins_parse_vmstat("", &acquired, &released), -EBADMSG);
	CHECK_EQ(wptrack_pins_parse_vmstat("\nnr_foll_pin_acquired x\nnr_foll_pin_released 0\n", &acquired, &released),
		 -EBADMSG);
	CHECK_EQ(acquired, 1);
	CHECK_EQ(released, 2);
}

static void filesystems_that_miscount_are_known_by_their_whole_names(void)
{
	CHECK(!wptrack_pins_miscounted(""));
	CHECK(!wptrack_pins_miscounted("nodev\tsysfs\n\text4\n\txfs\nnodev\tvirtiofs\n"));
	CHECK(!wptrack_pins_miscounted("nodev\tvfatty\n\tmyvfat\n"));
	CHECK(wptrack_pins_miscounted("nodev\tsysfs\n\tvfat\n\text4\n"));
	CHECK(wptrack_pins_miscounted("\tudf"));
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(counts_are_read_wherever_they_stand),
		TEST(counts_that_are_missing_are_no_zeroes),
		TEST(filesystems_that_miscount_are_known_by_their_whole_names),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
