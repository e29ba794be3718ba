/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the keeper answers: who holds what, and what is committed. WPTRACK_KEEPER names the program.
 */
#include <sys/eventfd.h>

#include "keeper_client.h"

static void committed_round_is_given_back(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, task;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	CHECK_EQ(round.generation, 1);
	sk = client_new();
	CHECK_EQ(take(sk, target.pid, &task), 0);
	CHECK_EQ(task.generation, 1);
	CHECK(same_session(&task, &round));
	CHECK(task.mm_id);
	CHECK(!strcmp(task.comm, "target"));
	/* Taken once, it is in no committed round until the next commit. */
	CHECK_EQ(take(sk, target.pid, &task), 0);
	CHECK_EQ(task.generation, 0);
}

static void userfaultfd_given_back_is_the_targets(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct uffdio_writeprotect probe = { .range = { 0x100000, 0x10000 } };
	struct wptrack_msg msg = message(WPTRACK_OP_TAKE, target.pid);
	struct wptrack_task round;
	FD uffd = -1;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	CHECK_EQ(wptrack_wire_call(sk, &msg, NULL, 0, &uffd), 0);
	CHECK(ioctl(uffd, UFFDIO_WRITEPROTECT, &probe) == -1 && errno == ENOENT);
	CHECK(target_kill(&target));
	CHECK(ioctl(uffd, UFFDIO_WRITEPROTECT, &probe) == -1 && errno == ESRCH);
}

static void dropped_connection_un_commits_its_tasks(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, task;
	FD first = -1;
	FD second = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	first = client_new();
	CHECK_EQ(take(first, target.pid, &task), 0);
	CHECK_EQ(task.generation, 1);
	CHECK_EQ(close(first), 0);
	first = -1;
	second = client_new();
	/* Not -EBUSY: the keeper sees the end of one connection before what comes after it. */
	CHECK_EQ(take(second, target.pid, &task), 0);
	CHECK_EQ(task.generation, 0);
}

static void tasks_of_a_live_connection_are_busy(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round;
	struct wptrack_msg note = message(WPTRACK_OP_NOTE, target.pid);
	FD first = -1;
	FD second = -1;

	CHECK(world_start(&world));
	first = client_new();
	second = client_new();
	CHECK_EQ(begin_round(first, target.pid, &round), 0);
	CHECK_EQ(add(first, &target), 0);
	CHECK_EQ(take(second, target.pid, NULL), -EBUSY);
	CHECK_EQ(add(second, &target), -EBUSY);
	CHECK_EQ(ask(second, &note), -EBUSY);
	CHECK_EQ(release(second, target.pid), -EBUSY);
	CHECK_EQ(release(second, 0), -EBUSY);
	CHECK_EQ(commit(first, &round), 0);
	CHECK_EQ(take(second, target.pid, NULL), 0);
	CHECK_EQ(take(first, target.pid, NULL), -EBUSY);
}

static void generation_is_never_given_twice(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task first, given_up, next;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &first), 0);
	{
		FD sk = client_new();

		CHECK_EQ(begin_round(sk, target.pid, &given_up), 0);
	}
	CHECK_EQ(run_round(&target, true, &next), 0);
	CHECK(same_session(&first, &given_up) && same_session(&first, &next));
	CHECK_EQ(first.generation, 1);
	CHECK_EQ(given_up.generation, 2);
	CHECK_EQ(next.generation, 3);
}

static void untracked_root_begins_a_session(void)
{
	WORLD world = world_new();
	TARGET one = target_new();
	TARGET other = target_new();
	struct wptrack_task first, second, third;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&one, false, &first), 0);
	CHECK_EQ(run_round(&other, false, &second), 0);
	CHECK(!same_session(&first, &second));
	CHECK_EQ(second.generation, 1);
	CHECK_EQ(run_round(&one, true, &third), 0);
	CHECK(same_session(&first, &third));
	CHECK_EQ(third.generation, 2);
}

