/* What the demo shows at its end, from the files that its commands left. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/eval/krb.h"
#include "deploy/demo/demo.h"
#include "deploy/report/run_data.h"

#define DRAWS 2000
#define RECORD_BYTES_MAX 4096

static const char *const splits[] = {"train", "held-out"};
static const char *const split_names[] = {"questions trained on", "held-out questions"};
static const char *const split_keys[] = {"trained", "held_out"};
static const char *const classes[] = {"always", "sometimes", "never"};

static void print_table(const struct run_data *run) {
    printf("\n%-22s %-10s %6s   %-26s %s\n", "", "facts seen", "count", "before", "after");
    printf("%-22s %-10s %6s   %8s%9s%9s  %8s%9s%9s\n", "", "", "", "correct", "Unknown", "wrong", "correct", "Unknown",
           "wrong");
    for (int s = 0; s < 2; s++) {
        for (int c = 0; c < 3; c++) {
            const struct outcome_filter filter = {.split = splits[s], .class_label = classes[c]};
            struct shares before = outcome_shares(run->base, &filter), after = outcome_shares(run->final, &filter);
            printf("%-22s %-10s %6u   %8.3f%9.3f%9.3f  %8.3f%9.3f%9.3f\n", c == 0 ? split_names[s] : "", classes[c],
                   after.questions, before.correct, before.abstain, before.wrong, after.correct, after.abstain,
                   after.wrong);
        }
    }
}

/* The trained question of a class that moved most towards a verdict. */
static void print_example(struct run_data *run, const char *class_label, enum verdict towards) {
    const struct outcome *best = NULL, *best_before = NULL;
    int best_gain = -1;
    for (uint32_t i = 0; i < run->final->count; i++) {
        const struct outcome *after = &run->final->outcomes[i],
                             *before = outcome_find(run->base, after->set, after->id);
        if (before == NULL || strcmp(after->class_label, class_label) != 0 || strcmp(after->split, "train") != 0)
            continue;
        int gain = (int)after->counts[towards] - (int)before->counts[towards];
        if (gain > best_gain && after->answer_count > 0 && before->answer_count > 0) {
            best = after;
            best_before = before;
            best_gain = gain;
        }
    }
    if (best != NULL)
        printf("\n  %s  (%s seen)\n    before: %s\n    after:  %s\n", best->question, class_label,
               best_before->answers[0], best->answers[0]);
}

static void put_shares(struct buf *out, const char *key, struct shares shares) {
    buf_printf(out, "\"%s\":{\"correct\":%.6f,\"abstain\":%.6f,\"wrong\":%.6f}", key, shares.correct, shares.abstain,
               shares.wrong);
}

static void put_decomposition(struct buf *out, const struct outcome_file *file) {
    struct decomposition d = outcome_decomposition(file, NULL);
    buf_printf(out,
               "{\"step\":%u,\"all_correct\":%.4f,\"partial_correct\":%.4f,\"partial_not_attempted\":%.4f,"
               "\"all_not_attempted\":%.4f,\"all_wrong\":%.4f}",
               file->version, d.all_correct, d.partial_correct, d.partial_not_attempted, d.all_not_attempted,
               d.all_wrong);
}

/* ---- work ---- */

/* FLOP of the model, multiply and add counting two, as the commands wrote them down. */
struct work {
    double pretraining, answers, training;
};

static double column_sum(const struct run_data *run, const char *key) {
    double sum = 0, *values = run_data_column(run, key);
    for (size_t i = 0; values != NULL && i < run->metric_count; i++)
        sum += isfinite(values[i]) ? values[i] : 0;
    free(values);
    return sum;
}

static enum status sum_work(const struct demo *demo, const struct run_data *run, struct work *out_work) {
    char path[PATH_BYTES];
    json_t *record;
    struct work work = {0};
    TRY(fs_join(path, demo->base, "sft.json"));
    TRY(json_read_file(path, RECORD_BYTES_MAX, &record));
    work.pretraining = json_number_value(json_object_get(record, "flop"));
    json_decref(record);
    work.training = column_sum(run, "training_flop");
    work.answers = column_sum(run, "generation_flop") + run->base->flop + run->base_forced->flop +
                   run->knowledge->flop + run->final->flop;
    for (size_t i = 0; i < run->eval_count; i++)
        work.answers += run->evals[i]->flop;
    *out_work = work;
    return STATUS_OK;
}

