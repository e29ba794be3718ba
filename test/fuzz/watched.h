/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes the keeper waits for the end of. */
#ifndef WPTRACK_TEST_FUZZ_WATCHED_H
#define WPTRACK_TEST_FUZZ_WATCHED_H

#include <sys/epoll.h>

#include "fuzz.h"
#include "keeper/table.h"
#include "targets.h"

/* What is released for later stays watched, until it has exited. */
static inline void close_released_of(struct wptrack_table *table, int32_t pid)
{
	const struct wptrack_entry *entry = table->released;

	while (entry && entry->info.pid != pid)
		entry = entry->next_released;
	MUST(entry);
	wptrack_table_ended(table, pid);
}

/* What is let go must be watched no longer, though others have the descriptor. */
static inline void check_watched(struct wptrack_table *table)
{
	struct epoll_event events[TARGETS + 1];
	const int nr = epoll_wait(table->epfd, events, TARGETS + 1, 0);

	for (int i = 0; i < nr; i++) {
		unsigned int at = 0;

		while (at < table->nr && table->entries[at]->info.pid != (int32_t)events[i].data.u64)
			at++;
		MUST(events[i].data.u64 & WPTRACK_EVENT_TASK);
		if (at == table->nr)
			close_released_of(table, (int32_t)events[i].data.u64);
	}
}

#endif
