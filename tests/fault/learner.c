/* The learner's training thread: it carries out what the real course says (learner/course.h), as learner/run.c does. */
#include "tests/fault/learner.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/plant.h"
#include "common/hub/internal.h"
#include "common/weights/delta.h"
#include "proto/proto.h"

const struct content *learner_expected(const struct learner *learner, uint32_t version) {
    const struct sim *sim = learner->sim;
    const struct course_version *kept = course_find(&learner->life->course, version);
    if (!sim->is_mixed)
        return &sim->reference[version];
    if (!kept)
        sim_fail(learner->sim, "version %u is not kept while a group of it is taken", version);
    return &((const struct kept *)kept->content)->content;
}

/* ---- offering ---- */

static void offer(struct learner *learner, uint8_t stream, uint32_t step, uint32_t slots, uint32_t priority,
                  const struct content *version) {
    static int32_t prompt[] = {1, 2, 3}, stops[] = {STOP};
    static struct text aliases[1];
    struct message_lease templates[SLOTS];
    aliases[0] = text_of("w17 w22");
    for (uint32_t i = 0; i < slots; i++)
        templates[i] = (struct message_lease){.prompt = prompt,
                                              .prompt_count = 3,
                                              .samples = SAMPLES,
                                              .temperature = 1,
                                              .max_new_tokens = TOKENS,
                                              .stops = stops,
                                              .stop_count = 1,
                                              .grading = {.question_id = text_of("q17"),
                                                          .question = text_of("why?"),
                                                          .aliases = aliases,
                                                          .alias_count = 1,
                                                          .answerable = 1,
                                                          .rule = text_of("both"),
                                                          .known_k = -1}};
    struct hub_work work = {.stream = stream,
                            .step = step,
                            .priority = priority,
                            .weights = version->manifest.weights,
                            .version = version->manifest.version,
                            .slot_count = slots,
                            .slots = templates};
    hub_offer_work(learner, &work);
}

/* A driver's work beside the training: 0 has a question that kills, 1 is withdrawn a step later. */
static void offer_extra(struct learner *learner) {
    const struct sim *sim = learner->sim;
    struct life *life = learner->life;
    uint32_t step = course_step(&life->course);
    bool wanted[EXTRA_WORKS] = {sim->has_poison && sim->poison.stream == WORK_GENERATE && step >= 2,
                                sim->has_extra && step >= 3};
    const struct kept *newest = life->course.versions[life->course.version_count - 1].content;
    for (uint32_t i = 0; i < EXTRA_WORKS; i++) {
        if (!wanted[i] || life->extra_open[i] || learner->disk.extra_done[i])
            continue;
        life->extra_open[i] = true;
        life->extra_version[i] = newest->content;
        memset(life->extra_filled[i], 0, sizeof life->extra_filled[i]);
        offer(learner, WORK_GENERATE, i, EXTRA_SLOTS, 2 * step, &newest->content);
    }
}

static void withdraw_extra(struct learner *learner) {
    struct life *life = learner->life;
    if (!life->extra_open[1])
        return;
    hub_event_begins(learner, 0, NULL);
    hub_withdraw(life->hub, WORK_GENERATE, 1);
    hub_event_ends(learner);
    learner->disk.extra_done[1] = true;
}

/* ---- versions ---- */

static void release(void *context) {
    struct kept *kept = context;
    if (--kept->references == 0)
        free(kept);
}

/* What leads here from the version before, where that is still there. */
static void make_delta(const struct learner *learner, const struct kept *kept, struct published *out) {
    uint32_t number = kept->content.manifest.version;
    const struct course_version *before = number ? course_find(&learner->life->course, number - 1) : NULL;
    const struct content *from = before ? &((const struct kept *)before->content)->content : NULL;
    uint8_t *data;
    if (!from || digest_equal(from->manifest.weights, kept->content.manifest.weights))
        return;
    if (delta_encode((const uint16_t *)(const void *)from->data, (const uint16_t *)(const void *)kept->content.data,
                     ELEMENTS, from->manifest.weights, kept->content.manifest.weights, 1, &data, &out->delta_bytes,
                     NULL) != STATUS_OK)
        sim_fail(learner->sim, "version %u has no delta: %s", number, status_message());
    out->take_delta = data;
    out->delta_base = from->manifest.weights;
}

