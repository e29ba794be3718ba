/* SPDX-License-Identifier: GPL-2.0-only */
#include "harness.h"
#include "wptrack/migrate/plan.h"

#define MIB 0x100000ull
#define MS  1000ull
#define S   1000000ull

static struct wptrack_plan plan_for(uint64_t downtime_ms)
{
	return (struct wptrack_plan){
		.goal = { .downtime_us = downtime_ms * MS, .max_rounds = 10, .assumed_rate = 1000 * MIB },
	};
}

/* One process of 512 MiB: @written MiB took @copied ms to copy, and @pending MiB are left. Rounds begin each second. */
static struct wptrack_plan_round round_of(unsigned int nr, uint64_t written, uint64_t copied, uint64_t pending)
{
	return (struct wptrack_plan_round){
		.begun_us = nr * S,
		.ended_us = nr * S + copied * MS + 5 * MS,
		.stopped_us = 5 * MS,
		.copied_us = copied * MS,
		.written_bytes = written * MIB,
		.populated_bytes = 512 * MIB,
		.processes = 1,
		.read_us = nr * S + copied * MS + 5 * MS,
		.pending_bytes = pending * MIB,
	};
}

static enum wptrack_plan_verdict decide(struct wptrack_plan *plan, struct wptrack_plan_round round)
{
	struct wptrack_plan_forecast forecast;

	return wptrack_plan_decide(plan, &round, &forecast);
}

static struct wptrack_plan_forecast forecast_of(struct wptrack_plan *plan, struct wptrack_plan_round round)
{
	struct wptrack_plan_forecast forecast;

	wptrack_plan_decide(plan, &round, &forecast);
	return forecast;
}

static void rates_are_measured(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_forecast forecast;

	/* Nothing was written before the first round: what is left was written since it began. */
	forecast = forecast_of(&plan, round_of(0, 500, 980, 30));
	CHECK_EQ(forecast.copy_rate / MIB, 510 / 4);
	CHECK_EQ(forecast.dirty_rate / MIB, 30);
	/* From then on, what a round wrote was written since the one before began, a second ago. */
	forecast = forecast_of(&plan, round_of(1, 40, 100, 10));
	CHECK_EQ(forecast.copy_rate / MIB, 400);
	CHECK_EQ(forecast.dirty_rate / MIB, 40);
}

/* 6.12 ms as a stop is estimated, more than the 5 of the round, 4 ms for what only a dump does, 512 * 35 us to free it,
 * 10 of 400 MiB/s. */
static void stop_is_the_sum_of_its_parts(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);
	struct wptrack_plan_forecast forecast;

	/* It began no time before it stopped the process, so that nothing is written until the next one does. */
	forecast = forecast_of(&plan, round);
	CHECK_EQ(forecast.dump_bytes, 10 * MIB);
	CHECK_EQ(forecast.base_us / 10, (6 * MS + 120 + 4 * MS + 17 * MS + 920) / 10);
	/* The first round has copied all in one piece, four times as fast as what is scattered. */
	CHECK_EQ(forecast.stop_us, forecast.base_us + 100 * MS);
	forecast = forecast_of(&plan, round_of(1, 40, 100, 10));
	CHECK_EQ(forecast.stop_us, forecast.base_us + 25 * MS);
}

static void a_longer_stop_than_estimated_is_believed(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);

	round.stopped_us = 70 * MS;
	CHECK_EQ(forecast_of(&plan, round).base_us / 10, (70 * MS + 4 * MS + 17 * MS + 920) / 10);
}

/* A live round stops nothing. */
static void a_round_without_a_stop_is_no_measure(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);
	uint64_t with_stop = forecast_of(&plan, round).base_us;

	plan = plan_for(1);
	round.stopped_us = 0;
	CHECK_EQ(forecast_of(&plan, round).base_us, with_stop);
}

/* 50 ms, of which 6.12 went by with collecting. Of so short a time as 8, a quarter is believed to be copying. */
static void a_live_round_has_collected_while_it_copied(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);

	decide(&plan, round);
	round = round_of(1, 10, 50, 10);
	round.stopped_us = 0;
	CHECK_EQ(forecast_of(&plan, round).copy_rate / MIB, 227);

	plan = plan_for(1);
	decide(&plan, round_of(0, 400, 1000, 10));
	round.copied_us = 8 * MS;
	CHECK_EQ(forecast_of(&plan, round).copy_rate / MIB, 5000);
}