static void task_moves_to_the_session_that_commits_it(void)
{
	WORLD world = world_new();
	TARGET one = target_new();
	TARGET other = target_new();
	struct wptrack_task first, second, task;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&one, false, &first), 0);
	sk = client_new();
	CHECK_EQ(begin_round(sk, other.pid, &second), 0);
	CHECK_EQ(add(sk, &other), 0);
	CHECK_EQ(take(sk, one.pid, &task), 0);
	CHECK(same_session(&task, &first));
	CHECK_EQ(commit(sk, &second), 0);
	for (uint32_t i = 0; i < 2; i++) {
		CHECK_EQ(list(sk, i, &task), 0);
		CHECK(same_session(&task, &second));
		CHECK_EQ(task.generation, 1);
	}
	CHECK_EQ(list(sk, 2, &task), -ENOENT);
}

static void only_the_rounds_own_connection_commits_it(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, wrong;
	FD sk = -1;
	FD other = -1;

	CHECK(world_start(&world));
	sk = client_new();
	other = client_new();
	memset(&wrong, 0, sizeof(wrong));
	CHECK_EQ(commit(sk, &wrong), -EINVAL);
	CHECK_EQ(begin_round(sk, target.pid, &round), 0);
	CHECK_EQ(add(sk, &target), 0);
	CHECK_EQ(commit(other, &round), -EINVAL);
	wrong = round;
	wrong.generation++;
	CHECK_EQ(commit(sk, &wrong), -EINVAL);
	wrong = round;
	wrong.session[0] ^= 1;
	CHECK_EQ(commit(sk, &wrong), -EINVAL);
	CHECK_EQ(list(sk, 0, &wrong), 0);
	CHECK_EQ(wrong.generation, 0);
	CHECK_EQ(commit(sk, &round), 0);
	CHECK_EQ(commit(sk, &round), -EINVAL);
}

static void figures_are_noted_by_the_owner_only(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg note = message(WPTRACK_OP_NOTE, target.pid);
	struct wptrack_task round, task;
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(ask(sk, &note), -ENOENT);
	CHECK_EQ(begin_round(sk, target.pid, &round), 0);
	CHECK_EQ(add(sk, &target), 0);
	note = message(WPTRACK_OP_NOTE, target.pid);
	note.task.vmas_registered = 3;
	note.task.registered_bytes = 1ull << 46;
	note.task.pages_written = 4;
	note.task.pages_clean = 5;
	note.task.vmas_refused[WPTRACK_REFUSED_FILE] = 6;
	/* What is no figure stays as it is. */
	note.task.generation = 99;
	note.task.mm_id = 99;
	CHECK_EQ(ask(sk, &note), 0);
	CHECK_EQ(commit(sk, &round), 0);
	CHECK_EQ(list(sk, 0, &task), 0);
	CHECK_EQ(task.vmas_registered, 3);
	CHECK_EQ(task.registered_bytes, 1ull << 46);
	CHECK_EQ(task.pages_written, 4);
	CHECK_EQ(task.pages_clean, 5);
	CHECK_EQ(task.vmas_refused[WPTRACK_REFUSED_FILE], 6);
	CHECK_EQ(task.generation, 1);
	CHECK_EQ(task.mm_id, 1);
	note = message(WPTRACK_OP_NOTE, target.pid);
	CHECK_EQ(ask(sk, &note), -EPERM);
}

