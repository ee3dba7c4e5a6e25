/* The loop: one event after another, in the order of a virtual clock. */
#include "tests/fault/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"
#include "proto/proto.h"

/* ---- chance ---- */

uint32_t sim_draw(struct sim *sim, uint32_t bound) {
    struct rng_key key = {.seed = sim->seed, .stream = RNG_TEST};
    return rng_below(&key, sim->draws++, bound);
}

bool sim_chance(struct sim *sim, uint32_t of_thousand) {
    return sim->disturbed && of_thousand > 0 && sim_draw(sim, 1000) < of_thousand;
}

uint64_t sim_incarnation(struct sim *sim) {
    return (uint64_t)++sim->next_incarnation << 32;
}

int64_t sim_clock(const struct sim *sim, uint32_t process) {
    return sim->now_ms - sim->hosts[process % HOSTS].behind_ms;
}

int64_t sim_stands_until(const struct sim *sim, uint32_t process) {
    int64_t stopped_ms = sim->processes[process].paused_until_ms;
    int64_t suspended_ms = sim->hosts[process % HOSTS].suspended_until_ms;
    int64_t until_ms = stopped_ms > suspended_ms ? stopped_ms : suspended_ms;
    return until_ms > sim->now_ms ? until_ms : 0;
}

struct fingerprint sim_fingerprint(bool other_class) {
    return (struct fingerprint){text_of("b"), text_of("cpu"), text_of(""), text_of(other_class ? "y" : "x")};
}

bool sim_is_poison(const struct sim *sim, const struct work_key *key) {
    return sim->has_poison && key->stream == sim->poison.stream && key->step == sim->poison.step &&
           key->slot == sim->poison.slot;
}

void sim_row(struct sim *sim, enum row row) {
    __atomic_fetch_add(&sim->rows[row], 1, __ATOMIC_RELAXED);
}

/* ---- the log ---- */

enum { LOG_LINES = 70, LOG_BYTES = 200 };
static char lines[LOG_LINES][LOG_BYTES];
static uint32_t line_count;
bool sim_log_all;

void sim_log(struct sim *sim, const char *format, ...) {
    if (!sim->logs)
        return;
    char *line = lines[line_count++ % LOG_LINES];
    int used = snprintf(line, LOG_BYTES, "%7lld ms  ", (long long)sim->now_ms);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, (size_t)(LOG_BYTES - used), format, args);
    va_end(args);
    if (sim_log_all)
        printf("%s\n", line);
}

void sim_print_log(void) {
    if (sim_log_all)
        return;
    uint32_t first = line_count > LOG_LINES ? line_count - LOG_LINES : 0;
    for (uint32_t i = first; i < line_count; i++)
        printf("  %s\n", lines[i % LOG_LINES]);
    fflush(stdout);
}

void sim_fail(struct sim *sim, const char *format, ...) {
    if (sim->logs) {
        sim_print_log();
        va_list args;
        va_start(args, format);
        printf("seed %llu, lag %u, %lld ms: ", (unsigned long long)sim->seed, sim->lag, (long long)sim->now_ms);
        vprintf(format, args);
        printf("\n");
        va_end(args);
        fflush(stdout);
    }
    _Exit(1);
}

const char *sim_label(const struct sim *sim, uint32_t process) {
    return sim_name(sim->has_namesakes && process == ACTORS - 1 ? 0 : process);
}

void sim_check_refused(struct sim *sim, const struct message *message) {
    char ours[16], theirs[16];
    snprintf(ours, sizeof ours, "%d", PROTOCOL_VERSION);
    snprintf(theirs, sizeof theirs, "%d", PROTOCOL_VERSION + 1);
    const char *reason = message->type == MESSAGE_REFUSE ? message->refuse.reason.data : "";
    if (message->type != MESSAGE_REFUSE || message->refuse.again || !strstr(reason, ours) || !strstr(reason, theirs))
        sim_fail(sim, "section 3: another protocol is answered by %s \"%s\"", message_name(message->type), reason);
}

