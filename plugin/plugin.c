// SPDX-License-Identifier: GPL-2.0-only
/*
 * CRIU's side of the tracker: the hooks, and nothing else.
 *
 * The plugin may find itself in a CRIU that has no memory tracking hooks, or
 * other ones. It then keeps out: it must not even name more hooks than that
 * CRIU knows, which would refuse to load it and to start.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "criu.h"

#include "caps.h"
#include "track.h"

#undef LOG_PREFIX
#define LOG_PREFIX "wptrack: "

_Static_assert(CR_PLUGIN_HOOK__MEM_TRACK_PROBE > CR_PLUGIN_HOOK__POST_FORKING + 32,
	       "the hooks must keep clear of those that other releases of CRIU add");

static struct wptrack_round round = { .keeper = -1 };
static bool started;
static int stage;

static bool host_has_hooks(void)
{
	const unsigned int *abi = dlsym(RTLD_DEFAULT, "cr_mem_track_abi");

	return abi && *abi == CR_MEM_TRACK_ABI;
}

static int wptrack_init(int init_stage)
{
	const char *missing;

	stage = init_stage;
	if (stage == CR_PLUGIN_STAGE__RESTORE)
		return 0;

	if (!host_has_hooks())
		pr_warn("this criu has no hooks for it, so memory tracking is not taken over\n");
	else if (wptrack_caps_probe(&missing))
		pr_warn("this kernel lacks %s, so memory tracking is not taken over\n", missing);
	return 0;
}

static int wptrack_probe(unsigned int abi, const char **ret_lacks)
{
	if (abi != CR_MEM_TRACK_ABI || wptrack_caps_probe(ret_lacks))
		return -ENOTSUP;
	return CR_MEM_TRACK_ABI;
}

static int wptrack_start(bool track, bool has_parent)
{
	started = true;
	if (stage == CR_PLUGIN_STAGE__RESTORE)
		return wptrack_track_start_restore(&round, criu_get_image_dir());
	return wptrack_track_start(&round, criu_get_image_dir(), track, has_parent);
}

static int wptrack_attach(struct cr_mem_track_task *task)
{
	return wptrack_track_attach(&round, task);
}

static int wptrack_collect(struct cr_mem_track_collect *req)
{
	return wptrack_track_collect(&round, req);
}

static int wptrack_forget(int pid, uint64_t start, uint64_t end)
{
	return wptrack_track_forget(&round, pid, start, end);
}

static int wptrack_finish(bool ok, bool keep)
{
	if (!started)
		return 0;

	started = false;
	return wptrack_track_finish(&round, criu_get_image_dir(), stage == CR_PLUGIN_STAGE__DUMP, ok, keep);
}

static void wptrack_exit(int exit_stage, int ret)
{
	(void)exit_stage;
	(void)ret;
	wptrack_finish(false, true);
}

CR_PLUGIN_REGISTER("wptrack", wptrack_init, wptrack_exit)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_PROBE, wptrack_probe)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_START, wptrack_start)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_ATTACH, wptrack_attach)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_COLLECT, wptrack_collect)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_FORGET, wptrack_forget)
CR_PLUGIN_REGISTER_HOOK(CR_PLUGIN_HOOK__MEM_TRACK_FINISH, wptrack_finish)

/* Before CRIU looks at the descriptor. It has none of the hooks of any CRIU that is not ours. */
static void __attribute__((constructor)) wptrack_meet_host(void)
{
	if (!host_has_hooks())
		CR_PLUGIN_DESC.max_hooks = 0;
}