static void a_restored_task_has_the_round_of_its_images(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg msg = message(WPTRACK_OP_RESTORED, target.pid);
	struct wptrack_task round, task;
	FD first = -1;
	FD second = -1;

	CHECK(world_start(&world));
	first = client_new();
	second = client_new();
	memset(msg.task.session, 7, sizeof(msg.task.session));
	msg.task.generation = 5;
	msg.task.base = 99;
	task = msg.task;
	CHECK_EQ(ask(first, &msg), -ENOENT);
	CHECK_EQ(add(first, &target), 0);
	msg.task = task;
	CHECK_EQ(ask(second, &msg), -EBUSY);
	msg.task = task;
	msg.task.base = 0;
	CHECK_EQ(ask(first, &msg), -EINVAL);
	msg.task = task;
	msg.task.generation = 0;
	CHECK_EQ(ask(first, &msg), -EINVAL);
	msg.task = task;
	CHECK_EQ(ask(first, &msg), 0);
	/* Once: it is nobody's. */
	msg.task = task;
	CHECK_EQ(ask(first, &msg), -EPERM);
	CHECK_EQ(list(first, 0, &round), 0);
	CHECK(round.generation == 5 && round.base == 99 && same_session(&round, &task));

	/* The session is that of the images, and not its own: others may have been restored from them. */
	CHECK_EQ(begin_round(second, target.pid, &round), 0);
	CHECK(!same_session(&round, &task));
	CHECK_EQ(round.generation, 1);
	CHECK_EQ(take(second, target.pid, &task), 0);
	CHECK(task.generation == 5 && task.base == 99);
	CHECK_EQ(list(first, 0, &task), 0);
	CHECK(!task.generation && !task.base);
	CHECK_EQ(commit(second, &round), 0);
	CHECK_EQ(list(first, 0, &task), 0);
	CHECK(task.generation == 1 && !task.base && same_session(&round, &task));
}

static void another_mm_or_process_is_dropped(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg msg;
	struct wptrack_task round;
	FD sk = -1;
	int uffd;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	msg = message(WPTRACK_OP_TAKE, target.pid);
	msg.task.mm_stamp++;
	CHECK_EQ(wptrack_wire_call(sk, &msg, NULL, 0, &uffd), -ENOENT);
	CHECK_EQ(take(sk, target.pid, NULL), -ENOENT);
	CHECK_EQ(run_round(&target, false, &round), 0);
	msg = message(WPTRACK_OP_TAKE, target.pid);
	msg.task.start_time++;
	CHECK_EQ(wptrack_wire_call(sk, &msg, NULL, 0, &uffd), -ENOENT);
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
}

/* As a caller of another pid namespace would, which wptrack_wire_call() cannot be told to be. */
static int ask_elsewhere(int sk, struct wptrack_msg *msg, const int *fds, unsigned int nr_fds)
{
	int ret_fds[WPTRACK_MAX_FDS];
	unsigned int nr;
	int err;

	msg->task.pid_ns = wptrack_wire_pid_ns() + 1;
	err = wptrack_wire_send(sk, msg, fds, nr_fds);
	if (!err)
		err = wptrack_wire_recv(sk, msg, ret_fds, &nr);
	if (err)
		return err;
	for (unsigned int i = 0; i < nr; i++)
		close(ret_fds[i]);
	return msg->error;
}

static void the_same_number_in_another_pid_namespace_is_another_task(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, known;
	struct wptrack_msg msg;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	msg = message(WPTRACK_OP_TAKE, target.pid);
	msg.task.start_time++;
	CHECK_EQ(ask_elsewhere(sk, &msg, NULL, 0), -ENOENT);
	msg = message(WPTRACK_OP_NOTE, target.pid);
	CHECK_EQ(ask_elsewhere(sk, &msg, NULL, 0), -ENOENT);
	msg = message(WPTRACK_OP_RELEASE, target.pid);
	CHECK_EQ(ask_elsewhere(sk, &msg, NULL, 0), -ENOENT);
	msg = message(WPTRACK_OP_ROUND, target.pid);
	CHECK_EQ(ask_elsewhere(sk, &msg, NULL, 0), 0);
	CHECK(!same_session(&msg.task, &round));
	/* What has been committed here is as it was. */
	CHECK_EQ(take(sk, target.pid, &known), 0);
	CHECK_EQ(known.generation, round.generation);
	CHECK_EQ(known.pid_ns, wptrack_wire_pid_ns());
}

