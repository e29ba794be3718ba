/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fuzzers share: an input that is consumed, messages that are no messages, checks that end the process. */
#ifndef WPTRACK_TEST_FUZZ_H
#define WPTRACK_TEST_FUZZ_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                \
		}                                                                               \
	} while (0)

#define FUZZ_MAX_FDS 8u

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next byte, 0 when there is none. */
static inline uint8_t next_byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->data++;
}

/* As many of the next bytes as there are; the rest of @to stays as it is. */
static inline size_t next_bytes(struct input *in, void *to, size_t len)
{
	size_t n = len < in->left ? len : in->left;

	if (n)
		memcpy(to, in->data, n);
	in->data += n;
	in->left -= n;
	return n;
}

/* A small number is likely, any is possible. */
static inline uint64_t next_number(struct input *in)
{
	uint64_t number = next_byte(in);

	if (number >= 0xf0) {
		number = 0;
		next_bytes(in, &number, sizeof(number));
	}
	return number;
}

static inline unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	MUST(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Send @len bytes with any number of descriptors, which wptrack_wire_send() would not. Return: whether it was sent. */
static inline bool send_raw(int sk, const void *buf, size_t len, const int *fds, unsigned int nr_fds)
{
	union {
		char buf[CMSG_SPACE(FUZZ_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		struct cmsghdr *cmsg = &control.align;

		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
	}
	return sendmsg(sk, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