static void add_version(struct learner *learner, const struct content *content) {
    struct sim *sim = learner->sim;
    struct life *life = learner->life;
    struct kept *kept = malloc(sizeof *kept);
    if (!kept)
        abort();
    *kept = (struct kept){.content = *content, .references = 2};
    struct published published = {.version = content->manifest.version,
                                  .digest = content->manifest.weights,
                                  .canary = hash128(content->data, WEIGHT_BYTES),
                                  .data = kept->content.data,
                                  .elements = ELEMENTS,
                                  .dtype = DTYPE_BF16,
                                  .release = release,
                                  .context = kept};
    make_delta(learner, kept, &published);
    course_add(&life->course, published.version, kept, learner->disk.evaluated[published.version]);
    hub_event_begins(learner, 0, NULL);
    if (versions_publish(&life->versions, &published, sim_clock(sim, LEARNER)) != STATUS_OK)
        sim_fail(sim, "version %u cannot be published: %s", published.version, status_message());
    hub_event_ends(learner);
}

static void retire(struct learner *learner, const struct course_version *version) {
    struct life *life = learner->life;
    hub_event_begins(learner, 0, NULL);
    if (versions_retire(&life->versions, version->number, version->number + 1, sim_clock(learner->sim, LEARNER)) !=
        STATUS_OK)
        sim_fail(learner->sim, "version %u cannot be retired: %s", version->number, status_message());
    hub_event_ends(learner);
    release(version->content);
}

/* ---- checkpoints ---- */

static void begin_checkpoint(struct learner *learner, const struct course_action *action) {
    struct life *life = learner->life;
    struct checkpoint *writing = &life->writing;
    writing->version_count = 0;
    for (uint32_t i = 0; i < action->older_count; i++)
        writing->versions[writing->version_count++] = ((struct kept *)life->course.versions[i].content)->content;
    writing->versions[writing->version_count++] = ((struct kept *)action->version.content)->content;
    memcpy(writing->uses, life->uses, sizeof writing->uses);
    life->writes = true;
    sim_at(learner->sim, 20 + sim_draw(learner->sim, 300), EVENT_DURABLE, LEARNER, 0);
}

static void checkpoint(struct learner *learner, const struct course_action *action) {
    struct life *life = learner->life;
    if (!action->begun || life->write_failed)
        begin_checkpoint(learner, action);
    life->waits = action->last && life->writes;
}

/* Written, or without room on the disk: then training goes on; the last one is tried again, and then the learner ends, and is
 * started anew. */
void learner_durable(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct life *life = learner->life;
    struct disk *disk = &learner->disk;
    uint32_t step = life->writing.versions[life->writing.version_count - 1].manifest.version;
    if (sim->burst[FAULT_DISK] > 0) {
        sim->burst[FAULT_DISK]--;
        sim->fault_counts[FAULT_DISK]++;
        sim_log(sim, "the checkpoint of step %u fails", step);
        if (life->waits && life->write_failed) {
            faults_kill(sim, LEARNER);
            return;
        }
        life->write_failed = true;
        life->writes = life->waits;
        if (life->waits)
            sim_at(sim, 20 + sim_draw(sim, 300), EVENT_DURABLE, LEARNER, 0);
        learner_wake(learner);
        return;
    }
    if (disk->checkpoint_count == CHECKPOINTS_KEPT)
        disk->checkpoints[0] = disk->checkpoints[--disk->checkpoint_count];
    disk->checkpoints[disk->checkpoint_count++] = life->writing;
    life->writes = life->waits = life->write_failed = false;
    sim_log(sim, "the checkpoint of step %u is written", step);
    learner_wake(learner);
}

/* ---- training ---- */

/* As hub_server_take; true: it is there. I8 ends the run. */
static bool take(struct learner *learner, uint8_t stream, uint32_t step, struct completed_work **out_work) {
    struct life *life = learner->life;
    enum status status = collect_take(life->collect, stream, step, 0, out_work);
    if (status == STATUS_RUN_FAILED) {
        life->failed = true;
        course_stop(&life->course);
    } else if (status != STATUS_OK && status != STATUS_TIMEOUT) {
        sim_fail(learner->sim, "I1: stream %u step %u is waited for: %s", stream, step, status_message());
    }
    return status == STATUS_OK;
}

static void take_evaluations(struct learner *learner) {
    struct life *life = learner->life;
    for (uint32_t i = 0; i < life->course.version_count; i++) {
        uint32_t number = life->course.versions[i].number;
        struct completed_work *work;
        if (life->course.versions[i].eval != COURSE_EVAL_PENDING || !take(learner, WORK_EVAL, number, &work))
            continue;
        for (uint32_t slot = 0; slot < work->group_count; slot++)
            if (work->groups[slot])
                learner->disk.eval_uses[number][slot]++;
        completed_work_free(&work);
        learner->disk.evaluated[number] = true;
        course_evaluated(&life->course, number);
        sim_row(learner->sim, ROW_COURSE_EVALUATED);
    }
}

