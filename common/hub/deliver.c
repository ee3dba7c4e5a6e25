/* Scored groups that come: each delivery gets exactly one answer, and each answer frees the outbox that asked. */
#include "common/hub/internal.h"

#include "common/base/plant.h"
#include "proto/proto.h"

struct verdict_on {
    enum delivery_outcome outcome;
    const char *reason; /* NOT_WANTED */
};

static struct verdict_on not_wanted(const char *reason) {
    return (struct verdict_on){OUTCOME_NOT_WANTED, reason};
}

/* I2: the same work on the same kind of device gives the same bits, or something is broken, and that is said. */
static struct verdict_on duplicate(struct hub *hub, const struct message_group *group, struct digest accepted,
                                   bool same_class) {
    struct digest digest = group_digest(group);
    hub->counts.duplicates++;
    if (((same_class && group->same_class) || PLANTED(CLASS_IGNORED)) && !digest_equal(digest, accepted)) {
        char first[DIGEST_HEX_BYTES], second[DIGEST_HEX_BYTES];
        digest_format(accepted, first);
        digest_format(digest, second);
        hub->counts.mismatches++;
        hub_alarm(hub, false, "duplicate_mismatch", "stream=%u step=%u slot=%u accepted=%s duplicate=%s actor=\"%s\"",
                  group->key.stream, group->key.step, group->key.slot, first, second, group->actor_name.data);
    }
    return (struct verdict_on){OUTCOME_DUPLICATE, NULL};
}

static bool ends_with_stop(const struct message_lease *lease, const struct answer_sample *sample) {
    for (uint32_t i = 0; i < lease->stop_count; i++) {
        if (sample->ids[sample->count - 1] == lease->stops[i])
            return true;
    }
    return false;
}

/* What is wrong with the content, NULL if nothing is. */
static const char *wrong_with(const struct hub *hub, const struct message_lease *lease,
                              const struct message_group *group) {
    if (group->sample_count != lease->samples)
        return "not as many samples as were asked for";
    for (uint32_t i = 0; i < group->sample_count; i++) {
        const struct answer_sample *sample = &group->samples[i];
        if (sample->count > lease->max_new_tokens)
            return "an answer is longer than max_new_tokens";
        if (sample->finish == FINISH_LENGTH && sample->count < lease->max_new_tokens)
            return "an answer is cut before max_new_tokens";
        if (sample->finish == FINISH_STOP && !ends_with_stop(lease, sample))
            return "an answer ends without a stop token";
        for (uint32_t j = 0; hub->settings.valid_vocab > 0 && j < sample->count; j++) {
            if (sample->ids[j] >= hub->settings.valid_vocab)
                return "a token id beyond the vocabulary";
        }
    }
    return NULL;
}

/* The group is done by this lease's holder; whoever else works at the slot is called off. */
static void close_leases(struct hub *hub, struct slot *slot, uint64_t delivered, int64_t now_ms) {
    while (!list_empty(&slot->leases)) {
        struct lease *lease = LIST_ELEMENT(slot->leases.next, struct lease, of_slot);
        bool is_delivered = lease->number == delivered;
        if (is_delivered) {
            double took_ms = (double)(now_ms - lease->granted_ms);
            hub->mean_ms = hub->mean_ms > 0 ? 0.9 * hub->mean_ms + 0.1 * took_ms : took_ms;
            lease->peer->accepted++;
            hub_set_lease_state(hub, lease, LEASE_DONE);
            hub_stand_in_line(hub, lease->peer);
        }
        hub_close_lease(hub, lease, !is_delivered);
    }
}

static struct verdict_on accept(struct hub *hub, struct work *work, struct slot *slot,
                                const struct message_scored *scored, int64_t now_ms) {
    slot->digest = group_digest(&scored->group);
    slot->same_class = scored->group.same_class;
    close_leases(hub, slot, scored->group.lease, now_ms);
    work_finish(work, slot, SLOT_FILLED);
    hub->counts.accepted++;
    hub->events.filled(hub->events.context, scored); /* I1: once, the slot never leaves FILLED */
    hub_complete_if_done(hub, work);
    return (struct verdict_on){OUTCOME_ACCEPTED, NULL};
}

