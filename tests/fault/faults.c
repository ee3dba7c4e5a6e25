/* What goes wrong, and when: planned from the seed, carried out when the run has come so far, so that nothing is
 * planned for a time that never comes. */
#include "tests/fault/sim.h"

enum { STALL_ALL = 6, STOP_MS = 500 };

static const char *const names[FAULT_COUNT] = {
    "kill",    "pause",   "slow",           "stall",     "restart",
    "cut",     "drop",    "duplicate",      "delay",     "truncate",
    "corrupt", "foreign", "learner killed", "disk full", "damaged checkpoint"};

static void plan(struct sim *sim, enum fault kind, uint32_t step) {
    sim->faults[sim->fault_count++] = (struct planned){.kind = kind,
                                                       .step = step,
                                                       .delay_ms = sim_draw(sim, 400) + (step == 0 ? 500 : 0),
                                                       .process = sim_draw(sim, LEARNER),
                                                       .amount = 1 + sim_draw(sim, 6)};
}

/* Ten to twelve: those that each seed must have, and others. */
void faults_plan(struct sim *sim) {
    static const enum fault others[] = {FAULT_KILL, FAULT_PAUSE, FAULT_SLOW,     FAULT_STALL,   FAULT_RESTART,
                                        FAULT_CUT,  FAULT_DELAY, FAULT_TRUNCATE, FAULT_CORRUPT, FAULT_FOREIGN,
                                        FAULT_DROP, FAULT_DISK,  FAULT_DAMAGE};
    if (!sim->disturbed)
        return;
    plan(sim, FAULT_KILL, sim_draw(sim, STEPS - 1));
    plan(sim, FAULT_DROP, sim_draw(sim, STEPS / 2));
    plan(sim, FAULT_DUPLICATE, sim_draw(sim, STEPS / 2));
    plan(sim, FAULT_LEARNER, sim_draw(sim, STEPS - 1));
    uint32_t more = 3 + sim_draw(sim, FAULTS_MAX - 7);
    for (uint32_t i = 0; i < more; i++) {
        plan(sim, others[sim_draw(sim, sizeof others / sizeof others[0])], sim_draw(sim, STEPS - 1));
        if (sim->faults[sim->fault_count - 1].kind == FAULT_PAUSE && sim_draw(sim, 3) == 0)
            sim->faults[sim->fault_count - 1].process = LEARNER;
    }
    if (sim_draw(sim, 4) == 0 &&
        sim->fault_count + 2 <= FAULTS_MAX) { /* whole hosts stand, then one of them is taken away */
        uint32_t step = sim_draw(sim, STEPS - 1);
        plan(sim, FAULT_STALL, step);
        sim->faults[sim->fault_count - 1].amount = STALL_ALL;
        plan(sim, FAULT_RESTART, step);
        sim->faults[sim->fault_count - 1].process = sim_draw(sim, ACTORS);
        sim->faults[sim->fault_count - 1].delay_ms += LEASE_MS + sim_draw(sim, 2000);
    }
    if (sim_draw(sim, 3) > 0) /* the rest have faults only where they are planned */
        return;
    sim->drop_rate = sim_draw(sim, 8);
    sim->duplicate_rate = sim_draw(sim, 20);
    sim->delay_rate = sim_draw(sim, 20);
}

void faults_step(struct sim *sim) {
    uint32_t step = learner_steps(sim);
    for (uint32_t i = 0; i < sim->fault_count; i++) {
        struct planned *fault = &sim->faults[i];
        if (fault->scheduled || fault->step > step)
            continue;
        fault->scheduled = true;
        sim_at(sim, fault->delay_ms, EVENT_FAULT, LEARNER, i);
    }
}

void faults_kill(struct sim *sim, uint32_t number) {
    struct process *process = &sim->processes[number];
    if (!process->alive)
        return;
    sim_log(sim, "%s is killed", sim_name(number));
    process->alive = false;
    process->life++;
    process->paused_until_ms = process->slow_until_ms = process->stalled_until_ms = 0;
    if (number == LEARNER) {
        learner_kill(sim);
    } else {
        network_cut(sim, number, sim_draw(sim, 2) == 0);
        if (number >= ACTORS)
            reward_kill(sim, number - ACTORS);
        else
            actor_kill(sim, number);
    }
    sim_at(sim, 50 + sim_draw(sim, 1500), EVENT_START, number, 0);
}

static void apply_to_process(struct sim *sim, const struct planned *fault) {
    struct process *process = &sim->processes[fault->process];
    int64_t until_ms = sim->now_ms + 300 + sim_draw(sim, 5000);
    switch (fault->kind) {
    case FAULT_PAUSE:
        process->paused_until_ms = until_ms;
        break;
    case FAULT_SLOW:
        process->slow_until_ms = until_ms + 4000;
        break;
    case FAULT_STALL:
        process->stalled_until_ms = until_ms + 3000;
        for (uint32_t i = 0; fault->amount >= STALL_ALL && i < ACTORS; i++)
            sim->processes[i].stalled_until_ms = until_ms + 3000 + sim_draw(sim, 3000);
        break;
    case FAULT_RESTART:
        if (process->alive && !process->stopping) {
            process->stopping = true;
            process->leave_ms = sim->now_ms + 2000;
            if (fault->process >= ACTORS)
                reward_drain(sim, fault->process - ACTORS);
            else
                actor_drain(sim, fault->process);
        }
        break;
    case FAULT_CUT:
        if (process->alive)
            network_cut(sim, fault->process, sim_draw(sim, 2) == 0);
        break;
    default:
        break;
    }
}

void faults_apply(struct sim *sim, uint64_t number) {
    struct planned *fault = &sim->faults[number];
    fault->done = true;
    sim_log(sim, "fault: %s, %s, %u", names[fault->kind], sim_name(fault->process), fault->amount);
    switch (fault->kind) {
    case FAULT_KILL:
        sim->fault_counts[FAULT_KILL]++;
        faults_kill(sim, fault->process);
        break;
    case FAULT_LEARNER:
        if (fault->amount % 2 == 0) { /* stopped: peers hear of it, and what is complete by then is not trained */
            fault->amount = 1;
            fault->done = false;
            learner_stop(sim);
            sim_at(sim, STOP_MS, EVENT_FAULT, LEARNER, number);
            break;
        }
        sim->fault_counts[FAULT_LEARNER]++;
        faults_kill(sim, LEARNER);
        break;
    case FAULT_PAUSE:
    case FAULT_SLOW:
    case FAULT_STALL:
    case FAULT_RESTART:
    case FAULT_CUT:
        sim->fault_counts[fault->kind]++;
        apply_to_process(sim, fault);
        break;
    default: /* messages: counted as they happen */
        sim->burst[fault->kind] += fault->amount;
    }
}

bool faults_done(const struct sim *sim) {
    uint32_t count = 0;
    if (!sim->disturbed)
        return true;
    for (uint32_t i = 0; i < sim->fault_count; i++)
        if (!sim->faults[i].done)
            return false;
    for (int i = 0; i < FAULT_COUNT; i++)
        count += sim->fault_counts[i];
    return count >= FAULTS_LEAST && sim->fault_counts[FAULT_KILL] && sim->fault_counts[FAULT_DROP] &&
           sim->fault_counts[FAULT_DUPLICATE] && sim->fault_counts[FAULT_LEARNER];
}