static void take_extra(struct learner *learner) {
    struct life *life = learner->life;
    struct completed_work *work;
    for (uint32_t i = 0; i < EXTRA_WORKS; i++) {
        if (!life->extra_open[i] || !take(learner, WORK_GENERATE, i, &work))
            continue;
        completed_work_free(&work);
        life->extra_open[i] = false;
        learner->disk.extra_done[i] = true;
    }
}

/* False: nothing happened. */
static bool begin_step(struct learner *learner, uint32_t step) {
    struct life *life = learner->life;
    if (!take(learner, WORK_TRAIN, step, &life->work))
        return life->failed;
    life->trains = true;
    sim_at(learner->sim, 20 + sim_draw(learner->sim, 100), EVENT_TRAINED, LEARNER, 0);
    return true;
}

/* I4: what is kept is what steps to come and evaluations sample from, and the newest. */
static void check_kept(const struct learner *learner) {
    const struct course *course = &learner->life->course;
    uint32_t step = course_step(course), oldest = history_version_of_step(step, learner->sim->lag);
    for (uint32_t i = 0; i < course->version_count; i++)
        if (course->versions[i].number < oldest && course->versions[i].eval == COURSE_EVAL_NONE)
            sim_fail(learner->sim, "I4: version %u is kept for nothing", course->versions[i].number);
}

/* False: it waits. */
static bool carry_out(struct learner *learner, const struct course_action *action) {
    struct life *life = learner->life;
    static const enum row rows[] = {[COURSE_OFFER_STEP] = ROW_COURSE_OFFER_STEP,
                                    [COURSE_OFFER_EVAL] = ROW_COURSE_OFFER_EVAL,
                                    [COURSE_RETIRE] = ROW_COURSE_RETIRE,
                                    [COURSE_CHECKPOINT] = ROW_COURSE_CHECKPOINT,
                                    [COURSE_TRAIN] = ROW_COURSE_TRAIN,
                                    [COURSE_AWAIT_EVAL] = ROW_COURSE_AWAIT_EVAL,
                                    [COURSE_END] = ROW_COURSE_END};
    const struct kept *kept = action->version.content;
    if (action->what == COURSE_CHECKPOINT && action->last)
        sim_row(learner->sim, action->begun ? ROW_COURSE_CHECKPOINT_BEGUN : ROW_COURSE_CHECKPOINT_LAST);
    else if (action->what == COURSE_END && life->course.stopped)
        sim_row(learner->sim, ROW_COURSE_STOPPED);
    else
        sim_row(learner->sim, rows[action->what]);
    switch (action->what) {
    case COURSE_OFFER_STEP:
        offer(learner, WORK_TRAIN, action->step, SLOTS, action->priority, &kept->content);
        return true;
    case COURSE_OFFER_EVAL:
        offer(learner, WORK_EVAL, action->version.number, EVAL_SLOTS, action->priority, &kept->content);
        return true;
    case COURSE_RETIRE:
        retire(learner, &action->version);
        return true;
    case COURSE_CHECKPOINT:
        checkpoint(learner, action);
        return true;
    case COURSE_TRAIN:
        check_kept(learner);
        return begin_step(learner, action->step);
    case COURSE_AWAIT_EVAL:
        if (course_step(&life->course) < STEPS)
            sim_row(learner->sim, ROW_COURSE_TOO_MANY_EVALS);
        return false;
    case COURSE_END:
        life->ended = true;
    }
    return false;
}

/* The thread's loop, as far as it goes. A checkpoint waits for the one before it, the last one until it is written. */
void learner_turn(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct life *life = learner->life;
    bool goes = true;
    life->turns = false;
    while (goes && !life->trains && !life->waits) {
        take_evaluations(learner);
        take_extra(learner);
        if (life->action.what != COURSE_CHECKPOINT)
            course_next(&life->course, &life->action);
        course_check(&life->course);
        if (life->action.what == COURSE_CHECKPOINT && !life->action.begun && life->writes)
            break;
        struct course_action action = life->action;
        life->action = (struct course_action){.what = COURSE_END};
        goes = carry_out(learner, &action);
    }
    if (!life->trains && !life->course.stopped)
        offer_extra(learner);
}