/* A group that nobody can use: its lease is over, and the slot is offered again. */
static struct verdict_on invalid(struct hub *hub, struct slot *slot, uint64_t number, const char *reason) {
    hub->counts.invalid++;
    struct lease *lease = lease_table_find(&hub->table, number);
    if (lease && lease->slot == slot)
        hub_lease_lost(hub, lease, reason);
    return not_wanted(reason);
}

static struct verdict_on judge_past(struct hub *hub, const struct message_scored *scored, int64_t now_ms) {
    const struct message_group *group = &scored->group;
    const struct past_work *past = past_find(&hub->past, group->key.stream, group->key.step);
    if (!past)
        return not_wanted("this step is not open");
    if (group->key.slot >= past->slot_count)
        return not_wanted("no such slot");
    if (digest_is_zero(past->digests[group->key.slot]))
        return not_wanted("this slot was skipped");
    if (!digest_equal(group->weights, past->weights)) /* of work that was withdrawn and offered again */
        return not_wanted("another version of the weights");
    if (hub_canary_is_wrong(hub, group, &past->canary, now_ms))
        return not_wanted("its actor's canary is wrong");
    if (PLANTED(DUPLICATE_AS_NEW))
        hub->events.filled(hub->events.context, scored);
    return duplicate(hub, group, past->digests[group->key.slot], past->same_class[group->key.slot]);
}

/* Accept a valid group for any open slot when run, step, slot, weights and configuration agree, whoever holds the
 * lease. */
static struct verdict_on judge(struct hub *hub, const struct message_scored *scored, int64_t now_ms) {
    const struct message_group *group = &scored->group;
    if (group->key.run_id != hub->settings.run_id)
        return not_wanted("another run");
    if (!digest_equal(group->config, hub->settings.config))
        return not_wanted("another configuration");
    struct work *work = hub_find_work(hub, group->key.stream, group->key.step);
    if (!work)
        return judge_past(hub, scored, now_ms);
    if (group->key.slot >= work->slot_count)
        return not_wanted("no such slot");
    if (!digest_equal(group->weights, work->weights) && !PLANTED(GROUP_WEIGHTS_UNCHECKED))
        return not_wanted("another version of the weights");
    struct slot *slot = &work->slots[group->key.slot];
    const struct version *version = hub_find_version(hub, &work->weights);
    if (version && hub_canary_is_wrong(hub, group, &version->canary, now_ms))
        return not_wanted("its actor's canary is wrong");
    if (slot->state == SLOT_FILLED && !PLANTED(SLOT_FILLED_TWICE))
        return duplicate(hub, group, slot->digest, slot->same_class);
    if (slot->state == SLOT_SKIPPED)
        return not_wanted("this slot was skipped");
    const struct peer *actor = map_get(&hub->by_incarnation, group->actor);
    if (actor && actor->distrusted)
        return not_wanted("this actor's canary was wrong");
    if (actor && group->same_class && !actor->same_class) /* the learner would take its bits for its own */
        return not_wanted("this actor is of another class");
    const char *wrong = wrong_with(hub, &work->templates[group->key.slot], group);
    if (wrong)
        return invalid(hub, slot, group->lease, wrong);
    return accept(hub, work, slot, scored, now_ms);
}

void hub_scored(struct hub *hub, struct peer *peer, const struct message_scored *scored, int64_t now_ms) {
    struct verdict_on verdict = judge(hub, scored, now_ms);
    hub->counts.not_wanted += verdict.outcome == OUTCOME_NOT_WANTED;
    if (verdict.outcome == OUTCOME_ACCEPTED)
        peer->accepted++;
    struct message answer = {.type = MESSAGE_ANSWER};
    answer.answer = (struct message_answer){.key = scored->group.key,
                                            .lease = scored->group.lease,
                                            .outcome = (uint8_t)verdict.outcome,
                                            .reason = text_of(verdict.reason)};
    if (PLANTED(DUPLICATE_UNANSWERED) && verdict.outcome == OUTCOME_DUPLICATE)
        return;
    hub_send(hub, peer->connection, &answer);
}
