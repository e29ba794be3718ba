// SPDX-License-Identifier: GPL-2.0-only
/*
 * torture --control FILE --oracle FILE --data FILE --seed N [--threads N] [--processes N]
 *
 * Does all that can be done to memory, at random and as fast as it can: in
 * windows of address space, each worked on by one thread, in several processes,
 * which fork, exit and execute themselves. What every page must hold stands in
 * the oracle (oracle.h), and can be checked at any time. The same seed makes the
 * same sequence of operations in each window.
 *
 * Most of what is written lies in an eighth of each window, another one in each
 * epoch, so that there is something left that has not changed.
 */
#include "torture_ops.h"

/* --- workers ----------------------------------------------------------------------------- */

static bool is_asked(void)
{
	return atomic_load(&paused) || atomic_load(&ctl->request) != atomic_load(&slot->acked);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&leaving)) {
		if (is_asked()) {
			atomic_store(&w->state, WORKER_PARKED);
			while (is_asked() && !atomic_load(&leaving))
				steps_nap_ms(1);
			atomic_store(&w->state, WORKER_RUNS);
			/* Asked again while it was on its way: the one who asks may not have seen it run. */
			continue;
		}
		one_op(w);
		if (!below(w, 100000))
			break;
	}
	atomic_store(&w->state, WORKER_ENDED);
	return NULL;
}

static int start_worker(struct worker *w)
{
	atomic_store(&w->state, WORKER_RUNS);
	return pthread_create(&w->thread, NULL, work, w);
}

/* Wait until none of them works. */
static void await_parked(void)
{
	for (unsigned int i = 0; i < conf.threads; i++)
		while (atomic_load(&worker[i].state) == WORKER_RUNS)
			steps_nap_ms(1);
}

static int setup_window(struct worker *w, unsigned int window)
{
	size_t size = (size_t)ORACLE_SHARED * PAGE;

	*w = (struct worker){
		.window = window,
		.huge = window % 2,
		.rng = conf.seed * 1000003 + conf.proc * 101 + window,
		.epoch = atomic_load(&ctl->epoch),
		.page = self->page[window],
		.shared = self->shared[window],
		.mem = (uint8_t *)oracle_window(window),
		.memfd = memfd_create("torture", MFD_CLOEXEC),
	};
	memset(w->page, 0, sizeof(self->page[window]));
	memset(w->shared, 0, sizeof(self->shared[window]));
	if (w->memfd < 0 || ftruncate(w->memfd, (off_t)size))
		return -errno;
	for (unsigned int i = 0; i < 2; i++) {
		w->alias[i] = mmap(w->mem + (8 + i) * 0x1000000ull, size, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED_NOREPLACE, w->memfd, 0);
		if (w->alias[i] == MAP_FAILED)
			return -errno;
	}
	/* Something to start from. */
	for (unsigned int at = 0; at < PAGES; at += 4 * MAX_RANGE) {
		op_map(w, at, MAX_RANGE);
		op_write(w, at, MAX_RANGE);
	}
	return start_worker(w);
}

/* --- verification ------------------------------------------------------------------------ */

struct result {
	uint64_t checked, bad;
	const void *first;
};

static void judge(struct result *result, struct worker *w, unsigned int i, const void *at, bool right, const char *what)
{
	result->checked++;
	if (right)
		return;
	result->bad++;
	if (!result->first)
		result->first = at;
	if (result->bad <= 10)
		found_bad(w, i, what);
}

static bool faults(const void *at)
{
	uint64_t word;
	struct iovec local = { &word, sizeof(word) }, remote = { (void *)at, sizeof(word) };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0 && errno == EFAULT;
}

/* As /proc/self/maps has it, "---" where nothing is mapped. */
static void read_protections(struct worker *w, char prot[PAGES][4])
{
	uint64_t base = oracle_window(w->window), start, end;
	FILE *f = fopen("/proc/self/maps", "re");
	char perms[5], line[512];

	for (unsigned int i = 0; i < PAGES; i++)
		memcpy(prot[i], "---", 4);
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, perms) != 3)
			continue;
		for (; start < end; start += PAGE)
			if (start >= base && start < base + PAGES * PAGE)
				memcpy(prot[(start - base) / PAGE], perms, 3);
	}
	if (f)
		fclose(f);
}