void learner_wake(struct learner *learner) {
    struct life *life = learner->life;
    if (life->turns || life->trains)
        return;
    life->turns = true;
    sim_at(learner->sim, sim_draw(learner->sim, 20), EVENT_TURN, LEARNER, 0);
}

void learner_trained(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct life *life = learner->life;
    uint32_t step = course_step(&life->course);
    struct used_group groups[SLOTS] = {0};
    struct content version;
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct message_scored *scored = life->work->groups[i];
        if (!scored)
            continue;
        life->uses[step][i]++;
        groups[i] = (struct used_group){group_digest(&scored->group), scored->group.weights};
    }
    completed_work_free(&life->work);
    history_next(learner_expected(learner, step), groups, step == sim->skipped_step, &version);
    if (!sim->is_mixed && !digest_equal(version.history, sim->reference[step + 1].history))
        sim_fail(sim, "version %u has another history than in the undisturbed run", step + 1);
    life->trains = false;
    if (step + 1 > learner->most_trained)
        learner->most_trained = step + 1;
    sim_log(sim, "step %u is trained", step);
    withdraw_extra(learner);
    add_version(learner, &version);
    learner_turn(sim);
}

/* ---- life ---- */

void learner_create(struct sim *sim) {
    struct learner *learner = sim->learner = calloc(1, sizeof *learner);
    if (!learner)
        abort();
    learner->sim = sim;
    learner->observer = observer_create();
}

/* The newest checkpoint that is whole. */
static void restore(struct learner *learner) {
    const struct disk *disk = &learner->disk;
    struct content version;
    if (disk->checkpoint_count == 0) {
        history_begin(&version);
        add_version(learner, &version);
        return;
    }
    const struct checkpoint *newest = &disk->checkpoints[disk->checkpoint_count - 1];
    memcpy(learner->life->uses, newest->uses, sizeof newest->uses);
    for (uint32_t i = 0; i < newest->version_count; i++)
        add_version(learner, &newest->versions[i]);
    sim_log(learner->sim, "the learner goes on from step %u", course_step(&learner->life->course));
}

void learner_start(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct course_settings settings = {sim->lag, STEPS, sim->eval_every, EVALS_MAX, sim->checkpoint_every};
    learner->life = calloc(1, sizeof *learner->life);
    if (!learner->life)
        abort();
    learner->lives++;
    learner->life->action.what = COURSE_END;
    course_init(&learner->life->course, &settings);
    hub_thread_start(learner);
    restore(learner);
    if (course_start(&learner->life->course) != STATUS_OK)
        sim_fail(sim, "I7: %s", status_message());
    learner_turn(sim);
}

static void add_counts(struct hub_counts *sum, const struct hub_counts *counts) {
    sum->duplicates += counts->duplicates;
    sum->expired += counts->expired;
    sum->revived += counts->revived;
    sum->speculative += counts->speculative;
    sum->lost += counts->lost;
}

/* A crash may leave the newest checkpoint damaged: it is passed over, where there is one before it. */
static void damage(struct learner *learner) {
    struct sim *sim = learner->sim;
    if (sim->burst[FAULT_DAMAGE] == 0 || learner->disk.checkpoint_count < 2)
        return;
    sim->burst[FAULT_DAMAGE]--;
    sim->fault_counts[FAULT_DAMAGE]++;
    learner->disk.checkpoint_count--;
    sim_log(sim, "the newest checkpoint is damaged");
}

/* What ended of itself left its last step behind. */
static void check_ended(const struct learner *learner) {
    const struct disk *disk = &learner->disk;
    uint32_t step = course_step(&learner->life->course), last = 0;
    if (disk->checkpoint_count > 0) {
        const struct checkpoint *newest = &disk->checkpoints[disk->checkpoint_count - 1];
        last = newest->versions[newest->version_count - 1].manifest.version;
    }
    if (learner->life->ended && last != step)
        sim_fail(learner->sim, "section 12: the learner ended after step %u, and its last checkpoint is of step %u",
                 step, last);
}

void learner_kill(struct sim *sim) {
    struct learner *learner = sim->learner;
    struct life *life = learner->life;
    if (!life)
        return;
    check_ended(learner);
    add_counts(&learner->counts, hub_counted(life->hub));
    completed_work_free(&life->work);
    hub_thread_end(learner);
    for (uint32_t i = 0; i < life->course.version_count; i++)
        release(life->course.versions[i].content);
    memset(life, 0xdd, sizeof *life); /* I7 */
    free(life);
    learner->life = NULL;
    damage(learner);
}

