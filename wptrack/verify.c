/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wptrack verify: compare the images of a process with its memory.
 *
 * What the last round has reset and the kernel still calls clean must be in the
 * images as it is in memory: the next round would leave it to them. The rest may
 * differ. Both sides are sorted, so they are walked side by side.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cmd.h"
#include "images.h"
#include "json.h"
#include "lib/chain.h"
#include "lib/cleanup.h"
#include "lib/page.h"
#include "lib/pins.h"
#include "lib/proc.h"
#include "lib/session.h"
#include "populated.h"
#include "stopped.h"

/* Compared at a time: whole pages, however large they are. */
#define CHUNK_BYTES (256ull * 1024)

/* No CPU has a number as great. */
#define CPUS_MAX 8192

/* Ranges that are told one by one; the pages of the others are only counted. */
#define WRONG_SHOWN 100
/* A SIGSTOP has that long to take effect. */
#define STOP_TAKES_MS 2000

enum wrong_kind {
	WRONG_CONTENT,
	WRONG_MISSING, /* in no image */
	WRONG_GONE,    /* only in the images */
};

struct wrong {
	uint64_t start;
	uint64_t end;
	enum wrong_kind kind;
	unsigned int level; /* of the images that have it */
};

struct options {
	const char *path;
	int32_t pid;
	uint32_t image_id;
	bool exact;
	bool json;
};

/* Counts are in pages. */
struct verification {
	struct options opt;
	struct wptrack_task task;
	struct wptrack_images images;
	struct wptrack_populated pop;
	int mem;
	uint64_t droppable_vma; /* one that is known to be */
	uint64_t not_droppable_vma;

	uint64_t same, same_clean;
	uint64_t changed, changed_untracked;
	uint64_t fresh, gone, zero, rseq, wrong;
	struct wrong ranges[WRONG_SHOWN];
	unsigned int nr_ranges;
	uint64_t pages_shown;

	uint8_t in_images[CHUNK_BYTES];
	uint8_t in_memory[CHUNK_BYTES];
};

#define cannot(...) wptrack_cmd_cannot("verify", WPTRACK_EXIT_UNKNOWN, __VA_ARGS__)

/* ---------------------------------------------------------------- tracking */

/* Return: 0, -ENOENT when the keeper does not have the process, or -errno. */
static int ask_keeper(const struct wptrack_task *task, struct wptrack_task *ret)
{
	int sk WPTRACK_CLEANUP(wptrack_close_fd) = -1;
	int err = wptrack_wire_connect(&sk);

	for (uint32_t index = 0; !err; index++) {
		struct wptrack_msg msg = { .op = WPTRACK_OP_LIST, .index = index };

		err = wptrack_wire_call(sk, &msg, NULL, 0, NULL);
		if (!err && msg.task.pid == task->pid && msg.task.pid_ns == wptrack_wire_pid_ns() &&
		    msg.task.start_time == task->start_time && msg.task.mm_stamp == task->mm_stamp) {
			*ret = msg.task;
			return 0;
		}
	}
	return err;
}

/*
 * What the kernel calls clean has not been written since the round that was
 * committed last: this says something of the images only if they are that round's.
 */
