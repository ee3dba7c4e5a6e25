/* What goes wrong, and when: planned from the seed, carried out when the run has come so far, so that nothing is
 * planned for a time that never comes. */
#include "tests/fault/sim.h"

#include "proto/proto.h"

enum { STALL_ALL = 6, STOP_MS = 500 };

const char *const fault_names[FAULT_COUNT] = {
    [FAULT_KILL] = "killed",
    [FAULT_PAUSE] = "stopped",
    [FAULT_SLOW] = "slow",
    [FAULT_STALL] = "stalled",
    [FAULT_RESTART] = "drained and restarted",
    [FAULT_CUT] = "connections cut",
    [FAULT_DROP] = "messages lost",
    [FAULT_DUPLICATE] = "repeated",
    [FAULT_DELAY] = "late",
    [FAULT_TRUNCATE] = "truncated",
    [FAULT_CORRUPT] = "chunks damaged",
    [FAULT_FOREIGN] = "foreign groups",
    [FAULT_LEARNER] = "learner killed",
    [FAULT_DISK] = "disk full",
    [FAULT_DAMAGE] = "checkpoints damaged",
    [FAULT_SUSPEND] = "hosts suspended",
    [FAULT_BROKEN] = "given back with a fault",
    [FAULT_CANARY] = "weights damaged",
    [FAULT_BUILD] = "protocol mismatches",
    [FAULT_FULL] = "sockets full",
    [FAULT_FORGED] = "forged peers",
    [FAULT_CLASS] = "hellos of another class",
    [FAULT_NAMESAKE] = "of another's name",
};

static void plan(struct sim *sim, enum fault kind, uint32_t step) {
    sim->faults[sim->fault_count++] = (struct planned){.kind = kind,
                                                       .step = step,
                                                       .delay_ms = sim_draw(sim, 400) + (step == 0 ? 500 : 0),
                                                       .process = sim_draw(sim, LEARNER),
                                                       .amount = 1 + sim_draw(sim, 6)};
}

/* Ten to twelve: those that each seed must have, and others. */
void faults_plan(struct sim *sim) {
    static const enum fault others[] = {FAULT_KILL,   FAULT_PAUSE, FAULT_SLOW,     FAULT_STALL,   FAULT_RESTART,
                                        FAULT_CUT,    FAULT_DELAY, FAULT_TRUNCATE, FAULT_CORRUPT, FAULT_FOREIGN,
                                        FAULT_DROP,   FAULT_DISK,  FAULT_DAMAGE,   FAULT_SUSPEND, FAULT_BROKEN,
                                        FAULT_CANARY, FAULT_BUILD, FAULT_FULL,     FAULT_FORGED};
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

/* ---- hosts and strangers ---- */

/* The clocks of a suspended host go on when it does, or, in a virtual machine, only after a while; in both cases they jump. */
static void suspend(struct sim *sim, uint32_t number) {
    struct host *host = &sim->hosts[number];
    if (host->suspended_until_ms > sim->now_ms)
        return;
    int64_t stands_ms = 1000 + sim_draw(sim, 20000);
    host->suspended_until_ms = sim->now_ms + stands_ms;
    if (sim_draw(sim, 2) == 0)
        sim_at(sim, stands_ms, EVENT_CLOCK, number, (uint64_t)stands_ms);
}

void faults_clock(struct sim *sim, uint32_t host, uint64_t stood_ms) {
    sim->hosts[host].behind_ms = stood_ms ? sim->hosts[host].behind_ms + (int64_t)stood_ms : 0;
    if (stood_ms > 0)
        sim_at(sim, 1 + sim_draw(sim, 3000), EVENT_CLOCK, host, 0);
}

/* One of another build comes up in its place, and somebody of that build knocks at the hub and at a reward worker. */
static void mismatch(struct sim *sim, uint32_t process) {
    struct text none = text_of("");
    struct message hello = {.type = MESSAGE_HELLO}, knock = {.type = MESSAGE_KNOCK};
    uint64_t incarnation = sim_incarnation(sim) + 77;
    hello.hello = (struct message_hello){.protocol = PROTOCOL_VERSION + 1,
                                         .role = ROLE_ACTOR,
                                         .name = text_of("old"),
                                         .host = text_of("host"),
                                         .incarnation = incarnation,
                                         .fingerprint = sim_fingerprint(false),
                                         .endpoint = none,
                                         .key = none};
    knock.knock = (struct message_knock){PROTOCOL_VERSION + 1, incarnation, text_of("old")};
    sim->stranger = sim->next_connection++;
    learner_stranger(sim, &hello);
    if (sim->rewards[0] && !sim_stands(sim, ACTORS))
        reward_actor(sim, 0, sim->stranger, &knock, 100);
    sim->processes[process].old_build = true;
    faults_kill(sim, process);
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
        if (!sim_stands(sim, fault->process))
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
    bool is_signal = fault->kind == FAULT_RESTART || fault->kind == FAULT_LEARNER;
    uint32_t process = fault->kind == FAULT_LEARNER ? LEARNER : fault->process;
    if (is_signal && sim_stands(sim, process)) { /* it hears of it when it goes on */
        sim_at(sim, sim_stands_until(sim, process) - sim->now_ms + 1, EVENT_FAULT, LEARNER, number);
        return;
    }
    fault->done = true;
    sim_log(sim, "fault: %s, %s, %u", fault_names[fault->kind], sim_name(fault->process), fault->amount);
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
    case FAULT_SUSPEND:
        sim->fault_counts[FAULT_SUSPEND]++;
        suspend(sim, fault->amount % HOSTS);
        break;
    case FAULT_BUILD:
        sim->fault_counts[FAULT_BUILD]++;
        mismatch(sim, fault->process);
        break;
    case FAULT_FORGED:
        sim->fault_counts[FAULT_FORGED]++;
        sim->stranger = sim->next_connection++;
        learner_forge(sim);
        break;
    case FAULT_BROKEN: /* these two are counted as they show */
        sim->processes[fault->process % ACTORS].broken_until_ms = sim->now_ms + 500 + sim_draw(sim, 4000);
        break;
    case FAULT_CANARY:
        sim->processes[fault->process % ACTORS].damages = true;
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