static void tasks_of_two_pid_namespaces_are_held_side_by_side(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	const int fds[] = { target.pidfd, target.uffd };
	struct wptrack_task first, second;
	struct wptrack_msg msg;
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(add(sk, &target), 0);
	msg = message(WPTRACK_OP_ADD, target.pid);
	msg.task.start_time++;
	CHECK_EQ(ask_elsewhere(sk, &msg, fds, 2), 0);
	CHECK_EQ(list(sk, 0, &first), 0);
	CHECK_EQ(list(sk, 1, &second), 0);
	CHECK_EQ(first.pid, second.pid);
	CHECK(first.pid_ns != second.pid_ns && first.mm_id != second.mm_id);
	/* Each is released by its own, and both go when the process does. */
	CHECK_EQ(release(sk, target.pid), 1);
	CHECK_EQ(list(sk, 0, &first), 0);
	CHECK_EQ(first.pid_ns, wptrack_wire_pid_ns() + 1);
	CHECK_EQ(add(sk, &target), 0);
	CHECK(target_kill(&target));
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
}

static int prepare(int sk, const struct target *target)
{
	struct wptrack_msg msg = message(WPTRACK_OP_PREPARE, target->pid);

	return wptrack_wire_call(sk, &msg, &target->pidfd, 1, NULL);
}

static void what_was_prepared_is_remembered_until_it_is_added(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg msg = message(WPTRACK_OP_RELEASE, target.pid);
	FD other = -1;

	CHECK(world_start(&world));
	other = client_new();
	{
		FD sk = client_new();

		CHECK_EQ(prepare(sk, &target), 0);
		CHECK_EQ(prepare(other, &target), -EBUSY);
		CHECK_EQ(take(other, target.pid, NULL), -EBUSY);
	}
	/* The connection has ended without saying what became of it. */
	for (int i = 0; i < 100 && take(other, target.pid, NULL) == -EBUSY; i++)
		usleep(10000);
	CHECK_EQ(take(other, target.pid, NULL), -ENODATA);
	{
		FD sk = client_new();

		CHECK_EQ(ask(sk, &msg), -ENOENT);
		msg = message(WPTRACK_OP_RELEASE, 0);
		CHECK_EQ(ask(sk, &msg), 0);
		CHECK_EQ(msg.index, 0);
	}
	CHECK_EQ(take(other, target.pid, NULL), -ENODATA);
	CHECK_EQ(prepare(other, &target), 0);
	CHECK_EQ(add(other, &target), 0);
	CHECK_EQ(take(other, target.pid, NULL), 0);
	CHECK_EQ(prepare(other, &target), -EEXIST);
}

/* What is released for later goes when it is asked about, and is nobody's until then. */
static void what_is_released_for_later_can_be_tracked_anew(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg msg = message(WPTRACK_OP_RELEASE, target.pid);
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(add(sk, &target), 0);
	msg.index = WPTRACK_RELEASE_LATER;
	CHECK_EQ(ask(sk, &msg), 0);
	CHECK_EQ(msg.index, 1);
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
	msg = message(WPTRACK_OP_RELEASE, target.pid);
	CHECK_EQ(ask(sk, &msg), -ENOENT);
	CHECK_EQ(take(sk, target.pid, NULL), -ENOENT);
	CHECK_EQ(add(sk, &target), 0);
	CHECK_EQ(take(sk, target.pid, NULL), 0);
}

static void what_was_prepared_in_vain_can_be_given_up(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_msg msg = message(WPTRACK_OP_RELEASE, target.pid);
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(prepare(sk, &target), 0);
	CHECK_EQ(ask(sk, &msg), 0);
	CHECK_EQ(take(sk, target.pid, NULL), -ENOENT);
}