static int check_tracking(const struct verification *v)
{
	struct wptrack_record *rec WPTRACK_CLEANUP(wptrack_record_end) = NULL;
	int dir WPTRACK_CLEANUP(wptrack_close_fd) = open(v->opt.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct wptrack_record_task *then;
	struct wptrack_task known;
	enum wptrack_pins pins;
	uint64_t stamp = 0;
	bool is_last;
	int err;

	err = dir < 0 ? -errno : wptrack_record_read(dir, ".", &rec);
	if (err)
		return cannot("%s/" WPTRACK_RECORD_NAME ": %s: only --exact can judge these images", v->opt.path,
			      err == -EBADMSG ? "damaged or of another version" : strerror(-err));
	err = ask_keeper(&v->task, &known);
	if (err == -ENOENT)
		return cannot("process %" PRId32 " is not tracked: only --exact can judge it", v->opt.pid);
	if (err)
		return cannot("%s: %s", wptrack_wire_run_dir(), strerror(-err));

	then = wptrack_record_find(rec, v->opt.pid);
	if (known.base) {
		is_last = !wptrack_chain_stamp(dir, ".", &stamp) && stamp == known.base;
		then = NULL;
	} else {
		is_last = then && then->info.mm_id == known.mm_id;
	}
	if (!is_last || !known.generation || rec->generation != known.generation ||
	    memcmp(rec->session, known.session, sizeof(rec->session)))
		return cannot("%s is not the round committed last for process %" PRId32
			      ", what has been written since is not known",
			      v->opt.path, v->opt.pid);
	wptrack_pins_start();
	pins = wptrack_pins_of(v->opt.pid);
	wptrack_pins_stop();
	if ((then && (then->basis == WPTRACK_BASIS_UNTRUSTED || then->basis == WPTRACK_BASIS_UNTRACKED)) ||
	    (pins != WPTRACK_PINS_NONE && pins != WPTRACK_PINS_NEVER) || wptrack_proc_has_io_uring(v->opt.pid))
		return cannot("process %" PRId32 " has memory that is written to unseen (pinned, asynchronous I/O): "
			      "only --exact can judge it",
			      v->opt.pid);
	return 0;
}

/* ---------------------------------------------------------------- comparing */

static void note_wrong(struct verification *v, uint64_t addr, enum wrong_kind kind, unsigned int level)
{
	struct wrong *last = v->nr_ranges ? &v->ranges[v->nr_ranges - 1] : NULL;

	v->wrong++;
	if (last && last->end == addr && last->kind == kind && last->level == level) {
		last->end += wptrack_page_bytes();
		v->pages_shown++;
	} else if (v->nr_ranges < WRONG_SHOWN) {
		v->ranges[v->nr_ranges++] = (struct wrong){ addr, addr + wptrack_page_bytes(), kind, level };
		v->pages_shown++;
	}
}

/* Read up to a chunk of whole pages. */
static int read_memory(struct verification *v, uint64_t start, uint64_t bytes)
{
	uint64_t done = 0;

	while (done < bytes) {
		const ssize_t got = pread(v->mem, v->in_memory + done, bytes - done, (off_t)(start + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return cannot("process %" PRId32 ": %" PRIx64 " cannot be read: %s", v->opt.pid, start + done,
				      strerror(errno));
		if (got == 0)
			return cannot("process %" PRId32 " has gone", v->opt.pid);
		done += (uint64_t)got;
	}
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, wptrack_page_bytes() - 1);
}

/*
 * CRIU lets a task run a little after its memory has been copied, if only in
 * CRIU's own code, and the kernel then tells it its CPU in struct rseq: 32 bytes,
 * aligned, of which the CPU twice, the node and mm_cid are the kernel's.
 */
static bool differ_in_rseq_alone(const uint8_t *image, const uint8_t *memory)
{
	uint32_t then[8], now[8];
	uint64_t at = 0;

	while (!memcmp(image + at, memory + at, sizeof(then)))
		at += sizeof(then);
	memcpy(then, image + at, sizeof(then));
	memcpy(now, memory + at, sizeof(now));
	at += sizeof(then);
	return then[0] == then[1] && now[0] == now[1] && then[0] < CPUS_MAX && now[0] < CPUS_MAX &&
	       !memcmp(&then[2], &now[2], 3 * sizeof(then[0])) && then[7] == now[7] &&
	       !memcmp(image + at, memory + at, wptrack_page_bytes() - at);
}

/* A page that is in memory and in the images. */
static void judge_page(struct verification *v, const struct wptrack_populated_range *mem,
		       const struct wptrack_piece *piece, uint64_t at)
{
	if (!memcmp(v->in_images + at, v->in_memory + at, wptrack_page_bytes())) {
		v->same++;
		v->same_clean += mem->clean;
	} else if (v->opt.exact && !mem->clean && differ_in_rseq_alone(v->in_images + at, v->in_memory + at)) {
		v->rseq++;
	} else if (mem->clean || v->opt.exact) {
		note_wrong(v, piece->start + at, WRONG_CONTENT, piece->level);
	} else if (mem->zero) {
		v->gone++;
	} else {
		v->changed++;
		v->changed_untracked += !mem->tracked;
	}
}

/* Memory that is on both sides. */
static int judge_both(struct verification *v, const struct wptrack_populated_range *mem,
		      const struct wptrack_piece *piece, uint64_t bytes)
{
	const uint64_t page = wptrack_page_bytes();
	int err = 0;

	if (wptrack_images_read(&v->images, piece, v->in_images, bytes))
		return cannot("%s", v->images.why);
	if (mem->zero)
		memset(v->in_memory, 0, bytes);
	else
		err = read_memory(v, piece->start, bytes);
	if (err)
		return err;
	for (uint64_t at = 0; at < bytes; at += page)
		judge_page(v, mem, piece, at);
	return 0;
}

/* Asked for each chunk of a VMA in a row, so the last answers are kept. Return: 1, 0 or an exit code below 0. */
static int is_droppable(struct verification *v, uint64_t vma_start)
{
	int ret;

	if (vma_start == v->droppable_vma || vma_start == v->not_droppable_vma)
		return vma_start == v->droppable_vma;
	ret = wptrack_vma_is_droppable(v->opt.pid, vma_start);
	if (ret > 0)
		v->droppable_vma = vma_start;
	else if (!ret)
		v->not_droppable_vma = vma_start;
	return ret;
}

/* Memory that no image has. */
static int judge_memory(struct verification *v, const struct wptrack_populated_range *mem, uint64_t bytes)
{
	const uint64_t page = wptrack_page_bytes();
	int err;

	if (mem->file || mem->zero)
		return 0;
	if (!mem->clean && !v->opt.exact) {
		v->fresh += bytes / page;
		return 0;
	}
	err = is_droppable(v, mem->vma_start);
	if (err < 0)
		return cannot("process %" PRId32 ": smaps: %s", v->opt.pid, strerror(-err));
	if (err > 0)
		return 0;
	err = read_memory(v, mem->start, bytes);
	for (uint64_t at = 0; !err && at < bytes; at += page) {
		if (is_zero(v->in_memory + at))
			v->zero++;
		else
			note_wrong(v, mem->start + at, WRONG_MISSING, 0);
	}
	return err;
}

/* Memory that only the images have: a hole by now, and the next round will leave it one. */
static int judge_images(struct verification *v, const struct wptrack_piece *piece, uint64_t bytes)
{
	const uint64_t page = wptrack_page_bytes();

	if (v->opt.exact && wptrack_images_read(&v->images, piece, v->in_images, bytes))
		return cannot("%s", v->images.why);
	for (uint64_t at = 0; at < bytes; at += page) {
		if (!v->opt.exact || is_zero(v->in_images + at))
			v->gone++;
		else
			note_wrong(v, piece->start + at, WRONG_GONE, piece->level);
	}
	return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Judge what comes first and is on the same sides, a chunk at most, and take it off. An empty side has ended. */
static int judge_next(struct verification *v, struct wptrack_populated_range *mem, struct wptrack_piece *piece)
{
	const uint64_t mem_start = mem->start < mem->end ? mem->start : UINT64_MAX;
	const uint64_t piece_start = piece->start < piece->end ? piece->start : UINT64_MAX;
	uint64_t bytes;
	int err;

	if (mem_start < piece_start) {
		bytes = least(least(mem->end, piece_start) - mem_start, CHUNK_BYTES);
		err = judge_memory(v, mem, bytes);
		mem->start += bytes;
		return err;
	}
	if (piece_start < mem_start) {
		bytes = least(least(piece->end, mem_start) - piece_start, CHUNK_BYTES);
		err = judge_images(v, piece, bytes);
	} else {
		bytes = least(least(piece->end, mem->end) - mem_start, CHUNK_BYTES);
		err = judge_both(v, mem, piece, bytes);
		mem->start += bytes;
	}
	piece->start += bytes;
	piece->offset += bytes;
	return err;
}

static int compare(struct verification *v)
{
	struct wptrack_populated_range mem = { 0 };
	struct wptrack_piece piece = { 0 };
	bool more_mem = true, more_pieces = true;
	int ret = 0;

	while (!ret) {
		if (more_mem && mem.start == mem.end) {
			ret = wptrack_populated_next(&v->pop, &mem);
			if (ret < 0)
				return cannot("process %" PRId32 ": its memory cannot be scanned: %s", v->opt.pid,
					      strerror(-ret));
			more_mem = ret;
		}
		if (more_pieces && piece.start == piece.end) {
			ret = wptrack_images_next(&v->images, &piece);
			if (ret < 0)
				return cannot("%s", v->images.why);
			more_pieces = ret;
		}
		if (!more_mem && !more_pieces)
			return 0;
		ret = judge_next(v, &mem, &piece);
	}
	return ret;
}

/* ---------------------------------------------------------------- telling */

static const char *wrong_name(const struct verification *v, enum wrong_kind kind)
{
	switch (kind) {
	case WRONG_CONTENT:
		return v->opt.exact ? "differs" : "clean, but differs";
	case WRONG_MISSING:
		return v->opt.exact ? "in no image" : "clean, but in no image";
	case WRONG_GONE:
		return "only in the images";
	}
	return "?";
}

static void print_text(const struct verification *v)
{
	char comm[WPTRACK_PLAIN_LEN];

	for (unsigned int i = 0; i < v->nr_ranges; i++) {
		const struct wrong *wrong = &v->ranges[i];

		printf("WRONG %" PRIx64 "-%" PRIx64 ": %s", wrong->start, wrong->end, wrong_name(v, wrong->kind));
		if (wrong->kind != WRONG_MISSING)
			printf(" (%s)", wptrack_images_path(&v->images, wrong->level));
		putchar('\n');
	}
	if (v->wrong > v->pages_shown)
		printf("WRONG: %" PRIu64 " more pages\n", v->wrong - v->pages_shown);

	printf("process:       %" PRId32 " (%s)\n", v->task.pid, wptrack_print_plain(v->task.comm, comm));
	printf("images:        pagemap-%" PRIu32 ".img in %u director%s\n", v->opt.image_id, v->images.nr_levels,
	       v->images.nr_levels == 1 ? "y" : "ies");
	printf("same:          %" PRIu64 " pages, %" PRIu64 " of them clean\n", v->same, v->same_clean);
	printf("changed since: %" PRIu64 " pages, %" PRIu64 " of them not tracked\n", v->changed, v->changed_untracked);
	printf("new since:     %" PRIu64 " pages\n", v->fresh);
	printf("gone since:    %" PRIu64 " pages\n", v->gone);
	if (v->zero)
		printf("all zero:      %" PRIu64 " pages in no image, which is as good\n", v->zero);
	if (v->rseq)
		printf("rseq alone:    %" PRIu64 " pages differ in what the kernel writes into struct rseq\n", v->rseq);
	printf("wrong:         %" PRIu64 " pages\n", v->wrong);
}

static void print_json(const struct verification *v)
{
	struct json_object *root = wptrack_json_new(), *ranges;

	wptrack_json_add_number(root, "pid", (uint64_t)v->task.pid);
	wptrack_json_add_string(root, "comm", v->task.comm);
	wptrack_json_add_number(root, "image_id", v->opt.image_id);
	wptrack_json_add_number(root, "directories", v->images.nr_levels);
	wptrack_json_add_bool(root, "exact", v->opt.exact);
	wptrack_json_add_number(root, "same", v->same);
	wptrack_json_add_number(root, "same_clean", v->same_clean);
	wptrack_json_add_number(root, "changed_since", v->changed);
	wptrack_json_add_number(root, "changed_untracked", v->changed_untracked);
	wptrack_json_add_number(root, "new_since", v->fresh);
	wptrack_json_add_number(root, "gone_since", v->gone);
	wptrack_json_add_number(root, "all_zero", v->zero);
	wptrack_json_add_number(root, "rseq_alone", v->rseq);
	wptrack_json_add_number(root, "wrong", v->wrong);
	ranges = wptrack_json_add_list(root, "ranges");
	for (unsigned int i = 0; i < v->nr_ranges; i++) {
		const struct wrong *wrong = &v->ranges[i];
		struct json_object *range = wptrack_json_append(ranges);
		const bool missing = wrong->kind == WRONG_MISSING;

		wptrack_json_add_number(range, "start", wrong->start);
		wptrack_json_add_number(range, "end", wrong->end);
		wptrack_json_add_string(range, "why", wrong_name(v, wrong->kind));
		wptrack_json_add_string(range, "directory",
					missing ? NULL : wptrack_images_path(&v->images, wrong->level));
	}
	wptrack_json_print(root);
}

/* ---------------------------------------------------------------- the command */

static int open_process(struct verification *v)
{
	char path[64];
	int err;

	snprintf(path, sizeof(path), "/proc/%" PRId32 "/mem", v->opt.pid);
	v->mem = open(path, O_RDONLY | O_CLOEXEC);
	if (v->mem < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	err = wptrack_populated_open(&v->pop, v->opt.pid);
	if (err) {
		close(v->mem);
		return err;
	}
	/* From here on all is about the memory it has now. */
	err = wptrack_proc_identify(v->opt.pid, &v->task);
	if (err) {
		wptrack_populated_close(&v->pop);
		close(v->mem);
	}
	return err;
}

static int verify_opened(struct verification *v)
{
	int err;

	if (!wptrack_proc_await_stopped(v->opt.pid, STOP_TAKES_MS))
		return cannot("process %" PRId32 " runs: stop it first (kill -STOP %" PRId32 ")", v->opt.pid,
			      v->opt.pid);
	if (!v->opt.image_id)
		v->opt.image_id = wptrack_proc_innermost_pid(v->opt.pid);
	if (!v->opt.image_id)
		return cannot("process %" PRId32 ": NSpid is not told, give --image-id", v->opt.pid);
	err = wptrack_images_open(&v->images, v->opt.path, v->opt.image_id);
	if (err)
		return cannot("%s", v->images.why);
	if (!v->opt.exact)
		err = check_tracking(v);
	if (!err)
		err = compare(v);
	if (err)
		return err;
	if (!wptrack_proc_is_stopped(v->opt.pid))
		return cannot("process %" PRId32 " did not stay stopped", v->opt.pid);

	if (v->opt.json)
		print_json(v);
	else
		print_text(v);
	return v->wrong ? WPTRACK_EXIT_FAILED : 0;
}

static int verify(struct verification *v)
{
	int ret = open_process(v);

	if (ret)
		return cannot("process %" PRId32 ": %s", v->opt.pid, strerror(-ret));
	ret = verify_opened(v);
	wptrack_images_close(&v->images);
	wptrack_populated_close(&v->pop);
	close(v->mem);
	return ret;
}

/* Return: 0, or after complaining. */
static int take_argument(struct options *opt, const char *name, int kind)
{
	switch (kind) {
	case 'j':
		opt->json = true;
		return 0;
	case 'e':
		opt->exact = true;
		return 0;
	case 'i':
		opt->image_id = (uint32_t)wptrack_parse_number(optarg);
		return opt->image_id ? 0 : wptrack_cmd_misused(name, "--image-id takes a number");
	case WPTRACK_OPERAND:
		if (opt->path)
			break;
		if (opt->pid) {
			opt->path = optarg;
			return 0;
		}
		opt->pid = wptrack_parse_number(optarg);
		return opt->pid ? 0 : wptrack_cmd_misused(name, "that is no PID");
	case ':':
		return wptrack_cmd_misused(name, "--image-id takes a number");
	}
	return wptrack_cmd_misused(name, "takes a PID, a directory, --exact, --image-id N and --json");
}

static const struct wptrack_option options[] = {
	{ "exact", 'e', NULL, NULL, "each difference is wrong, whatever has been written since" },
	{ "image-id", 'i', "N", NULL, "the number of the process in the images, instead of its own" },
	{ "json", 'j', NULL, NULL, "as one JSON object" },
	{ 0 },
};

static int parse_arguments(int argc, char **argv, struct options *opt)
{
	int kind, err = 0;

	while (!err && (kind = wptrack_cmd_option(argc, argv, options)) >= 0)
		err = take_argument(opt, argv[0], kind);
	if (err)
		return err;
	return opt->path ? 0 : wptrack_cmd_misused(argv[0], "needs a PID and an images directory");
}

static int run(int argc, char **argv)
{
	static struct verification v;
	struct rlimit files;
	int err;

	err = parse_arguments(argc, argv, &v.opt);
	if (err)
		return err;
	/* Each directory of the chain takes three descriptors. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return verify(&v);
}

const struct wptrack_command wptrack_cmd_verify = {
	.name = "verify",
	.args = "PID DIR [...]",
	.help = "compare a stopped process with its images",
	.options = options,
	.run = run,
};