static void print_work(const struct work *work) {
    printf("\nWork done: %.2f TFLOP (pretraining %.2f, answers in training and evaluation %.2f, learning from them "
           "%.2f)\n",
           (work->pretraining + work->answers + work->training) * 1e-12, work->pretraining * 1e-12,
           work->answers * 1e-12, work->training * 1e-12);
}

static enum status write_json(const struct demo *demo, const struct run_data *run, const struct krb *krb,
                              const struct work *work) {
    struct buf out = {0};
    buf_printf(&out, "{\"seed\":%llu", (unsigned long long)demo->seed);
    for (int s = 0; s < 2; s++) {
        buf_printf(&out, ",\"%s\":{", split_keys[s]);
        for (int c = 0; c < 3; c++) {
            const struct outcome_filter filter = {.split = splits[s], .class_label = classes[c]};
            buf_printf(&out, "%s\"%s\":{\"questions\":%u,", c > 0 ? "," : "", classes[c],
                       outcome_shares(run->final, &filter).questions);
            put_shares(&out, "base", outcome_shares(run->base, &filter));
            buf_puts(&out, ",");
            put_shares(&out, "final", outcome_shares(run->final, &filter));
            buf_puts(&out, "}");
        }
        buf_puts(&out, "}");
    }
    if (krb != NULL)
        buf_printf(&out, ",\"krb\":{\"value\":%.6f,\"low\":%.6f,\"high\":%.6f,\"questions\":%u}", krb->krb.value,
                   krb->krb.low, krb->krb.high, krb->questions);
    else
        buf_puts(&out, ",\"krb\":null");
    buf_puts(&out, ",\"decomposition\":[");
    for (size_t i = 0; i < run->eval_count; i++) {
        buf_puts(&out, i > 0 ? "," : "");
        put_decomposition(&out, run->evals[i]);
    }
    buf_printf(&out, "],\"flop\":{\"pretraining\":%.6g,\"answers\":%.6g,\"training\":%.6g}}\n", work->pretraining,
               work->answers, work->training);
    enum status status = buf_ok(&out) ? fs_write_atomic(demo->json, out.data, out.bytes)
                                      : fail(STATUS_NO_MEMORY, "%s: out of memory", demo->json);
    buf_deinit(&out);
    return status;
}

static enum status summarise(const struct demo *demo, struct run_data *run) {
    if (run->base == NULL || run->final == NULL || run->knowledge == NULL || run->base_forced == NULL)
        return fail(STATUS_NOT_FOUND, "%s/eval: base, base-forced, knowledge and final .jsonl must be there",
                    demo->run);
    struct work work;
    TRY(sum_work(demo, run, &work));
    print_table(run);
    struct krb krb;
    bool balanced = krb_compute(run->knowledge, run->base_forced, run->final,
                                &(struct outcome_filter){.split = "held-out"}, demo->seed, DRAWS, &krb) == STATUS_OK;
    if (balanced)
        printf("\nKnowledge-Relative Balance on %u held-out questions: %.3f, 95 %% interval [%.3f, %.3f] (the base is "
               "0)\n",
               krb.questions, krb.krb.value, krb.krb.low, krb.krb.high);
    else
        printf("\nNo Knowledge-Relative Balance: %s\n", status_message());
    print_example(run, "always", VERDICT_CORRECT);
    print_example(run, "sometimes", VERDICT_CORRECT);
    print_example(run, "never", VERDICT_ABSTAIN);
    print_work(&work);
    printf("\nThe report: %s/report.html\n\nA real model, next (a Hugging Face directory of Qwen2.5, and question "
           "files):\n"
           "  candor data mix --out mix SimpleQA.csv PopQA.tsv SelfAware.json TriviaQA.json\n"
           "  candor train --run run --set model.path=Qwen2.5-0.5B-Instruct --set data.train=mix/train.jsonl "
           "--set data.eval=mix/held-out.jsonl --set sample.questions=8 --set sample.max_new_tokens=96\n",
           demo->out);
    return demo->json != NULL ? write_json(demo, run, balanced ? &krb : NULL, &work) : STATUS_OK;
}

enum status demo_summary(const struct demo *demo) {
    struct run_data *run = NULL;
    TRY(run_data_open(demo->run, &run));
    enum status status = summarise(demo, run);
    run_data_close(&run);
    return status;
}
