// SPDX-License-Identifier: GPL-2.0-only
/*
 * kinds --control FILE [--group NAME] [--mode splice|read|live] [--only CASE]
 * kinds --control FILE --wants | --bad | --outside
 * kinds --list
 *
 * Memory of every kind, and all that can happen to it between two rounds. Each
 * case says of each of its pages what the next round has to do with it; the
 * driver compares that with the images.
 *
 * It is driven in steps: the first before round 2, the second before round 3, one
 * that does next to nothing before the dump, and two more behind the restore. Cases that
 * change the whole process, or that CRIU refuses, have groups of their own.
 *
 * --wants prints what the next round has to do, --bad which cases were found wrong
 * by the last verification, --outside lets others than the program write. --list
 * prints each case with its group, and who takes part in it. --only does without a group.
 */
#include <getopt.h>

#include "kinds_book.h"
#include "kinds_maps.h"
#include "kinds_files.h"
#include "kinds_huge.h"
#include "kinds_changes.h"
#include "kinds_moves.h"
#include "kinds_outside.h"

struct kase {
	const char *name;
	int (*setup)(struct state *s);
	int (*first)(struct state *s);
	int (*second)(struct state *s);
	enum kind kind;
	const char *group;
	/* Done by a process outside, behind the first step */
	int (*outside)(struct state *s, pid_t pid);
	/* Before the dump */
	int (*third)(struct state *s);
	/* Before the second round on the restored process */
	int (*restored)(struct state *s);
};

#define CASE(is, setup_, first_, second_, ...)                                                  \
	{                                                                                       \
		.name = #is, .setup = setup_, .first = first_, .second = second_, ##__VA_ARGS__ \
	}

