// SPDX-License-Identifier: GPL-2.0-only
/*
 * criu-stats FILE [FIELD]: print CRIU's stats-dump or stats-restore image as
 * "field value" lines, or one field's value alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <google/protobuf-c/protobuf-c.h>

#include "stats.pb-c.h"

#define SERVICE_MAGIC 0x55105940u
#define STATS_MAGIC   0x57093306u
#define SIZE_MAX_OK   (1u << 20)

struct image_head {
	uint32_t service;
	uint32_t kind;
	uint32_t size;
};

static int fail(const char *path, const char *why)
{
	fprintf(stderr, "criu-stats: %s: %s\n", path, why);
	return 1;
}

/* Read the framed message. Return: NULL or a buffer of head->size bytes, the caller's. */
static uint8_t *read_payload(const char *path, struct image_head *head, const char **ret_why)
{
	FILE *f = fopen(path, "re");
	uint8_t *buf = NULL;

	*ret_why = "not a statistics image";
	if (!f) {
		*ret_why = strerror(errno);
		return NULL;
	}
	if (fread(head, sizeof(*head), 1, f) == 1 && head->service == SERVICE_MAGIC && head->kind == STATS_MAGIC &&
	    head->size > 0 && head->size < SIZE_MAX_OK) {
		buf = malloc(head->size);
		if (buf && fread(buf, head->size, 1, f) != 1) {
			free(buf);
			buf = NULL;
		}
	}
	fclose(f);
	return buf;
}

/* A field as a number. Return: false when it is absent or no number. */
static bool field_value(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *fd, uint64_t *ret)
{
	const char *base = (const char *)msg;
	uint32_t narrow;

	if (fd->label == PROTOBUF_C_LABEL_OPTIONAL) {
		protobuf_c_boolean has;

		memcpy(&has, base + fd->quantifier_offset, sizeof(has));
		if (!has)
			return false;
	} else if (fd->label != PROTOBUF_C_LABEL_REQUIRED) {
		return false;
	}
	switch (fd->type) {
	case PROTOBUF_C_TYPE_UINT64:
		memcpy(ret, base + fd->offset, sizeof(*ret));
		return true;
	case PROTOBUF_C_TYPE_UINT32:
		memcpy(&narrow, base + fd->offset, sizeof(narrow));
		*ret = narrow;
		return true;
	default:
		return false;
	}
}

/* Return: number of fields printed. */
static unsigned int print_fields(const ProtobufCMessage *msg, const char *only)
{
	unsigned int printed = 0;
	uint64_t value;

	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *fd = &msg->descriptor->fields[i];

		if ((only && strcmp(only, fd->name)) || !field_value(msg, fd, &value))
			continue;
		if (only)
			printf("%" PRIu64 "\n", value);
		else
			printf("%s %" PRIu64 "\n", fd->name, value);
		printed++;
	}
	return printed;
}

int main(int argc, char **argv)
{
	unsigned int printed = 0;
	struct image_head head;
	StatsEntry *stats;
	const char *why;
	uint8_t *buf;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: criu-stats FILE [FIELD]\n");
		return 2;
	}
	buf = read_payload(argv[1], &head, &why);
	if (!buf)
		return fail(argv[1], why);
	stats = stats_entry__unpack(NULL, head.size, buf);
	free(buf);
	if (!stats)
		return fail(argv[1], "not a well-formed statistics message");
	if (stats->dump)
		printed += print_fields(&stats->dump->base, argc == 3 ? argv[2] : NULL);
	if (stats->restore)
		printed += print_fields(&stats->restore->base, argc == 3 ? argv[2] : NULL);
	stats_entry__free_unpacked(stats, NULL);
	if (!printed)
		return fail(argv[1], argc == 3 ? "no such field" : "empty");
	return 0;
}
