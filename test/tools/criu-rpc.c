// SPDX-License-Identifier: GPL-2.0-only
/*
 * criu-rpc: drive `criu swrk` as container runtimes do.
 *
 *   criu-rpc CRIU check
 *   criu-rpc CRIU pre-dump|dump PID DIR [--parent DIR] [--leave-running] [--read|--live] [--before-stop]
 *                                       [--no-track] [--rate BYTES] [--config FILE] [--field NUMBER=VALUE]
 *   criu-rpc CRIU restore DIR [--no-track]
 *   criu-rpc CRIU pre-restore DIR [--sibling]
 *
 * pre-restore asks for each pre-dump whose directory is a line of its standard input, then for the restore of DIR.
 *
 * CRIU is the program, or the socket of a `criu service` that runs.
 *
 * CRIU gets pipes for its output. When it is done, both pipes and the socket
 * must reach end of file at once: a daemon that CRIU started and that kept one
 * of them open would hang every caller that reads them to the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <google/protobuf-c/protobuf-c.h>

#include "rpc.pb-c.h"

#define REPLY_MAX	4096
#define EOF_TIMEOUT_MS	3000
#define REPLY_TIMEOUT_S 60

struct swrk {
	pid_t pid; /* 0 for a service, which stays; it has no pipes of ours either */
	int sk;
	int out;
	int err;
};

static int fail(const char *what, int err)
{
	fprintf(stderr, "criu-rpc: %s%s%s\n", what, err ? ": " : "", err ? strerror(err) : "");
	return 1;
}