/* clang-format off */
static const struct kase kases[] = {
	/* Private anonymous mappings of each kind: one page written in step 1, two in step 2 */
	CASE(anon_rw, setup_anon, write_first, write_second),
	CASE(anon_untouched, setup_anon, NULL, NULL),
	CASE(anon_readonly, setup_readonly, write_readonly, NULL),
	CASE(anon_inaccessible, setup_closed, write_closed, NULL),
	CASE(anon_writeonly, setup_writeonly, write_first, write_second),
	CASE(anon_16_tib, setup_sparse, write_sparse, NULL),
	CASE(heap_that_grows, setup_heap, grow_heap, grow_heap),
	CASE(heap_that_shrinks, setup_shrinking_heap, shrink_heap, NULL, .group = "heap"),
	CASE(stack_that_grows, setup_stack, grow_down, grow_down),
	CASE(growsdown_that_grows, setup_growsdown, grow_down, grow_down),
	CASE(mlocked, setup_mlocked, write_first, write_second),
	CASE(mergeable, setup_mergeable, write_first, write_second),
	CASE(merged_by_ksm, setup_same, merge_same, write_same, .group = "ksm"),
	CASE(named_in_part, setup_anon, name_part, write_second),
	CASE(sealed, seal, write_first, write_second),
	CASE(wipeonfork, setup_wipeonfork, write_first, write_second),
	CASE(dontfork, setup_dontfork, write_first, write_second),
	CASE(guard_pages, setup_guarded, change_guards, NULL),
	/* Others */
	CASE(dev_zero, setup_devzero, write_first, write_second, .kind = WHOLE),
	CASE(droppable, setup_droppable, write_first, NULL, .kind = ELSEWHERE),
	CASE(file_private, setup_file_private, write_first, NULL, .kind = WHOLE),
	CASE(file_private_copies_dropped, setup_file_private, drop_copies, NULL, .kind = WHOLE),
	CASE(file_private_truncated, setup_file_private, truncate_file, NULL, .kind = WHOLE),
	CASE(file_shared, setup_file_shared, change_file_shared, NULL, .kind = ELSEWHERE),
	CASE(memfd_private, setup_memfd_private, write_first, NULL, .kind = WHOLE),
	CASE(memfd_through_another_mapping, setup_memfd, write_other_mapping, NULL, .kind = ELSEWHERE),
	CASE(memfd_through_write, setup_memfd, write_memfd, NULL, .kind = ELSEWHERE),
	CASE(shmem, setup_shmem, write_first, write_second, .kind = ELSEWHERE),
	CASE(vdso, setup_vdso, NULL, NULL, .kind = WHOLE),
	CASE(vvar, setup_vvar, NULL, NULL, .kind = ELSEWHERE),
	CASE(sysv_shm, setup_sysv, write_first, NULL, .kind = ELSEWHERE, .group = "sysv"),
	CASE(hugetlb_private, setup_hugetlb_private, write_first, NULL, .kind = AT_DUMP, .group = "hugetlb"),
	CASE(hugetlb_shared, setup_hugetlb_shared, write_first, NULL, .kind = ELSEWHERE, .group = "hugetlb"),
	CASE(registered_by_another, setup_foreign_uffd, write_first, write_second, .kind = FOREIGN, .group = "foreign_uffd",
	     .restored = write_first),

	/* Content */
	CASE(zeroed_by_hand, setup_anon, zero_by_hand, NULL),
	CASE(written_the_same, setup_anon, write_the_same, NULL),
	CASE(hole_read_then_written, setup_anon, read_hole, write_fresh),
	CASE(written_by_read, setup_anon, read_buffered, NULL),
	CASE(written_by_direct_io, setup_anon, read_direct, NULL),
	CASE(written_by_a_thread, setup_anon, write_by_thread, NULL),
	CASE(written_by_a_vforked_child, setup_anon, write_by_vfork, NULL),
	CASE(written_after_a_fork, setup_anon, fork_and_write, write_second),
	CASE(written_by_process_vm_writev, setup_anon, NULL, NULL, .outside = poke_vm),
	CASE(written_through_proc_mem, setup_anon, NULL, NULL, .outside = poke_proc_mem),
	CASE(written_by_ptrace, setup_anon, NULL, NULL, .outside = poke_ptrace),
	CASE(readonly_written_through_proc_mem, setup_readonly, NULL, NULL, .outside = poke_readonly_proc_mem),
	CASE(readonly_written_by_ptrace, setup_readonly, NULL, NULL, .outside = poke_ptrace),
	CASE(inaccessible_written_by_ptrace, setup_closed, NULL, NULL, .outside = poke_ptrace),
	CASE(migrated_by_compaction, setup_fragmented, NULL, NULL, .outside = compact),
	CASE(written_after_the_restore, setup_anon, NULL, NULL, .restored = write_first),

	/* Advice */
	CASE(dropped, setup_anon, drop_some, use_dropped),
	CASE(written_and_dropped, setup_anon, write_and_drop, use_dropped),
	CASE(freed_lazily, setup_anon, free_lazily, write_second),
	CASE(cold, setup_anon, go_cold, write_second),
	CASE(swapped_out_and_in, setup_anon, swap_out, swap_in),
	CASE(wipeonfork_toggled, setup_anon, toggle_wipeonfork, toggle_wipeonfork),
	CASE(populated_for_reading, setup_anon, populate_for_reading, write_second),
	CASE(populated_for_writing, setup_anon, populate_for_writing, write_second),
	CASE(locked_and_unlocked, setup_anon, lock_some, write_second),

	/* Huge pages */
	CASE(huge_page_one_byte, setup_thp, one_byte, NULL),
	CASE(huge_page_untouched, setup_thp, NULL, NULL),
	CASE(huge_page_split, setup_thp, split_thp, one_byte),
	CASE(huge_page_dropped_in_part, setup_thp, drop_part_of_thp, one_byte),
	CASE(huge_page_dropped, setup_thp, drop_thp, one_byte),
	CASE(huge_page_written_after_a_fork, setup_thp, fork_and_write_thp, one_byte),
	CASE(huge_page_moved, setup_thp, move_thp, one_byte),
	CASE(armed_pages_collapsed, setup_collapse, collapse_armed, one_byte),
	CASE(rewritten_pages_collapsed, setup_collapse, collapse_rewritten, one_byte),
	CASE(huge_zero_page, setup_huge_zero, write_huge_zero, NULL),

	/* Mappings */
	CASE(mapped_late, setup_late, map_late, write_second),
	CASE(unmapped, setup_anon, unmap, NULL),
	CASE(unmapped_then_mapped, setup_anon, unmap, remap_late),
	CASE(replaced, setup_anon, remap_anon, NULL),
	CASE(replaced_in_the_middle, setup_anon, replace_middle, write_second),
	CASE(replaced_by_a_file, setup_anon, remap_file, NULL),
	CASE(replaced_by_shared_memory, setup_anon, remap_shared, NULL),
	CASE(replaced_file, setup_file_private, remap_from_file, NULL, .kind = WHOLE),
	CASE(moved, setup_movable, move_away, write_first),
	CASE(moved_in_part, setup_movable, move_middle_away, write_second),
	CASE(changed_places, setup_pair, swap_pair, NULL),
	CASE(moved_with_page_tables, setup_coaligned, move_coaligned, write_first),
	CASE(moved_between_neighbours, setup_three, move_into_middle, write_in_middle),
	CASE(moved_back_between_neighbours, setup_movable, move_middle_away, move_middle_back,
	     .third = write_where_merged),
	CASE(moved_leaving_the_mapping, setup_movable, move_dontunmap, write_first),
	CASE(grown_then_shrunk, setup_growing, grow, shrink),
	CASE(grown_elsewhere, setup_anon, grow_elsewhere, write_second),
	CASE(split_then_merged_by_mprotect, setup_anon, split_by_mprotect, merge_by_mprotect),
	CASE(split_then_merged_by_advice, setup_anon, split_by_advice, merge_by_advice),
	CASE(made_executable_in_turns, setup_anon, write_code, write_code),
	CASE(split_by_munmap, setup_anon, split_by_munmap, write_second),

	/* Unreadable in some rounds */
	CASE(shut_then_open, setup_anon, shut, reopen),
	CASE(written_and_shut_then_open, setup_anon, write_and_shut, reopen),
	CASE(shut_then_open_and_written, setup_anon, shut, reopen_and_write),
	CASE(open_then_shut, setup_shut, reopen, shut),
	CASE(open_and_written_then_shut, setup_shut, reopen_and_write, shut),

	/* The whole process */
	CASE(pinned, setup_pinned, pin_some, unpin, .group = "pinned"),
	CASE(not_pinned_beside_pinned, setup_anon, write_first, write_second, .group = "pinned"),

	CASE(mappings_up_to_the_limit, setup_many, write_one_of_many, NULL, .group = "many"),
	CASE(mappings_above_the_limit, setup_too_many, write_one_of_many, NULL, .kind = WHOLE, .group = "many"),

	/* What CRIU refuses */
	CASE(io_uring, setup_uring, write_first, write_second, .group = "io_uring"),
	CASE(ring_in_own_memory, setup_own_ring, complete_some, close_ring, .group = "own_ring"),
	CASE(own_userfaultfd, setup_own_uffd, write_first, write_second, .kind = WHOLE, .group = "own_uffd"),
	CASE(without_leader, setup_anon, write_first, write_second, .group = "leaderless"),
	CASE(memfd_secret, setup_secret, write_first, write_second, .kind = ELSEWHERE, .group = "secret"),
};

