#include "learner/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "proto/proto.h"

/* Where a run begins to look sick (DESIGN section 11, objective reference section 4). */
#define TRUNCATED_MOST 0.2
#define ZERO_VARIANCE_MOST 0.8
#define ABSTAIN_LEAST 0.05
#define ABSTAIN_MOST 0.6
#define MALFORMED_MOST 0.5
#define WAITING_MOST 0.5
#define CLIPPED_MOST 0.3
#define ENTROPY_LEAST 0.01

#define NAMES_MAX 64

static double share(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static void put(struct metrics *metrics, const char *name, double value) {
    ASSERT(metrics->count < METRICS_MAX);
    metrics->names[metrics->count] = name;
    metrics->values[metrics->count++] = value;
}

static void __attribute__((format(printf, 2, 3))) warn(struct metrics *metrics, const char *format, ...) {
    if (metrics->warning_count == METRICS_WARNINGS_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(metrics->warnings[metrics->warning_count], sizeof metrics->warnings[0], format, arguments);
    va_end(arguments);
    metrics->warning_count++;
}

static void put_learning(const struct metrics_context *context, const struct step_figures *f, struct metrics *m) {
    double tokens = (double)f->loss.tokens;
    put(m, "reward", f->advantage.reward_mean);
    put(m, "reward_std", f->advantage.group_std_mean);
    put(m, "reward_spread", f->advantage.reward_std);
    put(m, "zero_variance", share(f->advantage.dead_groups, f->groups));
    put(m, "unscorable", f->advantage.unscorable);
    put(m, "loss", f->loss.loss);
    if (context->kl)
        put(m, "kl", share(f->loss.kl, tokens));
    put(m, "policy_kl", share(f->loss.drift, tokens));
    put(m, "behaviour_gap", f->behaviour_gap);
    put(m, "clip_low", share((double)f->loss.clipped_low, tokens));
    put(m, "clip_high", share((double)f->loss.clipped_high, tokens));
    put(m, "clip_dual", share((double)f->loss.clipped_dual, tokens));
    put(m, "ratio", share(f->loss.ratio, tokens));
    put(m, "ratio_max", f->loss.ratio_max);
    put(m, "entropy", share(f->entropy, tokens));
    put(m, "grad_norm", f->update.gradient_norm);
    put(m, "clip_factor", f->update.clip_factor);
    put(m, "lr", f->update.lr);
    put(m, "skipped", f->update.skipped);
    put(m, "skips_in_row", context->skips_in_row);
    put(m, "updates", (double)context->updates);
}

/* What the answers took, and what learning from them did: the policy forward and backward, the reference forward. */
static void put_flop(const struct metrics_context *context, const struct step_figures *f, struct metrics *m) {
    double length = share((double)f->prompt_tokens, f->groups) + share((double)f->answer_tokens, f->answers) / 2;
    double pass = model_pass_flop(context->model, (double)f->trained_rows, (double)f->trained_tokens, length);
    put(m, "generation_flop",
        model_answers_flop(context->model, f->groups, f->prompt_tokens, f->answers, f->answer_tokens));
    put(m, "training_flop", pass * (context->kl ? 4 : 3));
}

static void put_work(const struct metrics_context *context, const struct step_figures *f, struct metrics *m) {
    double tokens = (double)(f->answer_tokens + f->prompt_tokens);
    put(m, "groups", f->groups);
    put(m, "answers", f->answers);
    put(m, "other_class", f->other_class);
    put(m, "length", share((double)f->answer_tokens, f->answers));
    put(m, "longest", f->longest);
    put(m, "shortest", f->shortest);
    put(m, "truncated", share(f->truncated, f->answers));
    put(m, "answer_tokens", (double)f->answer_tokens);
    put(m, "prompt_tokens", (double)f->prompt_tokens);
    put(m, "trained_tokens", (double)f->trained_tokens);
    put(m, "micro_batches", f->micro_batches);
    if (context->model)
        put_flop(context, f, m);
    put(m, "tokens_per_second", share(tokens, context->step_seconds));
    put(m, "step_seconds", context->step_seconds);
    put(m, "wait_seconds", context->wait_seconds);
    put(m, "forward_seconds", f->forward_seconds);
    put(m, "backward_seconds", f->backward_seconds);
    put(m, "update_seconds", f->update_seconds);
    put(m, "checkpoint_failures", context->checkpoint_failures);
}

static void warn_answers(const struct step_figures *f, struct metrics *m) {
    double answers = f->answers, truncated = share(f->truncated, answers);
    double abstain = share(f->verdicts[VERDICT_ABSTAIN], answers);
    double malformed = share(f->verdicts[VERDICT_MALFORMED], answers);
    if (truncated > TRUNCATED_MOST)
        warn(m, "%.0f %% of the answers were cut at sample.max_new_tokens: they earn nothing", 100 * truncated);
    if (malformed > MALFORMED_MOST)
        warn(m,
             "no final answer was found in %.0f %% of the answers: does the prompt ask for the format? A cold start "
             "teaches it (candor data sft)",
             100 * malformed);
    if (abstain < ABSTAIN_LEAST)
        warn(m,
             "only %.1f %% of the answers say Unknown: caution cannot be learned from what is never tried; a cold "
             "start helps (candor data sft)",
             100 * abstain);
    if (abstain > ABSTAIN_MOST)
        warn(m, "%.0f %% of the answers say Unknown: the run may end in always abstaining", 100 * abstain);
    if (share(f->advantage.dead_groups, f->groups) > ZERO_VARIANCE_MOST)
        warn(m, "%.0f %% of the groups have equal rewards and teach nothing",
             100 * share(f->advantage.dead_groups, f->groups));
    if (f->advantage.unscorable > 0)
        warn(m, "%u answers could not be scored", f->advantage.unscorable);
}

static void warn_learning(const struct metrics_context *context, const struct step_figures *f, struct metrics *m) {
    double tokens = (double)f->loss.tokens;
    double clipped = share((double)(f->loss.clipped_low + f->loss.clipped_high), tokens);
    if (f->update.skipped)
        warn(m, "the update was skipped: loss %g, gradient norm %g; the batch is in bad-batches/", f->loss.loss,
             f->update.gradient_norm);
    if (context->lag == 0 && f->other_class == 0 && f->behaviour_gap != 0)
        warn(m, "actor and learner disagree on-policy by %g in log-probability; right would be exactly 0",
             f->behaviour_gap);
    if (f->other_class > 0)
        warn(m, "%u answers came from actors of another class: not bitwise reproducible, and the clip is idle for them",
             f->other_class);
    if (clipped > CLIPPED_MOST)
        warn(m, "%.0f %% of the tokens are clipped: optim.lr may be too high", 100 * clipped);
    if (tokens > 0 && share(f->entropy, tokens) < ENTROPY_LEAST)
        warn(m, "entropy has fallen to %.4f nats a token: the policy no longer explores", share(f->entropy, tokens));
    if (context->wait_seconds > WAITING_MOST * context->step_seconds && context->wait_seconds > 1)
        warn(m, "the learner waited %.0f %% of the time for answers: more or faster actors would help",
             100 * context->wait_seconds / context->step_seconds);
    if (context->checkpoint_failures > 0)
        warn(m, "%u checkpoints could not be written", context->checkpoint_failures);
    if (context->canary_mismatches)
        warn(m, "%llu actors were refused for a wrong canary: their weights or their arithmetic are damaged",
             (unsigned long long)context->canary_mismatches);
}

void metrics_make(const struct metrics_context *context, const struct step_figures *figures,
                  struct metrics *out_metrics) {
    *out_metrics = (struct metrics){0};
    put_learning(context, figures, out_metrics);
    put_work(context, figures, out_metrics);
    warn_learning(context, figures, out_metrics);
    warn_answers(figures, out_metrics);
}

/* {"NAME": groups, ...} over the groups' actors or reward workers; names beyond the first NAMES_MAX are left out. */
static void put_sources(struct buf *out, const struct metrics_context *context, bool workers) {
    struct text names[NAMES_MAX];
    uint32_t counts[NAMES_MAX], used = 0;
    for (uint32_t g = 0; g < context->group_count; g++) {
        const struct message_scored *scored = context->group_list[g].scored;
        if (!scored)
            continue;
        struct text name = workers ? scored->worker_name : scored->group.actor_name;
        uint32_t i = 0;
        while (i < used && !text_equal(names[i], name))
            i++;
        if (i == NAMES_MAX)
            continue;
        if (i == used) {
            names[used] = name;
            counts[used++] = 0;
        }
        counts[i]++;
    }
    buf_puts(out, "{");
    for (uint32_t i = 0; i < used; i++) {
        buf_puts(out, i ? "," : "");
        json_put_string(out, names[i].data ? names[i].data : "", names[i].bytes);
        buf_printf(out, ":%u", counts[i]);
    }
    buf_puts(out, "}");
}

void metrics_put(const struct metrics_context *context, const struct step_figures *figures,
                 const struct metrics *metrics, struct buf *out) {
    char weights[DIGEST_HEX_BYTES];
    digest_format(context->weights, weights);
    buf_printf(out,
               "{\"incarnation\":\"%016" PRIx64 "\",\"step\":%u,\"version\":%u,\"weights\":\"%s\",\"time\":%" PRId64,
               context->incarnation, context->step, context->version, weights, clock_unix_ms());
    for (uint32_t i = 0; i < metrics->count; i++) {
        buf_printf(out, ",\"%s\":", metrics->names[i]);
        json_put_double(out, metrics->values[i]);
    }
    buf_puts(out, ",\"verdicts\":{");
    for (int v = 0; v < VERDICT_COUNT; v++) {
        buf_printf(out, "%s\"%s\":", v ? "," : "", verdict_name((enum verdict)v));
        json_put_double(out, share(figures->verdicts[v], figures->answers));
    }
    buf_printf(out, "},\"arrival\":\"%016" PRIx64 "\",\"answered_by\":", context->arrival);
    put_sources(out, context, false);
    buf_puts(out, ",\"scored_by\":");
    put_sources(out, context, true);
    buf_puts(out, ",\"stuck\":[");
    for (uint32_t i = 0; i < context->stuck_count; i++) {
        buf_puts(out, i ? "," : "");
        json_put_string(out, context->stuck[i], strlen(context->stuck[i]));
    }
    buf_printf(out, "],\"hub\":%s,\"warnings\":[", context->hub_counters ? context->hub_counters : "{}");
    for (uint32_t i = 0; i < metrics->warning_count; i++) {
        buf_puts(out, i ? "," : "");
        json_put_string(out, metrics->warnings[i], strlen(metrics->warnings[i]));
    }
    buf_puts(out, "]}\n");
}