const char *sim_name(uint32_t process) {
    static const char *const names[PROCESSES] = {"actor0", "actor1",  "actor2",  "actor3",
                                                 "actor4", "reward0", "reward1", "learner"};
    return names[process];
}

/* ---- the heap ---- */

static bool before(const struct event *a, const struct event *b) {
    return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->order < b->order);
}

void sim_push(struct sim *sim, const struct event *event) {
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity ? 2 * sim->heap_capacity : 256;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        if (!sim->heap)
            abort();
    }
    struct event pushed = *event;
    pushed.order = sim->next_order++;
    uint32_t at = sim->heap_count++;
    for (; at > 0 && before(&pushed, &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        sim->heap[at] = sim->heap[(at - 1) / 2];
    sim->heap[at] = pushed;
}

static struct event pop(struct sim *sim) {
    struct event first = sim->heap[0], last = sim->heap[--sim->heap_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!before(&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

void sim_at(struct sim *sim, int64_t in_ms, enum event_kind kind, uint32_t process, uint64_t argument) {
    struct event event = {.at_ms = sim->now_ms + in_ms,
                          .kind = kind,
                          .process = (uint8_t)process,
                          .life = sim->processes[process].life,
                          .argument = argument};
    sim_push(sim, &event);
}

/* ---- processes ---- */

static void start(struct sim *sim, uint32_t process) {
    struct process *started = &sim->processes[process];
    if (started->alive)
        return;
    started->alive = true;
    started->stopping = false;
    if (process != LEARNER)
        started->control = sim->next_connection++;
    sim_log(sim, "%s starts", sim_name(process));
    if (process == LEARNER)
        learner_start(sim);
    else if (process >= ACTORS)
        reward_start(sim, process - ACTORS);
    else
        actor_start(sim, process);
    sim_at(sim, sim_draw(sim, TICK_MS), EVENT_TICK, process, 0);
}

static void tick(struct sim *sim, uint32_t process) {
    sim_at(sim, process == LEARNER ? HEARTBEAT_MS / 2 + 1 : TICK_MS, EVENT_TICK, process, 0);
    if (process == LEARNER)
        learner_tick(sim);
    else if (process >= ACTORS)
        reward_tick(sim, process - ACTORS);
    else
        actor_tick(sim, process);
}

static void handle(struct sim *sim, struct event *event) {
    switch (event->kind) {
    case EVENT_FRAME:
        network_arrive(sim, event);
        break;
    case EVENT_TICK:
        tick(sim, event->process);
        break;
    case EVENT_GENERATE:
        actor_generate(sim, event->process);
        break;
    case EVENT_LOADED:
        actor_loaded(sim, event->process);
        break;
    case EVENT_TURN:
        learner_turn(sim);
        break;
    case EVENT_TRAINED:
        learner_trained(sim);
        break;
    case EVENT_DURABLE:
        learner_durable(sim);
        break;
    case EVENT_CLOCK:
        faults_clock(sim, event->process, event->argument);
        break;
    case EVENT_FAULT:
        faults_apply(sim, event->argument);
        break;
    case EVENT_START:
        start(sim, event->process);
        break;
    }
}

/* Events of a process that is dead are void; those of one that stands still wait for it. */
static void dispatch(struct sim *sim, struct event *event) {
    const struct process *process = &sim->processes[event->process];
    bool of_life = event->kind != EVENT_FAULT && event->kind != EVENT_START && event->kind != EVENT_CLOCK;
    bool of_process = of_life || event->kind == EVENT_START;
    if (of_life && (event->life != process->life || !process->alive)) {
        sim->flight_count -= event->kind == EVENT_FRAME;
        free(event->frame);
        return;
    }
    if (of_process && sim_stands(sim, event->process)) {
        event->at_ms = sim_stands_until(sim, event->process);
        sim_push(sim, event);
        return;
    }
    sim->events++;
    handle(sim, event);
}

/* ---- a run ---- */

/* One seed in eight has a question that kills: of the training, of an evaluation or of a driver. One in four of the first
 * two is not skipped, and ends the run. */
static void draw_poison(struct sim *sim) {
    uint32_t evals = STEPS / sim->eval_every;
    sim->has_poison = sim_draw(sim, 8) == 0;
    sim->poison = (struct work_key){.stream = (uint8_t)(WORK_TRAIN + sim_draw(sim, 3))};
    sim->skips_stuck = sim->poison.stream == WORK_GENERATE || sim_draw(sim, 4) > 0;
    if (sim->poison.stream == WORK_TRAIN)
        sim->poison.step = 1 + sim_draw(sim, STEPS - 1);
    else if (sim->poison.stream == WORK_EVAL)
        sim->poison.step = sim->eval_every * (1 + sim_draw(sim, evals));
    sim->poison.slot = sim_draw(sim, EXTRA_SLOTS);
}

static void draw_run(struct sim *sim) {
    sim->lag = (uint32_t)(sim->seed % (LAG_MAX + 1));
    sim->eval_every = 1 + sim_draw(sim, 3);
    sim->checkpoint_every = 1 + sim_draw(sim, 3);
    sim->skipped_step = sim_draw(sim, 2 * STEPS);
    if (!sim->disturbed)
        return;
    sim->has_extra = sim_draw(sim, 4) == 0;
    sim->has_namesakes = sim_draw(sim, 4) == 0;
    sim->has_class = sim_draw(sim, 8) == 0;
    sim->is_strict = sim_draw(sim, 2) == 0;
    sim->is_mixed = sim->has_class && !sim->is_strict;
    draw_poison(sim);
}

static void begin(struct sim *sim) {
    arena_init(&sim->arena, 1u << 24);
    sim->next_connection = 1000;
    sim->next_incarnation = 100;
    sim->now_ms = 1000;
    sim->latency_ms = 1 + sim_draw(sim, 15);
    draw_run(sim);
    history_make(sim);
    faults_plan(sim);
    learner_create(sim);
    for (uint32_t i = 0; i < PROCESSES; i++)
        sim_at(sim, sim->disturbed ? sim_draw(sim, 300) : 0, EVENT_START, i, 0);
}

static void end(struct sim *sim) {
    for (uint32_t i = 0; i < sim->heap_count; i++)
        free(sim->heap[i].frame);
    free(sim->heap);
    for (uint32_t i = 0; i < ACTORS; i++)
        actor_kill(sim, i);
    for (uint32_t i = 0; i < WORKERS; i++)
        reward_kill(sim, i);
    learner_destroy(sim);
    arena_deinit(&sim->arena);
}

void sim_run(struct sim *sim, uint64_t seed, bool disturbed, bool logs, uint64_t *rows, struct totals *totals) {
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->disturbed = disturbed;
    sim->logs = logs;
    sim->rows = rows;
    begin(sim);
    while (!learner_done(sim) || (!faults_done(sim) && !learner_failed(sim))) {
        struct event event = pop(sim);
        sim->now_ms = event.at_ms;
        if (sim->now_ms > TIME_MAX_MS)
            sim_fail(sim, "after %d s only %u steps are trained", TIME_MAX_MS / 1000, learner_steps(sim));
        dispatch(sim, &event);
        faults_step(sim);
    }
    learner_end(sim, totals);
    totals->seeds++;
    totals->events += sim->events;
    totals->simulated_ms += (uint64_t)sim->now_ms;
    totals->kills += sim->fault_counts[FAULT_KILL] + sim->fault_counts[FAULT_LEARNER];
    for (int i = 0; i < FAULT_COUNT; i++)
        totals->faults[i] += sim->fault_counts[i];
    end(sim);
}