static void adding_again_replaces_with_a_new_mm_id(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	struct wptrack_task round, before, after;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&target, false, &round), 0);
	sk = client_new();
	CHECK_EQ(list(sk, 0, &before), 0);
	CHECK_EQ(add(sk, &target), 0);
	CHECK_EQ(list(sk, 0, &after), 0);
	CHECK(after.mm_id > before.mm_id);
	CHECK_EQ(after.generation, 0);
	CHECK_EQ(list(sk, 1, NULL), -ENOENT);
}

static void descriptors_are_checked_for_what_they_are(void)
{
	WORLD world = world_new();
	TARGET target = target_new();
	TARGET other = target_new();
	FD event = eventfd(0, EFD_CLOEXEC);
	FD sk = -1;

	CHECK(world_start(&world));
	sk = client_new();
	CHECK_EQ(add_fds(sk, target.pid, event, target.uffd), -EINVAL);
	CHECK_EQ(add_fds(sk, target.pid, target.pidfd, event), -EINVAL);
	CHECK_EQ(add_fds(sk, target.pid, target.uffd, target.pidfd), -EINVAL);
	CHECK_EQ(add_fds(sk, target.pid, other.pidfd, target.uffd), -EINVAL);
	CHECK_EQ(add_fds(sk, 0, target.pidfd, target.uffd), -EINVAL);
	CHECK_EQ(add_fds(sk, -1, target.pidfd, target.uffd), -EINVAL);
	CHECK(target_kill(&other));
	CHECK_EQ(add(sk, &other), -ESRCH);
	CHECK_EQ(waitpid(other.pid, NULL, 0), other.pid);
	CHECK_EQ(add(sk, &other), -ESRCH);
	other.pid = -1;
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
	CHECK_EQ(add(sk, &target), 0);
}

static void release_lets_one_or_all_go(void)
{
	WORLD world = world_new();
	TARGET one = target_new();
	TARGET two = target_new();
	TARGET three = target_new();
	struct wptrack_task round;
	FD sk = -1;

	CHECK(world_start(&world));
	CHECK_EQ(run_round(&one, false, &round), 0);
	CHECK_EQ(run_round(&two, false, &round), 0);
	CHECK_EQ(run_round(&three, false, &round), 0);
	sk = client_new();
	CHECK_EQ(release(sk, two.pid), 1);
	CHECK_EQ(release(sk, two.pid), -ENOENT);
	CHECK_EQ(release(sk, -5), -EINVAL);
	CHECK_EQ(take(sk, one.pid, NULL), 0);
	CHECK_EQ(release(sk, 0), 2);
	CHECK_EQ(list(sk, 0, NULL), -ENOENT);
	CHECK_EQ(release(sk, 0), 0);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(committed_round_is_given_back),
		TEST(userfaultfd_given_back_is_the_targets),
		TEST(dropped_connection_un_commits_its_tasks),
		TEST(tasks_of_a_live_connection_are_busy),
		TEST(generation_is_never_given_twice),
		TEST(untracked_root_begins_a_session),
		TEST(task_moves_to_the_session_that_commits_it),
		TEST(only_the_rounds_own_connection_commits_it),
		TEST(figures_are_noted_by_the_owner_only),
		TEST(a_restored_task_has_the_round_of_its_images),
		TEST(another_mm_or_process_is_dropped),
		TEST(the_same_number_in_another_pid_namespace_is_another_task),
		TEST(tasks_of_two_pid_namespaces_are_held_side_by_side),
		TEST(what_was_prepared_is_remembered_until_it_is_added),
		TEST(what_is_released_for_later_can_be_tracked_anew),
		TEST(what_was_prepared_in_vain_can_be_given_up),
		TEST(adding_again_replaces_with_a_new_mm_id),
		TEST(descriptors_are_checked_for_what_they_are),
		TEST(release_lets_one_or_all_go),
	};

	return world_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
