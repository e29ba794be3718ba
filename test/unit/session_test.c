/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>

#include "images_dir.h"
#include "lib/cleanup.h"
#include "wptrack.pb-c.h"

#define BOOT_ID	     "01234567-89ab-cdef-0123-456789abcdef"
#define COMMON_MAGIC 0x54564319u
#define HEADER_BYTES 12

#define RECORD WPTRACK_CLEANUP(wptrack_record_end) struct wptrack_record

static struct wptrack_record_task sample_tasks[] = {
	{
		.info = {
			.pid = 4711,
			.start_time = UINT64_MAX,
			.mm_stamp = 0x8000000000000001,
			.mm_id = 3,
			.vmas_registered = 65530,
			.registered_bytes = 125ull << 40,
			.pages_written = 1,
			.pages_clean = 2,
			.vmas_refused = { [WPTRACK_REFUSED_FILE] = 12, [WPTRACK_REFUSED_LIMIT] = UINT32_MAX },
			.comm = "fifteen letters",
		},
		.basis = WPTRACK_BASIS_UNTRUSTED,
	},
	{ .info = { .pid = INT32_MAX, .comm = "\xff\"\n" }, .basis = WPTRACK_BASIS_UNTRACKED, .io_uring = true },
	{ .info = { .pid = 1 }, .basis = WPTRACK_BASIS_INCREMENTAL },
};

static struct wptrack_record sample(void)
{
	return (struct wptrack_record){
		.session = { 0xde, 0xad, 0, 0xff, [15] = 0x0f },
		.generation = 7,
		.parent_generation = 6,
		.boot_id = BOOT_ID,
		.final = true,
		.tasks = sample_tasks,
		.nr_tasks = 3,
	};
}

/* Read and throw away. */
static int read_status(const struct images *images)
{
	RECORD *rec = NULL;

	return wptrack_record_read(images->fd, ".", &rec);
}

static void record_is_read_as_written(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	RECORD *in = NULL;

	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	CHECK_EQ(wptrack_record_read(images.fd, ".", &in), 0);
	CHECK(!memcmp(in->session, out.session, WPTRACK_ID_LEN));
	CHECK_EQ(in->generation, 7);
	CHECK_EQ(in->parent_generation, 6);
	CHECK(!strcmp(in->boot_id, BOOT_ID));
	CHECK(in->final);
	CHECK_EQ(in->nr_tasks, 3);
	for (size_t i = 0; i < 3; i++) {
		/* Session and generation of a task are those of the record. */
		struct wptrack_task expected = sample_tasks[i].info;

		memcpy(expected.session, out.session, WPTRACK_ID_LEN);
		expected.generation = 7;
		CHECK(!memcmp(&in->tasks[i].info, &expected, sizeof(expected)));
		CHECK_EQ(in->tasks[i].basis, sample_tasks[i].basis);
		CHECK_EQ(in->tasks[i].io_uring, sample_tasks[i].io_uring);
	}
}

static void record_without_tasks_is_fine(void)
{
	IMAGES images = new_images();
	struct wptrack_record out = sample();
	RECORD *in = NULL;

	out.tasks = NULL;
	out.nr_tasks = 0;
	out.final = false;
	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	CHECK_EQ(wptrack_record_read(images.fd, ".", &in), 0);
	CHECK_EQ(in->nr_tasks, 0);
	CHECK(!in->final);
	CHECK(!wptrack_record_find(in, 1));
}

static void many_tasks_are_kept_in_order(void)
{
	IMAGES images = new_images();
	struct wptrack_record out = sample();
	RECORD *in = NULL;
	const size_t nr = 20000;
	int err;

	out.tasks = calloc(nr, sizeof(*out.tasks));
	CHECK(out.tasks);
	out.nr_tasks = nr;
	for (size_t i = 0; i < nr; i++)
		out.tasks[i].info.pid = (int32_t)(nr - i);
	err = wptrack_record_write(images.fd, &out);
	free(out.tasks);
	CHECK_EQ(err, 0);
	CHECK_EQ(wptrack_record_read(images.fd, ".", &in), 0);
	CHECK_EQ(in->nr_tasks, nr);
	for (size_t i = 0; i < nr; i++)
		CHECK_EQ(in->tasks[i].info.pid, nr - i);
}

