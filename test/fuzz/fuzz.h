/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fuzzers share: an input that is consumed, and checks that end the process. */
#ifndef WPTRACK_TEST_FUZZ_H
#define WPTRACK_TEST_FUZZ_H

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MUST(condition)                                                                        \
	do {                                                                                   \
		if (!(condition)) {                                                            \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                               \
		}                                                                              \
	} while (0)

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

static inline size_t next_bytes(struct input *in, void *to, size_t len)
{
	size_t n = len < in->left ? len : in->left;

	memcpy(to, in->data, n);
	in->data += n;
	in->left -= n;
	return n;
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

/* A packet with up to 8 descriptors. That it cannot be sent is nobody's fault. */
static inline void send_packet(int sk, void *buf, size_t len, const int *fds, unsigned int nr_fds)
{
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { buf, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		struct cmsghdr *cmsg;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	sendmsg(sk, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
