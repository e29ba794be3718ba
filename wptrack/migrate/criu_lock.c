// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu_inventory.pb-c.h"
#include "criu_lock.h"
#include "criu_run.h"
#include "lib/cleanup.h"

#define INVENTORY_MAGIC 0x58313116u
#define PAYLOAD_MAX	8192u

/* CRIU 4.2.1 has "inet CRIU-" and the rest in a buffer of 32 bytes. */
#define SHORT_ID_LEN 21

#define ANSWER_BYTES 8192

static void free_entry(Wptrack__CriuInventoryEntry **entry)
{
	if (*entry)
		wptrack__criu_inventory_entry__free_unpacked(*entry, NULL);
}

/* Return: the inventory, or NULL with errno. */
static Wptrack__CriuInventoryEntry *read_inventory(const char *dir)
{
	Wptrack__CriuInventoryEntry *entry = NULL;
	struct {
		uint32_t kind, bytes; /* it alone has no common magic in front */
	} head = { 0 };
	uint8_t payload[PAYLOAD_MAX];
	char path[PATH_MAX + 16];
	FILE *f WPTRACK_CLEANUP(wptrack_close_file) = NULL;

	snprintf(path, sizeof(path), "%s/inventory.img", dir);
	f = fopen(path, "re");
	if (!f)
		return NULL;
	errno = EBADMSG;
	if (fread(&head, sizeof(head), 1, f) == 1 && head.kind == INVENTORY_MAGIC && head.bytes <= sizeof(payload) &&
	    fread(payload, 1, head.bytes, f) == head.bytes)
		entry = wptrack__criu_inventory_entry__unpack(NULL, head.bytes, payload);
	return entry;
}

/* Return: 0, -ENOENT when there is no such table, or -errno. */
static int delete_table(const char *id, int id_len)
{
	char table[64], answer[ANSWER_BYTES];
	char *const argv[] = { (char *)"nft", (char *)"delete", (char *)"table", (char *)"inet", table, NULL };
	int status;

	snprintf(table, sizeof(table), "CRIU-%.*s", id_len, id);
	status = wptrack_run_question(argv, answer, sizeof(answer));
	if (status < 0)
		return status;
	return wptrack_run_succeeded(status) ? 0 : -ENOENT;
}

int wptrack_criu_unlock(const char *dir)
{
	Wptrack__CriuInventoryEntry *entry WPTRACK_CLEANUP(free_entry) = read_inventory(dir);
	int err;

	if (!entry)
		return -errno;
	if (!entry->dump_criu_run_id)
		return -EBADMSG;
	err = delete_table(entry->dump_criu_run_id, (int)strlen(entry->dump_criu_run_id));
	return err == -ENOENT ? delete_table(entry->dump_criu_run_id, SHORT_ID_LEN) : err;
}
