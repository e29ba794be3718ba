// SPDX-License-Identifier: GPL-2.0-only
#include <unistd.h>

#include "page.h"

uint64_t wptrack_page_bytes(void)
{
	static uint64_t bytes;

	if (!bytes)
		bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	return bytes;
}