static void swrk_exec(const char *criu, int sk, int out, int err)
{
	char arg[16];

	/* Only these three stay open: the socket goes without its close-on-exec flag. */
	if (fcntl(sk, F_SETFD, 0) || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	snprintf(arg, sizeof(arg), "%d", sk);
	execl(criu, criu, "swrk", arg, (char *)NULL);
	_exit(127);
}

/* Return: 0 or an errno. */
static int service_connect(const char *path, struct swrk *ret)
{
	struct timeval tv = { .tv_sec = REPLY_TIMEOUT_S };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	*ret = (struct swrk){ .out = -1, .err = -1 };
	if (strlen(path) >= sizeof(addr.sun_path))
		return ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	ret->sk = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (ret->sk < 0 || setsockopt(ret->sk, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		return errno;
	return connect(ret->sk, (struct sockaddr *)&addr, sizeof(addr)) ? errno : 0;
}

/* Start criu as a worker. Return: 0 or an errno; descriptors are the caller's. */
static int swrk_start(const char *criu, struct swrk *ret)
{
	struct timeval tv = { .tv_sec = REPLY_TIMEOUT_S };
	int sk[2], out[2], err[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sk) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return errno;
	if (setsockopt(sk[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		return errno;
	ret->pid = fork();
	if (ret->pid < 0)
		return errno;
	if (ret->pid == 0)
		swrk_exec(criu, sk[1], out[1], err[1]);
	close(sk[1]);
	close(out[1]);
	close(err[1]);
	ret->sk = sk[0];
	ret->out = out[0];
	ret->err = err[0];
	return 0;
}

/* Return: the reply, the caller's to free, or NULL (said why). */
static CriuResp *swrk_call(const struct swrk *w, const CriuReq *req)
{
	size_t len = criu_req__get_packed_size(req);
	uint8_t *buf = malloc(len), in[REPLY_MAX];
	CriuResp *resp = NULL;
	ssize_t n;

	if (!buf)
		return NULL;
	criu_req__pack(req, buf);
	n = send(w->sk, buf, len, MSG_NOSIGNAL);
	free(buf);
	if (n != (ssize_t)len) {
		fail("cannot send the request", errno);
		return NULL;
	}
	n = recv(w->sk, in, sizeof(in), 0);
	if (n <= 0) {
		fail("no reply", n ? errno : 0);
		return NULL;
	}
	resp = criu_resp__unpack(NULL, (size_t)n, in);
	if (!resp)
		fail("malformed reply", 0);
	return resp;
}

/* Read a descriptor to its end, echoing what comes to our stderr. */
static int drain(int fd, const char *what)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[4096];
	ssize_t n;

	for (;;) {
		int r = poll(&p, 1, EOF_TIMEOUT_MS);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			fprintf(stderr, "criu-rpc: %s still open after criu has gone\n", what);
			return 1;
		}
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno != ECONNRESET)
			return fail(what, errno);
		if (n <= 0)
			return 0;
		if (fwrite(buf, 1, (size_t)n, stderr) != (size_t)n)
			return fail("stderr", errno);
	}
}

/* Let the worker go and see that nothing of ours stays open in anybody's hands. */
static int swrk_finish(struct swrk *w)
{
	int status, ret;

	if (shutdown(w->sk, SHUT_WR) && errno != ENOTCONN)
		return fail("shutdown", errno);
	if (!w->pid) {
		ret = drain(w->sk, "the RPC socket");
		close(w->sk);
		return ret;
	}
	if (waitpid(w->pid, &status, 0) != w->pid)
		return fail("waitpid", errno);
	ret = drain(w->sk, "the RPC socket");
	ret |= drain(w->out, "criu's stdout");
	ret |= drain(w->err, "criu's stderr");
	close(w->sk);
	close(w->out);
	close(w->err);
	if (!WIFEXITED(status)) {
		fprintf(stderr, "criu-rpc: criu ended with wait status %#x\n", (unsigned int)status);
		ret = 1;
	}
	return ret;
}

static int do_check(const struct swrk *w)
{
	CriuFeatures feat = CRIU_FEATURES__INIT;
	CriuReq req = CRIU_REQ__INIT;
	CriuResp *resp;
	int ret = 1;

	feat.has_mem_track = true;
	feat.mem_track = true;
	feat.has_mem_track_live = true;
	feat.mem_track_live = true;
	req.type = CRIU_REQ_TYPE__FEATURE_CHECK;
	req.features = &feat;
	resp = swrk_call(w, &req);
	if (!resp)
		return 1;
	if (resp->type == CRIU_REQ_TYPE__FEATURE_CHECK && resp->features && resp->features->has_mem_track &&
	    resp->features->has_mem_track_live) {
		printf("mem_track %s, live %s\n", resp->features->mem_track ? "true" : "false",
		       resp->features->mem_track_live ? "true" : "false");
		ret = 0;
	} else {
		fail("the reply carries no mem_track or no mem_track_live", 0);
	}
	criu_resp__free_unpacked(resp, NULL);
	return ret;
}

static int report(const CriuResp *resp, CriuReqType type)
{
	if (resp->type != type) {
		fprintf(stderr, "criu-rpc: reply of type %d to a request of type %d\n", resp->type, type);
		return 1;
	}
	if (!resp->success) {
		fprintf(stderr, "criu-rpc: failed: errno %d, %s\n", resp->has_cr_errno ? resp->cr_errno : 0,
			resp->cr_errmsg ? resp->cr_errmsg : "no message");
		return 1;
	}
	if (resp->has_cr_errno || resp->cr_errmsg) {
		fprintf(stderr, "criu-rpc: success, but errno %d, %s\n", resp->has_cr_errno ? resp->cr_errno : 0,
			resp->cr_errmsg ? resp->cr_errmsg : "no message");
		return 1;
	}
	printf("success\n");
	return 0;
}

/* A field by its number, for a client that has another rpc.proto. Its data lives as long as we do. */
static int add_field(CriuOpts *opts, const char *arg)
{
	static ProtobufCMessageUnknownField field;
	static uint8_t data[10];
	unsigned long long value;
	unsigned int number;

	if (field.tag || sscanf(arg, "%u=%llu", &number, &value) != 2)
		return fail("--field NUMBER=VALUE, once", 0);
	do {
		data[field.len++] = (uint8_t)(value & 127) | (value > 127 ? 128 : 0);
		value >>= 7;
	} while (value);
	field.tag = number;
	field.wire_type = PROTOBUF_C_WIRE_TYPE_VARINT;
	field.data = data;
	opts->base.unknown_fields = &field;
	opts->base.n_unknown_fields = 1;
	return 0;
}

static int parse_flags(int argc, char **argv, CriuOpts *opts)
{
	opts->has_track_mem = true;
	opts->track_mem = true;
	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--parent") && i + 1 < argc) {
			opts->parent_img = argv[++i];
		} else if (!strcmp(argv[i], "--leave-running")) {
			opts->has_leave_running = true;
			opts->leave_running = true;
		} else if (!strcmp(argv[i], "--before-stop")) {
			opts->has_pre_dump_before_stop = true;
			opts->pre_dump_before_stop = true;
		} else if (!strcmp(argv[i], "--live")) {
			opts->has_pre_dump_mode = true;
			opts->pre_dump_mode = CRIU_PRE_DUMP_MODE__LIVE;
		} else if (!strcmp(argv[i], "--read")) {
			opts->has_pre_dump_mode = true;
			opts->pre_dump_mode = CRIU_PRE_DUMP_MODE__VM_READ;
		} else if (!strcmp(argv[i], "--no-track")) {
			opts->track_mem = false;
		} else if (!strcmp(argv[i], "--rate") && i + 1 < argc) {
			opts->has_pre_dump_rate = true;
			opts->pre_dump_rate = strtoull(argv[++i], NULL, 10);
		} else if (!strcmp(argv[i], "--config") && i + 1 < argc) {
			opts->config_file = argv[++i];
		} else if (!strcmp(argv[i], "--field") && i + 1 < argc) {
			if (add_field(opts, argv[++i]))
				return 2;
		} else {
			return fail("unknown option", 0);
		}
	}
	return 0;
}

/* Ask for something about the images in a directory. Return: 0, or 1 (said why). */
static int ask(const struct swrk *w, CriuReqType type, const char *path, CriuOpts *opts)
{
	static char log_file[] = "criu.log";
	CriuReq req = CRIU_REQ__INIT;
	CriuResp *resp;
	int dir, ret;

	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return fail(path, errno);
	opts->images_dir_fd = dir;
	opts->has_log_level = true;
	opts->log_level = 4;
	opts->log_file = log_file;
	req.type = type;
	req.opts = opts;
	resp = swrk_call(w, &req);
	close(dir);
	if (!resp)
		return 1;
	ret = report(resp, type);
	if (!ret && resp->restore)
		printf("pid %d\n", resp->restore->pid);
	fflush(stdout);
	criu_resp__free_unpacked(resp, NULL);
	return ret;
}

static int do_dump(const struct swrk *w, bool pre, int argc, char **argv)
{
	CriuOpts opts = CRIU_OPTS__INIT;

	opts.has_pid = true;
	opts.pid = atoi(argv[0]);
	if (parse_flags(argc - 2, argv + 2, &opts))
		return 2;
	return ask(w, pre ? CRIU_REQ_TYPE__PRE_DUMP : CRIU_REQ_TYPE__DUMP, argv[1], &opts);
}

static int do_restore(const struct swrk *w, int argc, char **argv)
{
	CriuOpts opts = CRIU_OPTS__INIT;

	if (parse_flags(argc - 1, argv + 1, &opts))
		return 2;
	return ask(w, CRIU_REQ_TYPE__RESTORE, argv[0], &opts);
}

static int do_pre_restore(const struct swrk *w, const char *last, bool sibling)
{
	CriuOpts opts = CRIU_OPTS__INIT;
	char line[4096];

	opts.has_rst_sibling = sibling;
	opts.rst_sibling = sibling;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		ask(w, CRIU_REQ_TYPE__PRE_RESTORE, line, &opts);
	}
	return ask(w, CRIU_REQ_TYPE__RESTORE, last, &opts);
}

