// SPDX-License-Identifier: GPL-2.0-only
#include "lib/clock.h"
#include "plan.h"

#define MIB	      (1024.0 * 1024.0)
#define STOP_TASK_US  1000.0
#define STOP_MIB_US   10.0
#define DUMP_US	      2000.0
#define DUMP_TASK_US  2000.0
#define FREE_MIB_US   35.0
#define LOCK_US	      1000.0
#define LOCK_CONN_US  50.0
#define LOCK_ALONE_US 20000.0

/* Rounds that have written less say nothing of a rate. */
#define BULK_BYTES    (32ull << 20)
#define SCATTER_BYTES (8ull << 20)

/* Memory in one piece is copied that much faster than pages here and there. */
#define SCATTER 4.0

#define STALE_MAX 2
#define FIXED_MAX 2

static double greater(double a, double b)
{
	return a > b ? a : b;
}

/* Also for what no time was spent on, and for clocks that stand still. */
static double rate_of(uint64_t bytes, uint64_t us)
{
	return (double)bytes * WPTRACK_US_PER_S / (us ? (double)us : 1.0);
}

static uint64_t span(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

/* What criu takes to look at a tree, apart from copying. */
static double collect_us(const struct wptrack_plan_round *round)
{
	return round->processes * STOP_TASK_US + (double)round->populated_bytes / MIB * STOP_MIB_US;
}

/* A live round has looked at the tree while it copied: it has not stopped it for nearly as long as that takes. */
static double pure_copy_us(const struct wptrack_plan_round *round)
{
	const double us = (double)round->copied_us, collecting = collect_us(round);

	return (double)round->stopped_us < collecting / 2 ? greater(us - collecting, us / 4) : us;
}

static void add_copy(struct wptrack_plan *plan, const struct wptrack_plan_round *round)
{
	const double us = pure_copy_us(round);

	if (plan->rounds == 1) {
		if (round->written_bytes >= BULK_BYTES)
			plan->bulk_rate = (uint64_t)rate_of(round->written_bytes, (uint64_t)us);
	} else if (round->written_bytes >= SCATTER_BYTES) {
		plan->copied_bytes += round->written_bytes;
		plan->copied_us += (uint64_t)us;
	}
}

/* Of pages here and there. */
static double copy_rate(const struct wptrack_plan *plan)
{
	const double bulk = plan->bulk_rate ? (double)plan->bulk_rate : (double)plan->goal.assumed_rate;

	return greater(plan->copied_bytes ? rate_of(plan->copied_bytes, plan->copied_us) : bulk / SCATTER, 1.0);
}

/* Of memory in one piece: no slower. */
static double bulk_rate(const struct wptrack_plan *plan)
{
	return greater(plan->bulk_rate ? (double)plan->bulk_rate : (double)plan->goal.assumed_rate, copy_rate(plan));
}

static double lock_us(const struct wptrack_plan_round *round)
{
	if (!round->connections)
		return 0;
	switch (round->lock) {
	case WPTRACK_PLAN_LOCK_NONE:
		break;
	case WPTRACK_PLAN_LOCK_AT_ONCE:
		return LOCK_US + round->connections * LOCK_CONN_US;
	case WPTRACK_PLAN_LOCK_ONE_BY_ONE:
		return round->connections * LOCK_ALONE_US;
	}
	return 0;
}

/* Each round wrote what had been written since the one before was as far. */
static double dirty_rate(const struct wptrack_plan *plan, const struct wptrack_plan_round *round)
{
	if (plan->rounds > 1)
		return rate_of(round->written_bytes, span(plan->last_begun_us, round->begun_us));
	return rate_of(round->pending_bytes, span(round->begun_us, round->read_us));
}

static double base_us(const struct wptrack_plan *plan, const struct wptrack_plan_round *round)
{
	const double mib = (double)round->populated_bytes / MIB;
	double us = greater((double)round->stopped_us, collect_us(round));

	us += DUMP_US + round->processes * DUMP_TASK_US + lock_us(round);
	if (!plan->goal.leave_running)
		us += mib * FREE_MIB_US;
	return us;
}

static enum wptrack_plan_verdict judge(struct wptrack_plan *plan, const struct wptrack_plan_forecast *forecast)
{
	if (plan->rounds == 1 || (double)forecast->stop_us <= 0.9 * (double)plan->best_us)
		plan->stale = 0;
	else
		plan->stale++;
	if (plan->rounds == 1 || forecast->stop_us < plan->best_us)
		plan->best_us = forecast->stop_us;
	/* Mappings that are new are not tracked before the next round. */
	plan->fixed = forecast->base_us + forecast->fixed_us > plan->goal.downtime_us ? plan->fixed + 1 : 0;

	if (forecast->stop_us <= plan->goal.downtime_us)
		return WPTRACK_PLAN_DUMP;
	if (plan->fixed >= FIXED_MAX)
		return WPTRACK_PLAN_FIXED;
	if (plan->rounds > 1 && forecast->dirty_rate >= forecast->copy_rate)
		return WPTRACK_PLAN_TOO_FAST;
	if (plan->stale >= STALE_MAX)
		return WPTRACK_PLAN_NO_LESS;
	if (plan->rounds >= plan->goal.max_rounds)
		return WPTRACK_PLAN_ROUNDS;
	return WPTRACK_PLAN_MORE;
}

enum wptrack_plan_verdict wptrack_plan_decide(struct wptrack_plan *plan, const struct wptrack_plan_round *round,
					      struct wptrack_plan_forecast *ret)
{
	double copy, dirty, base, bytes, start_us, fixed_us;

	plan->rounds++;
	add_copy(plan, round);
	copy = copy_rate(plan);
	dirty = dirty_rate(plan, round);
	base = base_us(plan, round);
	/* What criu takes to start, load plugins and look around, and some of what it does in the end. */
	start_us = (double)span(round->stopped_us + round->copied_us, span(round->begun_us, round->ended_us));
	bytes = (double)round->pending_bytes + dirty * start_us / WPTRACK_US_PER_S;
	/* More than there is cannot have been written. */
	if (bytes > (double)round->populated_bytes)
		bytes = greater((double)round->populated_bytes, (double)round->pending_bytes);
	plan->last_begun_us = round->begun_us;
	fixed_us = (double)round->fixed_bytes / bulk_rate(plan) * WPTRACK_US_PER_S;

	*ret = (struct wptrack_plan_forecast){
		.copy_rate = (uint64_t)copy,
		.dirty_rate = (uint64_t)dirty,
		.dump_bytes = (uint64_t)bytes + round->fixed_bytes,
		.base_us = (uint64_t)base,
		.lock_us = (uint64_t)lock_us(round),
		.fixed_us = (uint64_t)fixed_us,
		.stop_us = (uint64_t)(base + fixed_us + bytes / copy * WPTRACK_US_PER_S),
	};
	return judge(plan, ret);
}