static void missing_record_is_told_as_such(void)
{
	IMAGES images = new_images();
	RECORD *rec = NULL;

	CHECK_EQ(wptrack_record_read(images.fd, ".", &rec), -ENOENT);
	CHECK_EQ(wptrack_record_read(images.fd, "parent", &rec), -ENOENT);
	CHECK_EQ(symlinkat("/nonexistent", images.fd, "parent"), 0);
	CHECK_EQ(wptrack_record_read(images.fd, "parent", &rec), -ENOENT);
	CHECK(!rec);
}

static void parent_link_is_followed(void)
{
	IMAGES parent = new_images();
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	RECORD *in = NULL;

	CHECK_EQ(symlinkat(parent.path, images.fd, "parent"), 0);
	CHECK_EQ(wptrack_record_write(parent.fd, &out), 0);
	CHECK_EQ(wptrack_record_read(images.fd, "parent", &in), 0);
	CHECK_EQ(in->generation, 7);
}

static void truncation_at_any_byte_is_noticed(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	uint8_t buf[4096];
	size_t len;

	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	len = get_file(&images, buf, sizeof(buf));
	CHECK(len > HEADER_BYTES && len < sizeof(buf));
	for (size_t cut = 0; cut < len; cut++) {
		CHECK(put_file(&images, buf, cut));
		CHECK_EQ(read_status(&images), -EBADMSG);
	}
	CHECK(put_file(&images, buf, len));
	CHECK_EQ(read_status(&images), 0);
	buf[len] = 0;
	CHECK(put_file(&images, buf, len + 1));
	CHECK_EQ(read_status(&images), -EBADMSG);
}

/* The header agrees with the shorter length: only the message itself can tell. */
static void message_cut_short_is_never_another_record(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	uint8_t buf[4096];
	size_t len;

	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	len = get_file(&images, buf, sizeof(buf));
	for (size_t cut = HEADER_BYTES; cut < len; cut++) {
		const uint32_t payload = (uint32_t)(cut - HEADER_BYTES);
		RECORD *rec = NULL;
		int ret;

		memcpy(buf + 8, &payload, sizeof(payload));
		CHECK(put_file(&images, buf, cut));
		ret = wptrack_record_read(images.fd, ".", &rec);
		/* A cut between two tasks leaves a record that is whole in itself. */
		CHECK(ret == -EBADMSG || (ret == 0 && rec->nr_tasks < 3));
	}
}

