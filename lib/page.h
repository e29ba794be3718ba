/* SPDX-License-Identifier: GPL-2.0-only */
/* How large a page is, and where the addresses of a program end. */
#ifndef WPTRACK_PAGE_H
#define WPTRACK_PAGE_H

#include <stdint.h>

/* Asked of the system once. CRIU's images count in these pages, too. */
uint64_t wptrack_page_bytes(void);

/*
 * The end of all addresses that a program has if it does not ask for higher ones
 * (x86-64 with four levels of page tables; with five, only mmap() with a hint
 * above gives such). The last page below is never the program's.
 */
#define WPTRACK_USER_END (1ull << 47)

#endif