static void verify_window(struct worker *w, int mem_fd, struct result *result)
{
	static const char *const prots[] = { [ORACLE_RW] = "rw-", [ORACLE_RO] = "r--", [ORACLE_NO] = "---" };
	static char prot[PAGES][4];
	uint8_t buf[PAGE];

	read_protections(w, prot);
	for (unsigned int i = 0; i < PAGES; i++) {
		struct oracle_want want = want_of(w, i);
		void *at = addr(w, i);

		if (want.map != ORACLE_NONE && strcmp(prot[i], prots[want.prot])) {
			judge(result, w, i, at, false, "wrong protection");
			continue;
		}

		if (want.map == ORACLE_NONE)
			judge(result, w, i, at, !kernel_has(w, i), "mapped, but must not be");
		else if (want.guard)
			judge(result, w, i, at, faults(at), "no guard page any more");
		else
			judge(result, w, i, at, read_page(mem_fd, at, buf) && is_right(buf, want), "wrong content");
	}
	for (unsigned int i = 0; i < ORACLE_SHARED; i++) {
		struct oracle_want want = w->shared[i];

		for (unsigned int way = 0; way < 2; way++) {
			void *at = w->alias[way] + (size_t)i * PAGE;

			judge(result, w, i, at, is_right(at, want), "wrong shared content");
		}
		judge(result, w, i, w->alias[0] + (size_t)i * PAGE,
		      pread(w->memfd, buf, PAGE, (off_t)i * PAGE) == PAGE && is_right(buf, want), "wrong in the memfd");
	}
}

static void verify(void)
{
	int mem_fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	struct result result = { 0 };
	uint64_t others = atomic_exchange(&self->bad, 0);

	for (unsigned int i = 0; i < conf.threads; i++)
		verify_window(&worker[i], mem_fd, &result);
	close(mem_fd);
	atomic_store(&self->bad, 0);
	atomic_fetch_add(&self->compared, result.checked);
	control_report(slot, result.checked, result.bad + others, 0, result.first);
}

/* --- processes --------------------------------------------------------------------------- */

static int open_data(void)
{
	uint64_t buf[WORDS];

	conf.data_fd = open(conf.data_path, O_RDWR | O_CLOEXEC | O_CREAT, 0600);
	if (conf.data_fd < 0)
		return -errno;
	if (!conf.proc)
		for (unsigned int i = 0; i < ORACLE_FILE; i++) {
			fill(buf, FILE_BASE | i, 0);
			if (pwrite(conf.data_fd, buf, PAGE, (off_t)i * PAGE) != PAGE)
				return -EIO;
		}
	/* Who has one is stopped even by a live pre-dump, so most lives have none. */
	conf.direct_fd = conf.seed % 4 ? -1 : open(conf.data_path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	return 0;
}

static int setup_process(void)
{
	slot = control_take_slot(ctl, conf.proc);
	/* Born too late to be told. */
	if (atomic_load(&ctl->op) == CONTROL_QUIT) {
		atomic_store(&slot->state, CONTROL_GONE);
		_exit(0);
	}
	self = &oracle->proc[conf.proc];
	atomic_store(&self->pid, 0);
	atomic_store(&self->born, atomic_load(&ctl->epoch));
	for (unsigned int i = 0; i < conf.threads; i++) {
		int err = setup_window(&worker[i], i);

		if (err)
			return err;
	}
	/* A round before is not judged: windows may be missing that the table still has from an earlier life. */
	atomic_store(&self->pid, (uint32_t)getpid());
	atomic_store(&slot->state, CONTROL_RUNNING);
	return 0;
}

/* The parent's windows are not the child's business. */
static void drop_windows(void)
{
	for (unsigned int i = 0; i < conf.threads; i++) {
		munmap((void *)oracle_window(i), ORACLE_STRIDE);
		if (worker[i].mem)
			close(worker[i].memfd);
	}
}

static void serve(void);

static int start_child(unsigned int proc)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid) {
		child_pid[proc] = pid;
		return 0;
	}
	conf.proc = proc;
	atomic_store(&leaving, false);
	memset(child_pid, 0, sizeof(child_pid));
	drop_windows();
	if (setup_process())
		_exit(1);
	serve();
	_exit(0);
}

static void end_workers(void)
{
	atomic_store(&leaving, true);
	for (unsigned int i = 0; i < conf.threads; i++)
		pthread_join(worker[i].thread, NULL);
}

/* Go, or become another process of the same pid; the parent sees to the first. */
static void change_life(uint64_t dice)
{
	char proc[16];

	/* What a round under way has of it from now on is not to be judged. */
	atomic_store(&self->pid, 0);
	atomic_store(&self->born, atomic_load(&ctl->epoch));
	atomic_store(&slot->state, CONTROL_GONE);
	end_workers();
	if (dice % 2)
		_exit(0);
	snprintf(proc, sizeof(proc), "%u", conf.proc);
	setenv("TORTURE_PROC", proc, 1);
	execv("/proc/self/exe", conf.argv);
	_exit(1);
}