static void flipped_bits_do_no_harm(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	uint8_t buf[4096];
	size_t len;

	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	len = get_file(&images, buf, sizeof(buf));
	for (size_t bit = 0; bit < len * 8; bit++) {
		int ret;

		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CHECK(put_file(&images, buf, len));
		ret = read_status(&images);
		CHECK(ret == 0 || ret == -EBADMSG);
		CHECK(ret == -EBADMSG || bit >= HEADER_BYTES * 8);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void oversize_length_is_refused_unread(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	const uint32_t claims[] = { UINT32_MAX, INT32_MAX, (64u << 20) + 1 };
	uint8_t buf[4096];

	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	get_file(&images, buf, sizeof(buf));
	for (size_t i = 0; i < 3; i++) {
		char path[80];

		memcpy(buf + 8, &claims[i], sizeof(claims[i]));
		CHECK(put_file(&images, buf, HEADER_BYTES));
		CHECK_EQ(read_status(&images), -EBADMSG);
		/* The same with a file that is as long as it says. */
		snprintf(path, sizeof(path), "%s/" WPTRACK_RECORD_NAME, images.path);
		CHECK_EQ(truncate(path, HEADER_BYTES + (off_t)claims[i]), 0);
		CHECK_EQ(read_status(&images), -EBADMSG);
	}
}

/* A message to be spoilt in one field. */
struct crafted {
	Wptrack__RecordEntry record;
	Wptrack__TaskEntry tasks[2];
	Wptrack__TaskEntry *task_ptrs[2];
	Wptrack__RefusedEntry refused[2];
	Wptrack__RefusedEntry *refused_ptrs[2];
	uint8_t id[32];
	char boot_id[64];
	uint8_t comm[32];
};

static void craft(struct crafted *crafted)
{
	memset(crafted, 0, sizeof(*crafted));
	wptrack__record_entry__init(&crafted->record);
	strcpy(crafted->boot_id, BOOT_ID);
	memset(crafted->comm, 'c', sizeof(crafted->comm));
	crafted->record.session_id.data = crafted->id;
	crafted->record.session_id.len = WPTRACK_ID_LEN;
	crafted->record.boot_id = crafted->boot_id;
	crafted->record.generation = 1;
	crafted->record.tasks = crafted->task_ptrs;
	crafted->record.n_tasks = 2;
	for (int i = 0; i < 2; i++) {
		wptrack__task_entry__init(&crafted->tasks[i]);
		wptrack__refused_entry__init(&crafted->refused[i]);
		crafted->task_ptrs[i] = &crafted->tasks[i];
		crafted->refused_ptrs[i] = &crafted->refused[i];
		crafted->tasks[i].pid = 100 + (uint32_t)i;
		crafted->tasks[i].comm.data = crafted->comm;
		crafted->tasks[i].comm.len = 4;
		crafted->refused[i].reason = (Wptrack__Refusal)i;
		crafted->refused[i].vmas = 1;
	}
	crafted->tasks[0].refused = crafted->refused_ptrs;
	crafted->tasks[0].n_refused = 2;
}

/* Store the message in a well-formed frame and read it back. */
static int read_crafted_as(const struct crafted *crafted, struct wptrack_record **ret)
{
	IMAGES images = new_images();
	uint8_t buf[4096], whole[4096];
	const struct wptrack_record any = sample();
	uint32_t payload;

	if (wptrack_record_write(images.fd, &any) || get_file(&images, whole, sizeof(whole)) < HEADER_BYTES)
		return 1;
	memcpy(buf, whole, HEADER_BYTES);
	payload = (uint32_t)wptrack__record_entry__pack(&crafted->record, buf + HEADER_BYTES);
	memcpy(buf + 8, &payload, sizeof(payload));
	return put_file(&images, buf, HEADER_BYTES + payload) ? wptrack_record_read(images.fd, ".", ret) : 1;
}

static int read_crafted(const struct crafted *crafted)
{
	RECORD *rec = NULL;

	return read_crafted_as(crafted, &rec);
}

/* Before there was the field, an io_uring was one of the things that make a task untrusted. */
static void io_uring_that_an_old_record_may_mean_is_assumed(void)
{
	struct crafted crafted;
	RECORD *rec = NULL;

	craft(&crafted);
	crafted.tasks[1].basis = WPTRACK__BASIS__UNTRUSTED;
	CHECK_EQ(read_crafted_as(&crafted, &rec), 0);
	CHECK(!rec->tasks[0].io_uring);
	CHECK(rec->tasks[1].io_uring);
}

static void hostile_record_fields_are_refused(void)
{
	static const char *const boot_ids[] = { "",
						"0",
						BOOT_ID "0",
						"01234567-89ab-cdef-0123-456789abcde",
						"01234567-89AB-cdef-0123-456789abcdef",
						"0123456789ab-cdef-0123-456789abcdeff",
						"01234567-89ab-cdef-0123-456789abcd\xff\xff" };
	struct crafted crafted;

	craft(&crafted);
	CHECK_EQ(read_crafted(&crafted), 0);
	for (size_t len = 0; len <= sizeof(crafted.id); len++) {
		crafted.record.session_id.len = len;
		CHECK_EQ(read_crafted(&crafted), len == WPTRACK_ID_LEN ? 0 : -EBADMSG);
	}
	craft(&crafted);
	for (size_t i = 0; i < sizeof(boot_ids) / sizeof(boot_ids[0]); i++) {
		strcpy(crafted.boot_id, boot_ids[i]);
		CHECK_EQ(read_crafted(&crafted), -EBADMSG);
	}
	strcpy(crafted.boot_id, BOOT_ID);
	CHECK_EQ(read_crafted(&crafted), 0);
	crafted.record.parent_generation = crafted.record.generation;
	CHECK_EQ(read_crafted(&crafted), -EBADMSG);
	crafted.record.parent_generation = 0;
	crafted.record.generation = 0;
	CHECK_EQ(read_crafted(&crafted), -EBADMSG);
}

static void hostile_task_fields_are_refused(void)
{
	const uint32_t pids[] = { 0, 0x80000000, UINT32_MAX, 101 /* the other task's */ };
	const int bases[] = { WPTRACK_BASIS_NR, -1, INT_MAX, INT_MIN };
	struct crafted crafted;

	for (size_t i = 0; i < 4; i++) {
		craft(&crafted);
		crafted.tasks[0].pid = pids[i];
		CHECK_EQ(read_crafted(&crafted), -EBADMSG);
		craft(&crafted);
		crafted.tasks[1].basis = (Wptrack__Basis)bases[i];
		CHECK_EQ(read_crafted(&crafted), -EBADMSG);
	}
	craft(&crafted);
	crafted.tasks[0].comm.len = 0;
	CHECK_EQ(read_crafted(&crafted), 0);
	crafted.tasks[0].comm.len = WPTRACK_COMM_LEN - 1;
	CHECK_EQ(read_crafted(&crafted), 0);
	crafted.tasks[0].comm.len = WPTRACK_COMM_LEN;
	CHECK_EQ(read_crafted(&crafted), -EBADMSG);
	crafted.tasks[0].comm.len = 4;
	crafted.comm[2] = 0;
	CHECK_EQ(read_crafted(&crafted), -EBADMSG);
}

static void hostile_refusals_are_refused(void)
{
	const int reasons[] = { WPTRACK_REFUSED_NR, -1, INT_MAX, INT_MIN, 1 /* said twice */ };
	struct crafted crafted;

	for (size_t i = 0; i < 5; i++) {
		craft(&crafted);
		crafted.refused[0].reason = (Wptrack__Refusal)reasons[i];
		CHECK_EQ(read_crafted(&crafted), -EBADMSG);
	}
	craft(&crafted);
	crafted.refused[1].vmas = 0;
	CHECK_EQ(read_crafted(&crafted), -EBADMSG);
}

static void only_a_regular_file_is_read(void)
{
	IMAGES other = new_images();
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	char target[80];

	CHECK_EQ(wptrack_record_write(other.fd, &out), 0);
	snprintf(target, sizeof(target), "%s/" WPTRACK_RECORD_NAME, other.path);
	CHECK_EQ(symlinkat(target, images.fd, WPTRACK_RECORD_NAME), 0);
	CHECK_EQ(read_status(&images), -EBADMSG);
	CHECK_EQ(unlinkat(images.fd, WPTRACK_RECORD_NAME, 0), 0);
	/* With nobody at its other end. */
	CHECK_EQ(mkfifoat(images.fd, WPTRACK_RECORD_NAME, 0600), 0);
	CHECK_EQ(read_status(&images), -EBADMSG);
	CHECK_EQ(unlinkat(images.fd, WPTRACK_RECORD_NAME, 0), 0);
	CHECK_EQ(mkdirat(images.fd, WPTRACK_RECORD_NAME, 0700), 0);
	CHECK_EQ(read_status(&images), -EBADMSG);
}

static void write_replaces_a_link_and_leaves_its_target(void)
{
	IMAGES images = new_images();
	const struct wptrack_record out = sample();
	struct stat st;

	CHECK_EQ(close(openat(images.fd, "victim", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), 0);
	CHECK_EQ(symlinkat("victim", images.fd, WPTRACK_RECORD_NAME), 0);
	CHECK_EQ(wptrack_record_write(images.fd, &out), 0);
	CHECK_EQ(read_status(&images), 0);
	CHECK_EQ(fstatat(images.fd, "victim", &st, 0), 0);
	CHECK_EQ(st.st_size, 0);
}

static int write_under_umask(const struct images *images, mode_t mask)
{
	const struct wptrack_record out = sample();
	const mode_t before = umask(mask);
	const int ret = wptrack_record_write(images->fd, &out);

	umask(before);
	return ret;
}

static void file_is_the_owners_alone(void)
{
	static const mode_t masks[] = { 0, 022, 0777 };
	IMAGES images = new_images();
	struct stat st;

	for (size_t i = 0; i < 3; i++) {
		CHECK_EQ(write_under_umask(&images, masks[i]), 0);
		CHECK_EQ(fstatat(images.fd, WPTRACK_RECORD_NAME, &st, AT_SYMLINK_NOFOLLOW), 0);
		CHECK_EQ(st.st_mode & 07777, 0600);
	}
	CHECK_EQ(harness_count(images.path), 1);
}

/* With as many bytes to a file as @limit; the signal that goes with it is not wanted. */
static int write_with_limit(const struct images *images, const struct wptrack_record *rec, rlim_t limit)
{
	struct rlimit before, little;
	int ret;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	little = (struct rlimit){ limit, before.rlim_max };
	setrlimit(RLIMIT_FSIZE, &little);
	ret = wptrack_record_write(images->fd, rec);
	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, SIG_DFL);
	return ret;
}

static void failed_write_leaves_what_was_there(void)
{
	IMAGES images = new_images();
	struct wptrack_record rec = sample();
	RECORD *in = NULL;

	CHECK_EQ(wptrack_record_write(images.fd, &rec), 0);
	rec.generation = 8;
	for (rlim_t limit = 0; limit < 200; limit += 10)
		CHECK_EQ(write_with_limit(&images, &rec, limit), -EFBIG);
	CHECK_EQ(harness_count(images.path), 1);
	CHECK_EQ(wptrack_record_read(images.fd, ".", &in), 0);
	CHECK_EQ(in->generation, 7);
}

static void failed_rename_leaves_no_temporary_file(void)
{
	IMAGES images = new_images();
	const struct wptrack_record rec = sample();
	const int before = harness_count_fds();

	CHECK_EQ(mkdirat(images.fd, WPTRACK_RECORD_NAME, 0700), 0);
	CHECK(wptrack_record_write(images.fd, &rec) < 0);
	CHECK_EQ(harness_count(images.path), 1);
	CHECK_EQ(harness_count_fds(), before);
}

static void record_that_could_not_be_read_is_not_written(void)
{
	IMAGES images = new_images();
	struct wptrack_record_task tasks[2] = { { .info.pid = 5 }, { .info.pid = 5 } };
	struct wptrack_record rec = sample();

	rec.tasks = tasks;
	rec.nr_tasks = 2;
	CHECK_EQ(wptrack_record_write(images.fd, &rec), -EINVAL);
	tasks[1].info.pid = 0;
	CHECK_EQ(wptrack_record_write(images.fd, &rec), -EINVAL);
	tasks[1].info.pid = 6;
	tasks[1].basis = WPTRACK_BASIS_NR;
	CHECK_EQ(wptrack_record_write(images.fd, &rec), -EINVAL);
	tasks[1].basis = 0;
	memset(tasks[1].info.comm, 'x', WPTRACK_COMM_LEN);
	CHECK_EQ(wptrack_record_write(images.fd, &rec), -EINVAL);
	tasks[1].info.comm[0] = '\0';
	rec.boot_id[0] = '\0';
	CHECK_EQ(wptrack_record_write(images.fd, &rec), -EINVAL);
	CHECK_EQ(harness_count(images.path), 0);
	strcpy(rec.boot_id, BOOT_ID);
	CHECK_EQ(wptrack_record_write(images.fd, &rec), 0);
}

static void removing_twice_is_no_error(void)
{
	IMAGES images = new_images();
	const struct wptrack_record rec = sample();

	CHECK_EQ(wptrack_record_write(images.fd, &rec), 0);
	CHECK_EQ(wptrack_record_remove(images.fd), 0);
	CHECK_EQ(harness_count(images.path), 0);
	CHECK_EQ(wptrack_record_remove(images.fd), 0);
	wptrack_record_free(NULL);
}

static void task_is_found_by_pid(void)
{
	const struct wptrack_record rec = sample();

	CHECK(wptrack_record_find(&rec, 4711) == &sample_tasks[0]);
	CHECK(wptrack_record_find(&rec, 1) == &sample_tasks[2]);
	CHECK(!wptrack_record_find(&rec, 2));
	CHECK(!wptrack_record_find(&rec, 0));
}

static void names_and_ids_are_printed(void)
{
	char id[2 * WPTRACK_ID_LEN + 1];
	const struct wptrack_record rec = sample();

	for (unsigned int i = 0; i < WPTRACK_BASIS_NR; i++)
		CHECK(wptrack_basis_name(i) && strcmp(wptrack_basis_name(i), "?"));
	CHECK(!strcmp(wptrack_basis_name(WPTRACK_BASIS_NR), "?"));
	CHECK(!strcmp(wptrack_basis_name(~0u), "?"));
	wptrack_id_format(rec.session, id);
	CHECK(!strcmp(id, "dead00ff00000000000000000000000f"));
}

/* As CRIU's own image files begin. */
static void frame_is_criu_s(void)
{
	IMAGES images = new_images();
	const struct wptrack_record rec = sample();
	uint32_t header[3];
	struct stat st;

	CHECK_EQ(wptrack_record_write(images.fd, &rec), 0);
	CHECK(get_file(&images, (uint8_t *)header, sizeof(header)) == HEADER_BYTES);
	CHECK_EQ(header[0], COMMON_MAGIC);
	CHECK_EQ(fstatat(images.fd, WPTRACK_RECORD_NAME, &st, 0), 0);
	CHECK_EQ(header[2], st.st_size - HEADER_BYTES);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(record_is_read_as_written),
		TEST(record_without_tasks_is_fine),
		TEST(many_tasks_are_kept_in_order),
		TEST(missing_record_is_told_as_such),
		TEST(parent_link_is_followed),
		TEST(truncation_at_any_byte_is_noticed),
		TEST(message_cut_short_is_never_another_record),
		TEST(flipped_bits_do_no_harm),
		TEST(oversize_length_is_refused_unread),
		TEST(io_uring_that_an_old_record_may_mean_is_assumed),
		TEST(hostile_record_fields_are_refused),
		TEST(hostile_task_fields_are_refused),
		TEST(hostile_refusals_are_refused),
		TEST(only_a_regular_file_is_read),
		TEST(write_replaces_a_link_and_leaves_its_target),
		TEST(file_is_the_owners_alone),
		TEST(failed_write_leaves_what_was_there),
		TEST(failed_rename_leaves_no_temporary_file),
		TEST(record_that_could_not_be_read_is_not_written),
		TEST(removing_twice_is_no_error),
		TEST(task_is_found_by_pid),
		TEST(names_and_ids_are_printed),
		TEST(frame_is_criu_s),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
