// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuse-file DIR [PROGRAM]: mounts a filesystem there with one file, "file", a page of
 * letters that are not cached (FOPEN_DIRECT_IO), or a copy of PROGRAM, and serves it until it is
 * unmounted. Prints "ready" when it is there; exit status 3 when there is no FUSE.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_NODE  2
#define FILE_BYTES 4096
#define NO_FUSE	   3

/* What is in the file */
static const char *content;
static size_t content_bytes = FILE_BYTES;

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
		.size = is_file ? content_bytes : 0,
		.mode = is_file ? S_IFREG | 0755 : S_IFDIR | 0755,
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
	const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 1 << 16 };
	const struct fuse_attr_out attr = { .attr = attributes(in->nodeid) };
	const struct fuse_open_out opened = { .open_flags = content_bytes == FILE_BYTES ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE };
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
		left = read_in->offset < content_bytes ? content_bytes - read_in->offset : 0;
		return answer(fuse, in->unique, 0, content + read_in->offset, left < read_in->size ? left : read_in->size);
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

static int take_content(const char *program)
{
	static char letters[FILE_BYTES];
	struct stat st;
	int fd;

	if (!program) {
		content = memset(letters, 'F', sizeof(letters));
		return 0;
	}
	fd = open(program, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return -1;
	content_bytes = st.st_size;
	content = mmap(NULL, content_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	return content == MAP_FAILED ? -1 : 0;
}

int main(int argc, char **argv)
{
	char options[96];
	ssize_t len;
	int fuse;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: fuse-file DIR [PROGRAM]\n");
		return 2;
	}
	if (take_content(argv[2])) {
		perror(argv[2]);
		return 1;
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
