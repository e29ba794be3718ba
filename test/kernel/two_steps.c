// SPDX-License-Identifier: GPL-2.0-only
/* The same of the function for memory of which little has been written: each test has to come out the same. */
#define COLLECT wptrack_pagemap_collect_changes
#include "tracking.c"
