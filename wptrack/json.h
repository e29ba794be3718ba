/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What wptrack writes with --json: an object in a line, built by json-c from its
 * root down. Without memory for it there is nothing to be told: the program ends.
 */
#ifndef WPTRACK_JSON_H
#define WPTRACK_JSON_H

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/wire.h"

/* To be printed, which frees it, with all that has been added to it. */
struct json_object *wptrack_json_new(void);

/* A string; what is not UTF-8 becomes U+FFFD, byte by byte. NULL is null. */
struct json_object *wptrack_json_string(const char *text);

void wptrack_json_add_string(struct json_object *to, const char *key, const char *text);
void wptrack_json_add_number(struct json_object *to, const char *key, uint64_t number);
void wptrack_json_add_bool(struct json_object *to, const char *key, bool value);
void wptrack_json_add_null(struct json_object *to, const char *key);

/* With @decimals digits behind the point. */
void wptrack_json_add_decimal(struct json_object *to, const char *key, double number, int decimals);

/* @refused as an object of the reasons that occur. */
void wptrack_json_add_refused(struct json_object *to, const char *key, const uint32_t refused[WPTRACK_REFUSED_NR]);

/* An empty list, which belongs to @to. */
struct json_object *wptrack_json_add_list(struct json_object *to, const char *key);

/* The next of a list: an empty object, which belongs to the list, or a string. */
struct json_object *wptrack_json_append(struct json_object *list);
void wptrack_json_append_string(struct json_object *list, const char *text);

/* Write it to stdout, as a line, and free it. */
void wptrack_json_print(struct json_object *object);

#endif
