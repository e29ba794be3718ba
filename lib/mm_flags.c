// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "mm_flags.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static int prog = -1;

struct layout {
	int mm;	   /* of task_struct */
	int flags; /* of mm_struct */
};

/* Where a member of 64 bits lies, those of unnamed structs included. Return: its offset, or -1. */
static int member_offset(const struct btf *btf, const struct btf_type *in, const char *name)
{
	const struct btf_member *member = btf_members(in);
	int off;

	for (int i = 0; i < btf_vlen(in); i++, member++) {
		const struct btf_type *type = btf__type_by_id(btf, member->type);
		const char *called = btf__name_by_offset(btf, member->name_off);

		if (!type || !called)
			return -1;
		if (!strcmp(called, name))
			return btf__resolve_size(btf, member->type) == sizeof(uint64_t) ?
				       (int)btf_member_bit_offset(in, i) / 8 :
				       -1;
		off = !*called && btf_is_composite(type) ? member_offset(btf, type, name) : -1;
		if (off >= 0)
			return btf_member_bit_offset(in, i) / 8 + off;
	}
	return -1;
}

static int offset_in(const struct btf *btf, const char *structure, const char *name)
{
	int id = btf__find_by_name_kind(btf, structure, BTF_KIND_STRUCT);

	return id < 0 ? -1 : member_offset(btf, btf__type_by_id(btf, id), name);
}

static int load_program(const struct layout *l, int iterator)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_ITER, .attach_btf_id = iterator);
	/*
	 * The context has pointers to where it all goes, and to the task, which is
	 * NULL in the end. A task that ends has no memory: nothing is written of it.
	 */
	const struct bpf_insn insns[] = {
#define LOAD(dst, src, offset) \
	{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = (dst), .src_reg = (src), .off = (offset) }
#define SKIP_IF_NULL(reg, insns) { .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = (reg), .off = (insns) }
		LOAD(BPF_REG_6, BPF_REG_1, 8),
		LOAD(BPF_REG_7, BPF_REG_1, 0),
		SKIP_IF_NULL(BPF_REG_6, 9),
		LOAD(BPF_REG_6, BPF_REG_6, l->mm),
		SKIP_IF_NULL(BPF_REG_6, 7),
		LOAD(BPF_REG_2, BPF_REG_6, l->flags),
		{ .code = BPF_STX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_2, .off = -8 },
		LOAD(BPF_REG_1, BPF_REG_7, 0),
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = sizeof(uint64_t) },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_seq_write },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "wptrack_mm", "GPL", insns, NR(insns), &opts);

	return fd < 0 ? -errno : fd;
}

int wptrack_mm_flags_open(void)
{
	libbpf_print_fn_t print;
	int iterator, fd = -EOPNOTSUPP;
	struct layout layout;
	struct btf *btf;

	if (prog >= 0)
		return 0;

	/* It would tell standard error at length what it misses. */
	print = libbpf_set_print(NULL);
	btf = btf__load_vmlinux_btf();
	if (btf) {
		layout = (struct layout){ offset_in(btf, "task_struct", "mm"), offset_in(btf, "mm_struct", "flags") };
		iterator = btf__find_by_name_kind(btf, "bpf_iter_task", BTF_KIND_FUNC);
		if (iterator >= 0 && layout.mm >= 0 && layout.flags >= 0)
			fd = load_program(&layout, iterator);
		btf__free(btf);
	}
	libbpf_set_print(print);

	if (fd < 0)
		return fd;
	prog = fd;
	return 0;
}

int wptrack_mm_flags_read(pid_t tid, uint64_t *ret)
{
	union bpf_iter_link_info info = { .task.tid = tid };
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int link, iter, err = 0;
	/* Room for more than there may be: a kernel that lists other tasks, too, is not believed. */
	uint64_t flags[2];
	ssize_t len;

	if (prog < 0)
		return -EBADF;

	link = bpf_link_create(prog, 0, BPF_TRACE_ITER, &opts);
	if (link < 0)
		return -errno;
	iter = bpf_iter_create(link);
	if (iter < 0) {
		err = -errno;
		close(link);
		return err;
	}
	len = read(iter, flags, sizeof(flags));
	if (len < 0)
		err = -errno;
	else if (len != sizeof(flags[0]))
		err = len ? -EBADMSG : -ESRCH;
	else
		*ret = flags[0];
	close(iter);
	close(link);
	return err;
}

void wptrack_mm_flags_close(void)
{
	if (prog >= 0)
		close(prog);
	prog = -1;
}
