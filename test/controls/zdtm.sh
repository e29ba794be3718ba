#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The runner of zdtm is a test, too: does it notice?
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ZDTM_LINES=1 MODE=pre FLAVORS=h SET=own TESTS='wptrack/moved_back_between_neighbours$' exec "$here/scripts/zdtm.sh"