/* A round that writes next to nothing has not measured much. */
static void rounds_count_by_what_they_copied(void)
{
	struct wptrack_plan plan = plan_for(1);

	decide(&plan, round_of(0, 400, 100, 10));
	decide(&plan, round_of(1, 200, 1000, 10));
	CHECK_EQ(forecast_of(&plan, round_of(2, 1, 5, 10)).copy_rate / MIB, 200);
}

static void what_runs_on_is_not_freed(void)
{
	struct wptrack_plan plan = plan_for(1);

	plan.goal.leave_running = true;
	CHECK_EQ(forecast_of(&plan, round_of(0, 400, 1000, 10)).base_us / 10, (6 * MS + 120 + 4 * MS) / 10);
}

static void each_process_takes_its_time(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);
	uint64_t one = forecast_of(&plan, round).base_us;

	plan = plan_for(1);
	round.processes = 3;
	CHECK_EQ(forecast_of(&plan, round).base_us, one + 2 * 3 * MS);
}

/* criu took 200 ms before it stopped the process: as long will the next one take. */
static void what_is_written_until_the_stop_counts(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);

	decide(&plan, round);
	round = round_of(1, 40, 100, 10);
	round.ended_us += 200 * MS;
	CHECK_EQ(forecast_of(&plan, round).dump_bytes, 18 * MIB);
}

static void no_more_is_written_than_there_is(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);

	decide(&plan, round);
	round = round_of(1, 500, 100, 500);
	round.ended_us += 5 * S;
	CHECK_EQ(forecast_of(&plan, round).dump_bytes, 512 * MIB);
	/* But who has read it may have counted more. */
	round = round_of(2, 500, 100, 600);
	CHECK_EQ(forecast_of(&plan, round).dump_bytes, 600 * MIB);
}

static void a_short_stop_ends_the_rounds(void)
{
	struct wptrack_plan plan = plan_for(129);

	/* 28.04 ms, and 100 for what is left. */
	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 10)), WPTRACK_PLAN_DUMP);
	plan = plan_for(128);
	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 10)), WPTRACK_PLAN_MORE);
}

static void rounds_go_on_while_they_help(void)
{
	struct wptrack_plan plan = plan_for(100);

	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 300)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(1, 300, 750, 200)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(2, 200, 500, 100)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(3, 100, 250, 40)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(4, 40, 100, 1)), WPTRACK_PLAN_DUMP);
}

static void two_rounds_of_no_help_are_enough(void)
{
	struct wptrack_plan plan = plan_for(100);

	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 100)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(1, 100, 250, 100)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(2, 100, 250, 100)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(3, 100, 250, 98)), WPTRACK_PLAN_NO_LESS);
}

static void one_round_of_no_help_is_forgiven(void)
{
	struct wptrack_plan plan = plan_for(50);

	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 100)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(1, 100, 250, 50)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(2, 50, 125, 60)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(3, 60, 150, 20)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(4, 20, 50, 20)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(5, 20, 50, 20)), WPTRACK_PLAN_NO_LESS);
}

/* 500 MiB in the second between two rounds, of which 400 can be copied. */
static void writing_faster_than_copying_is_noticed(void)
{
	struct wptrack_plan plan = plan_for(100);

	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 500)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(1, 500, 1250, 500)), WPTRACK_PLAN_TOO_FAST);
}

static void rounds_have_an_end(void)
{
	struct wptrack_plan plan = plan_for(100);

	plan.goal.max_rounds = 2;
	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 300)), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(1, 300, 750, 200)), WPTRACK_PLAN_ROUNDS);
	/* The last one is as good as any. */
	plan = plan_for(100);
	plan.goal.max_rounds = 1;
	CHECK_EQ(decide(&plan, round_of(0, 400, 1000, 0)), WPTRACK_PLAN_DUMP);
}

/* Nothing written, no time, clocks that stand still or go back: no division by zero, and no wonder. */
static void odd_figures_do_no_harm(void)
{
	struct wptrack_plan plan = plan_for(100);
	struct wptrack_plan_round round = { 0 };

	CHECK_EQ(decide(&plan, round), WPTRACK_PLAN_DUMP);
	plan = plan_for(100);
	CHECK_EQ(decide(&plan, round_of(5, 400, 1000, 10)), WPTRACK_PLAN_MORE);
	/* Nothing was written since, so the rate is that of all so far. */
	round = round_of(4, 0, 0, 1);
	CHECK_EQ(forecast_of(&plan, round).copy_rate / MIB, 100);
}