int main(int argc, char **argv)
{
	bool pre_restore = argc >= 4 && !strcmp(argv[2], "pre-restore");
	bool restore = argc >= 4 && !strcmp(argv[2], "restore");
	bool check = argc == 3 && !strcmp(argv[2], "check");
	bool pre = argc >= 5 && !strcmp(argv[2], "pre-dump");
	bool dump = argc >= 5 && !strcmp(argv[2], "dump");
	struct stat st;
	struct swrk w;
	int ret;

	if (!check && !pre && !dump && !restore && !pre_restore) {
		fprintf(stderr, "usage: criu-rpc CRIU check\n"
				"       criu-rpc CRIU pre-dump|dump PID DIR [--parent DIR] [--leave-running]\n"
				"                [--read|--live] [--before-stop] [--no-track] [--rate BYTES]\n"
				"                [--config FILE] [--field NUMBER=VALUE]\n"
				"       criu-rpc CRIU restore DIR [--no-track]\n"
				"       criu-rpc CRIU pre-restore DIR [--sibling]\n");
		return 2;
	}
	if (!stat(argv[1], &st) && S_ISSOCK(st.st_mode))
		ret = service_connect(argv[1], &w);
	else
		ret = swrk_start(argv[1], &w);
	if (ret)
		return fail("cannot start or reach criu", ret);
	if (restore)
		ret = do_restore(&w, argc - 3, argv + 3);
	else if (pre_restore)
		ret = do_pre_restore(&w, argv[3], argc > 4 && !strcmp(argv[4], "--sibling"));
	else
		ret = check ? do_check(&w) : do_dump(&w, pre, argc - 3, argv + 3);
	ret |= swrk_finish(&w);
	return ret;
}