static void tend_children(void)
{
	for (unsigned int i = 1; i < conf.processes && !conf.proc; i++) {
		int status;

		if (!child_pid[i] || waitpid(child_pid[i], &status, WNOHANG) != child_pid[i])
			continue;
		if (status) {
			fprintf(stderr, "torture: process %u ended with status %x\n", i, (unsigned int)status);
			fflush(stderr);
			atomic_fetch_add(&self->bad, 1);
		}
		child_pid[i] = 0;
		if (start_child(i))
			atomic_fetch_add(&self->bad, 1);
	}
}

static void tend_workers(void)
{
	for (unsigned int i = 0; i < conf.threads; i++) {
		if (atomic_load(&worker[i].state) != WORKER_ENDED)
			continue;
		pthread_join(worker[i].thread, NULL);
		if (start_worker(&worker[i]))
			atomic_fetch_add(&self->bad, 1);
	}
}

static void obey(uint32_t request)
{
	enum control_op op = atomic_load(&ctl->op);

	await_parked();
	if (op == CONTROL_PAUSE || op == CONTROL_RESUME)
		atomic_store(&paused, op == CONTROL_PAUSE);
	if (op == CONTROL_VERIFY)
		verify();
	if (op == CONTROL_QUIT)
		atomic_store(&slot->state, CONTROL_GONE);
	else
		atomic_store(&slot->state, atomic_load(&paused) ? CONTROL_PAUSED : CONTROL_RUNNING);
	atomic_store(&slot->acked, request);
	if (op == CONTROL_QUIT) {
		/* Our children are told the same. */
		for (unsigned int i = 1; i < conf.processes; i++)
			if (child_pid[i])
				waitpid(child_pid[i], NULL, 0);
		_exit(0);
	}
}

static void serve(void)
{
	uint64_t dice = mix(conf.seed + conf.proc + (uint64_t)getpid());

	for (;;) {
		uint32_t request = atomic_load(&ctl->request);

		control_beat(slot, atomic_load(&paused));
		atomic_store(&slot->writes, atomic_load(&self->ops));
		if (request != atomic_load(&slot->acked)) {
			obey(request);
			continue;
		}
		steps_nap_ms(1);
		if (atomic_load(&paused))
			continue;
		tend_workers();
		tend_children();
		dice = mix(dice);
		if (conf.proc && dice % 3000 < 2)
			change_life(dice / 3000);
	}
}

static int map_oracle(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*oracle)))
		return -errno;
	oracle = mmap(NULL, sizeof(*oracle), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (oracle == MAP_FAILED)
		return -errno;
	oracle->magic = ORACLE_MAGIC;
	return 0;
}

static int parse(int argc, char **argv, const char **ret_control, const char **ret_oracle)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' }, { "oracle", required_argument, NULL, 'o' },
		{ "data", required_argument, NULL, 'd' },    { "seed", required_argument, NULL, 's' },
		{ "threads", required_argument, NULL, 't' }, { "processes", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*ret_control = *ret_oracle = NULL;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			*ret_control = optarg;
		else if (c == 'o')
			*ret_oracle = optarg;
		else if (c == 'd')
			conf.data_path = optarg;
		else if (c == 's')
			conf.seed = strtoull(optarg, NULL, 0);
		else if (c == 't')
			conf.threads = (unsigned int)atoi(optarg);
		else if (c == 'p')
			conf.processes = (unsigned int)atoi(optarg);
		else
			return -1;
	}
	if (optind != argc || !*ret_control || !*ret_oracle || !conf.data_path || !conf.threads ||
	    conf.threads > ORACLE_WINDOWS || !conf.processes || conf.processes > ORACLE_PROCS)
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	const char *control_path, *oracle_path, *proc = getenv("TORTURE_PROC");
	int err;

	if (parse(argc, argv, &control_path, &oracle_path)) {
		fprintf(stderr, "usage: torture --control FILE --oracle FILE --data FILE --seed N [--threads N] "
				"[--processes N]\n");
		return 2;
	}
	conf.argv = argv;
	conf.proc = proc ? (unsigned int)atoi(proc) : 0;
	err = control_map(control_path, false, &ctl) || map_oracle(oracle_path) || open_data();
	for (unsigned int i = 1; i < conf.processes && !conf.proc && !err; i++)
		err = start_child(i);
	if (!err)
		err = setup_process();
	if (err) {
		fprintf(stderr, "torture: cannot be set up: %d\n", err);
		return 1;
	}
	serve();
}