void learner_stop(struct sim *sim) {
    struct learner *learner = sim->learner;
    if (!learner->life)
        return;
    course_stop(&learner->life->course);
    hub_event_begins(learner, 0, NULL);
    hub_drain(learner->life->hub, sim_clock(sim, LEARNER), 300, "the learner stops");
    hub_event_ends(learner);
    learner_wake(learner);
}

void learner_destroy(struct sim *sim) {
    learner_kill(sim);
    map_deinit(&sim->learner->answered);
    observer_destroy(&sim->learner->observer);
    free(sim->learner);
}

/* ---- queries ---- */

bool learner_done(const struct sim *sim) {
    const struct learner *learner = sim->learner;
    if (!learner->life || !learner->life->ended || learner->life->course.stopped != learner->life->failed)
        return false;
    bool has_extra = sim->has_poison && sim->poison.stream == WORK_GENERATE;
    return learner->life->failed || !has_extra || learner->disk.extra_done[0];
}

bool learner_failed(const struct sim *sim) {
    return sim->learner->life && sim->learner->life->failed;
}

uint32_t learner_steps(const struct sim *sim) {
    return sim->learner->most_trained;
}

/* The run's directory at its end. */
static void check_disk(const struct learner *learner) {
    struct sim *sim = learner->sim;
    const struct disk *disk = &learner->disk;
    uint32_t steps = learner->life->failed ? course_step(&learner->life->course) : STEPS;
    const struct checkpoint *last = &disk->checkpoints[disk->checkpoint_count > 0 ? disk->checkpoint_count - 1 : 0];
    const struct content *newest = &last->versions[last->version_count > 0 ? last->version_count - 1 : 0];
    if (newest->manifest.version != steps)
        sim_fail(sim, "the last checkpoint is of step %u, not of step %u", newest->manifest.version, steps);
    if (steps > 0 && !sim->is_mixed && !digest_equal(newest->history, sim->reference[steps].history))
        sim_fail(sim, "the run ends with another digest than the undisturbed run");
    for (uint32_t v = 0; v <= STEPS && !learner->life->failed; v += sim->eval_every)
        if (!disk->evaluated[v])
            sim_fail(sim, "the run ends, and version %u was not evaluated", v);
    if (sim->has_poison && !learner->stuck)
        sim_fail(sim, "I8: a question killed whoever answered it, and nobody says so");
}

static void count_uses(const struct sim *sim, struct totals *totals, uint8_t stream, uint32_t step, const uint8_t *uses,
                       uint32_t slots) {
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct work_key key = {.stream = stream, .step = step, .slot = slot};
        uint32_t needed = !sim_is_poison(sim, &key);
        totals->samples += needed * SAMPLES;
        totals->lost += uses[slot] < needed ? SAMPLES : 0;
        totals->twice += uses[slot] > needed ? (uses[slot] - needed) * SAMPLES : 0;
    }
}

/* From the run's directory alone: what the history that it ends with was made of. */
static void count_samples(const struct learner *learner, struct totals *totals) {
    const struct sim *sim = learner->sim;
    const struct disk *disk = &learner->disk;
    uint64_t wrong = totals->lost + totals->twice;
    totals->made += sim->samples_made;
    totals->stuck += learner->life->failed;
    if (learner->life->failed)
        return;
    const struct checkpoint *last = &disk->checkpoints[disk->checkpoint_count - 1];
    for (uint32_t step = 0; step < STEPS; step++)
        count_uses(sim, totals, WORK_TRAIN, step, last->uses[step], SLOTS);
    for (uint32_t v = 0; v <= STEPS; v += sim->eval_every)
        count_uses(sim, totals, WORK_EVAL, v, disk->eval_uses[v], EVAL_SLOTS);
    if (totals->lost + totals->twice != wrong)
        sim_fail(learner->sim, "I1: samples are lost or used twice");
}

void learner_end(struct sim *sim, struct totals *totals) {
    struct learner *learner = sim->learner;
    struct hub_counts counts = learner->counts;
    check_disk(learner);
    count_samples(learner, totals);
    add_counts(&counts, hub_counted(learner->life->hub));
    if (!sim->disturbed && (counts.lost || counts.expired || counts.duplicates))
        sim_fail(sim, "undisturbed, and yet %llu leases were lost, %llu expired", (unsigned long long)counts.lost,
                 (unsigned long long)counts.expired);
    totals->duplicates += counts.duplicates;
    totals->expired += counts.expired;
    totals->revived += counts.revived;
    totals->copies += counts.speculative;
    totals->restarts += learner->lives - 1;
}