/* clang-format on */

#define NR_KASES (sizeof(kases) / sizeof(kases[0]))
_Static_assert(NR_KASES <= KINDS_CASES, "the book has a page for each case");

static struct control *ctl;
static const char *group, *only;

static bool is_wanted(const struct kase *k)
{
	return (group ? !strcmp(k->group ?: "main", group) : only || !k->group) && (!only || !strcmp(only, k->name));
}

static const struct kase *kase_of(const struct state *s)
{
	for (const struct kase *k = kases; k < kases + NR_KASES; k++)
		if (!strcmp(k->name, s->name))
			return k;
	return NULL;
}

static int run(const struct kase *k, int (*what)(struct state *), struct state *s)
{
	int err = what && !s->why[0] ? what(s) : 0;

	if (err)
		fprintf(stderr, "kinds: %s, before round %u: %s\n", k->name, book->round, strerror(-err));
	return err;
}

/* What the machine does otherwise than another, and the decisions depend on. */
static int look_at_machine(void)
{
	FILE *huge = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char choice[64] = "", byte;
	int fd;
	char *shut, *hole;

	if (huge && fgets(choice, sizeof(choice), huge))
		book->unasked_huge = strstr(choice, "[always]");
	if (huge)
		fclose(huge);

	hole = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hole == MAP_FAILED)
		return -errno;
	/* Where there is one, both are the same. */
	if (!*(volatile char *)hole && !*(volatile char *)(hole + PAGE))
		book->no_zero_page = pagemap_entry((uintptr_t)hole) != pagemap_entry((uintptr_t)hole + PAGE);
	munmap(hole, 2 * PAGE);

	shut = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	if (shut == MAP_FAILED || fd < 0)
		return -errno;
	*shut = 1;
	if (mprotect(shut, PAGE, PROT_NONE))
		return -errno;
	book->shut_to_others = pread(fd, &byte, 1, (off_t)(uintptr_t)shut) != 1;
	close(fd);
	return munmap(shut, PAGE) ? -errno : 0;
}

