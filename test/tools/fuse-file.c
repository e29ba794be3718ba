// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuse-file DIR: mounts a filesystem there with one file, "file", a page of
 * letters that are not cached (FOPEN_DIRECT_IO), and serves it until it is
 * unmounted. Prints "ready" when it is there; exit status 3 when there is no FUSE.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_NODE  2
#define FILE_BYTES 4096
#define NO_FUSE	   3

static char request[FUSE_MIN_READ_BUFFER + (1 << 20)] __attribute__((aligned(8)));

static void answer(int fuse, uint64_t unique, int error, const void *data, size_t len)
{
	struct fuse_out_header head = { .len = sizeof(head) + len, .error = error, .unique = unique };
	struct iovec parts[] = { { &head, sizeof(head) }, { (void *)data, len } };

	/* Whoever has asked may be gone. */
	if (writev(fuse, parts, 2) < 0 && errno != ENOENT)
		perror("fuse-file");
}

static struct fuse_attr attributes(uint64_t node)
{
	const bool is_file = node == FILE_NODE;

	return (struct fuse_attr){
		.ino = node,
		.size = is_file ? FILE_BYTES : 0,
		.mode = is_file ? S_IFREG | 0644 : S_IFDIR | 0755,
		.nlink = 1,
		.blksize = 4096,
	};
}

static void look_up(int fuse, const struct fuse_in_header *in, const char *name)
{
	const struct fuse_entry_out entry = { .nodeid = FILE_NODE, .attr = attributes(FILE_NODE) };

	if (strcmp(name, "file"))
		answer(fuse, in->unique, -ENOENT, NULL, 0);
	else
		answer(fuse, in->unique, 0, &entry, sizeof(entry));
}

static void serve(int fuse, const struct fuse_in_header *in, const void *arg)
{
	static char letters[FILE_BYTES];
	const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 1 << 16 };
	const struct fuse_attr_out attr = { .attr = attributes(in->nodeid) };
	const struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	const struct fuse_read_in *read_in = arg;
	size_t left;

	switch (in->opcode) {
	case FUSE_INIT:
		return answer(fuse, in->unique, 0, &init, sizeof(init));
	case FUSE_LOOKUP:
		return look_up(fuse, in, arg);
	case FUSE_GETATTR:
		return answer(fuse, in->unique, 0, &attr, sizeof(attr));
	case FUSE_OPEN:
		return answer(fuse, in->unique, 0, &opened, sizeof(opened));
	case FUSE_READ:
		memset(letters, 'F', sizeof(letters));
		left = read_in->offset < FILE_BYTES ? FILE_BYTES - read_in->offset : 0;
		return answer(fuse, in->unique, 0, letters, left < read_in->size ? left : read_in->size);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		return;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		return answer(fuse, in->unique, 0, NULL, 0);
	default:
		return answer(fuse, in->unique, -ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	char options[96];
	ssize_t len;
	int fuse;

	if (argc != 2) {
		fprintf(stderr, "usage: fuse-file DIR\n");
		return 2;
	}
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		return NO_FUSE;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (mount("fuse-file", argv[1], "fuse", 0, options)) {
		fprintf(stderr, "fuse-file: mount: %s\n", strerror(errno));
		return errno == ENODEV ? NO_FUSE : 1;
	}
	puts("ready");
	fflush(stdout);

	while ((len = read(fuse, request, sizeof(request))) > 0 || errno == EINTR || errno == ENOENT)
		if (len >= (ssize_t)sizeof(struct fuse_in_header))
			serve(fuse, (struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
	return errno == ENODEV ? 0 : 1;
}
