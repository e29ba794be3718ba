// SPDX-License-Identifier: GPL-2.0-only
/*
 * libcriu-client: drive criu by its C library, as programs that are linked with it do.
 *
 *   libcriu-client [--local] CRIU feature
 *   libcriu-client [--local] [--parent DIR] [--mode NUMBER] [--rate BYTES] [--before-stop] CRIU pre-dump|dump PID DIR
 *
 * CRIU is the program, which the library runs as swrk, or the socket of a `criu service`. With
 * --local each option goes by criu_local_set_X() into options of its own, else by criu_set_X().
 * `feature` prints "live true" or "live false".
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "criu.h"

struct request {
	const char *criu;
	const char *what;
	int pid;
	const char *dir;
	const char *parent;
	int mode;
	uint64_t rate;
	bool local;
	bool before_stop;
};

static bool is_socket(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISSOCK(st.st_mode);
}

/* That tells the library how to get at it, too. */
static int set_up(const struct request *r, criu_opts *opts)
{
	if (is_socket(r->criu))
		return r->local ? criu_local_set_service_address(opts, r->criu) : criu_set_service_address(r->criu);
	return r->local ? criu_local_set_service_binary(opts, r->criu) : criu_set_service_binary(r->criu);
}

static int dump_by_local(const struct request *r, criu_opts *opts, int dir)
{
	criu_local_set_pid(opts, r->pid);
	criu_local_set_images_dir_fd(opts, dir);
	criu_local_set_track_mem(opts, true);
	criu_local_set_log_level(opts, 4);
	if (criu_local_set_log_file(opts, "criu.log") || (r->parent && criu_local_set_parent_images(opts, r->parent)))
		return -ENOMEM;
	if (r->mode && criu_local_set_pre_dump_mode(opts, (enum criu_pre_dump_mode)r->mode))
		return -EINVAL;
	if (r->rate)
		criu_local_set_pre_dump_rate(opts, r->rate);
	if (r->before_stop)
		criu_local_set_pre_dump_before_stop(opts, true);
	return !strcmp(r->what, "dump") ? criu_local_dump(opts) : criu_local_pre_dump(opts);
}

static int dump_by_global(const struct request *r, int dir)
{
	criu_set_pid(r->pid);
	criu_set_images_dir_fd(dir);
	criu_set_track_mem(true);
	criu_set_log_level(4);
	if (criu_set_log_file("criu.log") || (r->parent && criu_set_parent_images(r->parent)))
		return -ENOMEM;
	if (r->mode && criu_set_pre_dump_mode((enum criu_pre_dump_mode)r->mode))
		return -EINVAL;
	if (r->rate)
		criu_set_pre_dump_rate(r->rate);
	if (r->before_stop)
		criu_set_pre_dump_before_stop(true);
	return !strcmp(r->what, "dump") ? criu_dump() : criu_pre_dump();
}

static int feature(const struct request *r, criu_opts *opts)
{
	bool live = false;
	int err = r->local ? criu_local_feature_check_mem_track_live(opts, &live)
			   : criu_feature_check_mem_track_live(&live);

	if (!err)
		printf("live %s\n", live ? "true" : "false");
	return err;
}

static int run(const struct request *r)
{
	criu_opts *opts = NULL;
	int dir, err;

	err = r->local ? criu_local_init_opts(&opts) : criu_init_opts();
	if (!err)
		err = set_up(r, opts);
	if (!err && !strcmp(r->what, "feature")) {
		err = feature(r, opts);
	} else if (!err) {
		dir = open(r->dir, O_DIRECTORY | O_CLOEXEC);
		err = r->local ? dump_by_local(r, opts, dir) : dump_by_global(r, dir);
		close(dir);
	}
	if (opts)
		criu_local_free_opts(opts);
	return err;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "local", no_argument, NULL, 'l' },	   { "parent", required_argument, NULL, 'p' },
		{ "mode", required_argument, NULL, 'm' },  { "rate", required_argument, NULL, 'r' },
		{ "before-stop", no_argument, NULL, 'b' }, { 0 },
	};
	struct request r = { 0 };
	int c, err;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'l')
			r.local = true;
		else if (c == 'p')
			r.parent = optarg;
		else if (c == 'm')
			r.mode = atoi(optarg);
		else if (c == 'r')
			r.rate = strtoull(optarg, NULL, 10);
		else if (c == 'b')
			r.before_stop = true;
		else
			return 2;
	}
	if (argc - optind != 4 && (argc - optind != 2 || strcmp(argv[optind + 1], "feature"))) {
		fprintf(stderr, "usage: libcriu-client [OPTION...] CRIU feature|pre-dump|dump [PID DIR]\n");
		return 2;
	}
	r.criu = argv[optind];
	r.what = argv[optind + 1];
	if (argc - optind == 4) {
		r.pid = atoi(argv[optind + 2]);
		r.dir = argv[optind + 3];
	}
	err = run(&r);
	if (err)
		fprintf(stderr, "libcriu-client: %s: %d (%s)\n", r.what, err, strerror(err < 0 ? -err : err));
	return err != 0;
}