static int setup(void)
{
	int err = look_at_machine();

	book->round = 1;
	for (const struct kase *k = kases; k < kases + NR_KASES && !err; k++) {
		struct state *s = &book->state[book->nr_cases];

		if (!is_wanted(k))
			continue;
		snprintf(s->name, sizeof(s->name), "%s", k->name);
		s->kind = k->kind;
		book->nr_cases++;
		err = run(k, k->setup, s);
	}
	if (!book->nr_cases) {
		fprintf(stderr, "kinds: there is no such case\n");
		return -ENOENT;
	}
	return err;
}

static int step(void)
{
	int err = 0;

	book_close_round();
	for (unsigned int c = 0; c < book->nr_cases && !err; c++) {
		struct state *s = &book->state[c];
		const struct kase *k = kase_of(s);

		if (book->round == 2)
			err = run(k, k->first, s);
		else if (book->round == 3)
			err = run(k, k->second, s);
		else if (book->round == ROUND_DUMP)
			err = run(k, k->third, s);
		else if (book->round == ROUND_RESTORED + 1)
			err = run(k, k->restored, s);
	}
	return err;
}

/* Behind the first step: others write to the program's memory. */
static int write_from_outside(void)
{
	pid_t pid = (pid_t)atomic_load(&ctl->slot[0].pid);
	int err = 0;

	for (unsigned int c = 0; c < book->nr_cases && !err; c++) {
		struct state *s = &book->state[c];
		const struct kase *k = kase_of(s);

		if (!k->outside || s->why[0])
			continue;
		err = k->outside(s, pid);
		if (err)
			fprintf(stderr, "kinds: %s, from outside: %s\n", k->name, strerror(-err));
	}
	return err;
}

static int list(void)
{
	for (const struct kase *k = kases; k < kases + NR_KASES; k++)
		printf("%s %s %s\n", k->name, k->group ?: "main", k->outside ? "others" : "alone");
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: kinds --control FILE [--group NAME] [--mode splice|read|live] [--only CASE]\n"
			"       kinds --control FILE --wants | --bad | --outside\n"
			"       kinds --list\n");
	return 2;
}

static void *serve_on(void *slot)
{
	static const struct steps_ops ops = { .step = step, .verify = book_verify };

	steps_serve(ctl, slot, &ops);
	_exit(0);
}

static int serve(enum mode mode)
{
	struct control_slot *slot = control_take_slot(ctl, 0);
	pthread_t thread;

	book->mode = mode;
	if (setup())
		return 1;
	if (group && !strcmp(group, "leaderless")) {
		if (pthread_create(&thread, NULL, serve_on, slot))
			return 1;
		pthread_exit(NULL);
	}
	serve_on(slot);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' },
		{ "group", required_argument, NULL, 'g' },
		{ "mode", required_argument, NULL, 'm' },
		{ "only", required_argument, NULL, 'o' },
		{ "hold", required_argument, NULL, 'h' },
		{ "wants", no_argument, NULL, 'w' },
		{ "bad", no_argument, NULL, 'b' },
		{ "outside", no_argument, NULL, 'x' },
		{ "list", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	enum mode mode = SPLICE;
	int o, what = 0, err;
	pid_t held_of = 0;
	char here;

	stack_top = (char *)((uintptr_t)&here / PAGE * PAGE);
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == '?')
			return usage();
		if (o == 'c')
			control_path = optarg;
		else if (o == 'g')
			group = optarg;
		else if (o == 'm')
			mode = !strcmp(optarg, "live") ? LIVE : !strcmp(optarg, "read") ? READ : SPLICE;
		else if (o == 'o')
			only = optarg;
		else
			what = o;
		if (o == 'h')
			held_of = atoi(optarg);
	}
	if (what == 'l')
		return list();
	if (!control_path)
		return usage();
	err = control_map(control_path, false, &ctl);
	if (!err)
		err = book_map(control_path, !what);
	if (err) {
		fprintf(stderr, "kinds: %s: %s\n", control_path, strerror(-err));
		return 1;
	}
	if (what == 'w')
		book_print_wants();
	else if (what == 'b')
		book_print_bad();
	else if (what == 'x')
		return write_from_outside() != 0;
	else if (what == 'h')
		return setsid() < 0 || hold(held_of, 0);
	else
		return serve(mode);
	return 0;
}