/* Three pages in 50 ms: the time went into something else. */
static void a_round_of_some_pages_says_nothing_of_a_rate(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 0, 50, 0);

	round.written_bytes = 3 * 4096;
	round.fixed_bytes = 500 * MIB;
	CHECK_EQ(forecast_of(&plan, round).fixed_us, 500 * MS);
	/* Nor do those that follow. */
	round = round_of(1, 1, 50, 10);
	CHECK_EQ(forecast_of(&plan, round).copy_rate / MIB, 1000 / 4);
	round = round_of(2, 8, 50, 10);
	CHECK_EQ(forecast_of(&plan, round).copy_rate / MIB, 8 * 20);
}

static void what_is_copied_whole_lies_in_one_piece(void)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);
	struct wptrack_plan_forecast forecast;

	round.fixed_bytes = 100 * MIB;
	forecast = forecast_of(&plan, round);
	CHECK_EQ(forecast.fixed_us, 250 * MS);
	CHECK_EQ(forecast.dump_bytes, 110 * MIB);
	CHECK_EQ(forecast.stop_us, forecast.base_us + 350 * MS);
	/* It is no slower than what is scattered. */
	round = round_of(1, 80, 100, 10);
	round.fixed_bytes = 100 * MIB;
	CHECK_EQ(forecast_of(&plan, round).fixed_us, 125 * MS);
}

static void what_no_round_makes_less_ends_the_rounds(void)
{
	struct wptrack_plan plan = plan_for(200);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);

	round.fixed_bytes = 100 * MIB;
	CHECK_EQ(decide(&plan, round), WPTRACK_PLAN_MORE);
	round = round_of(1, 10, 25, 1);
	round.fixed_bytes = 100 * MIB;
	CHECK_EQ(decide(&plan, round), WPTRACK_PLAN_FIXED);
}

/* What has been mapped since a round is tracked from the next one on. */
static void new_mappings_end_no_rounds(void)
{
	struct wptrack_plan plan = plan_for(200);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 100);

	CHECK_EQ(decide(&plan, round), WPTRACK_PLAN_MORE);
	round = round_of(1, 100, 250, 90);
	round.fixed_bytes = 100 * MIB;
	CHECK_EQ(decide(&plan, round), WPTRACK_PLAN_MORE);
	CHECK_EQ(decide(&plan, round_of(2, 90, 225, 70)), WPTRACK_PLAN_MORE);
}

/* Does it lengthen the stop by so much? */
static void check_lock(enum wptrack_plan_lock lock, unsigned int connections, uint64_t us)
{
	struct wptrack_plan plan = plan_for(1);
	struct wptrack_plan_round round = round_of(0, 400, 1000, 10);
	uint64_t without = forecast_of(&plan, round).base_us;
	struct wptrack_plan_forecast forecast;

	plan = plan_for(1);
	round.lock = lock;
	round.connections = connections;
	forecast = forecast_of(&plan, round);
	CHECK_EQ(forecast.lock_us, us);
	CHECK_EQ(forecast.base_us, without + us);
}

static void connections_take_their_time(void)
{
	check_lock(WPTRACK_PLAN_LOCK_AT_ONCE, 0, 0);
	check_lock(WPTRACK_PLAN_LOCK_AT_ONCE, 400, 21 * MS);
	check_lock(WPTRACK_PLAN_LOCK_ONE_BY_ONE, 40, 800 * MS);
	check_lock(WPTRACK_PLAN_LOCK_NONE, 40, 0);
}

int main(int argc, char **argv)
{
	static const struct harness_test tests[] = {
		TEST(rates_are_measured),
		TEST(stop_is_the_sum_of_its_parts),
		TEST(a_longer_stop_than_estimated_is_believed),
		TEST(a_round_without_a_stop_is_no_measure),
		TEST(a_live_round_has_collected_while_it_copied),
		TEST(rounds_count_by_what_they_copied),
		TEST(what_runs_on_is_not_freed),
		TEST(each_process_takes_its_time),
		TEST(what_is_written_until_the_stop_counts),
		TEST(no_more_is_written_than_there_is),
		TEST(a_short_stop_ends_the_rounds),
		TEST(rounds_go_on_while_they_help),
		TEST(two_rounds_of_no_help_are_enough),
		TEST(one_round_of_no_help_is_forgiven),
		TEST(writing_faster_than_copying_is_noticed),
		TEST(rounds_have_an_end),
		TEST(odd_figures_do_no_harm),
		TEST(a_round_of_some_pages_says_nothing_of_a_rate),
		TEST(what_is_copied_whole_lies_in_one_piece),
		TEST(what_no_round_makes_less_ends_the_rounds),
		TEST(new_mappings_end_no_rounds),
		TEST(connections_take_their_time),
	};

	return harness_run(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}
