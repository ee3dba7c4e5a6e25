/* candor-bench-reward [DATA-DIRECTORY]: how well the matcher agrees with people, and how fast it is.
 *
 * Prints, for each set of judged answers found in the data folder (default ../shared/data beside the repository),
 * agreement, precision and recall; which rule decided; how often shuffled golds are taken for right; how the verdicts
 * on real reinforcement-learned outputs compare with their exact-match grade; and answers graded per second on one
 * core. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/fs.h"
#include "common/base/json.h"
#include "common/base/rng.h"
#include "reward/extract.h"
#include "reward/match.h"
#include "reward/score.h"
#include "tests/support/reward/judged.h"

static struct normal scratch;

/* ---- agreement ------------------------------------------------------------------------------------------------------
 */

struct tally {
    double right, missed, excess, rejected; /* judged correct and found, not found; judged wrong and found, not found */
    double by_rule[MATCH_RULE_COUNT][2];    /* [rule][judged correct] */
};

static double ratio(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static void tally_row(void *user, const struct judged *row) {
    struct tally *tally = user;
    struct question_golds golds = {row->question, row->aliases, row->alias_count};
    struct gold_set *set;
    if (gold_set_create(&golds, &set) != STATUS_OK)
        return;
    normalise(row->answer, strlen(row->answer), &scratch);
    enum match_rule rule = match_final(set, normal_list(&scratch)).rule;
    gold_set_destroy(&set);
    bool found = rule != MATCH_NONE;
    *(row->correct ? (found ? &tally->right : &tally->missed) : (found ? &tally->excess : &tally->rejected)) += 1;
    tally->by_rule[rule][row->correct] += 1;
}

static void print_tally(const char *name, const char *judge, const struct tally *tally) {
    double count = tally->right + tally->missed + tally->excess + tally->rejected;
    printf("%-22s %-7s %6.0f %10.4f %10.4f %10.4f\n", name, judge, count, ratio(tally->right + tally->rejected, count),
           ratio(tally->right, tally->right + tally->excess), ratio(tally->right, tally->right + tally->missed));
}

static void add_tally(struct tally *sum, const struct tally *part) {
    sum->right += part->right;
    sum->missed += part->missed;
    sum->excess += part->excess;
    sum->rejected += part->rejected;
    for (int rule = 0; rule < MATCH_RULE_COUNT; rule++) {
        sum->by_rule[rule][0] += part->by_rule[rule][0];
        sum->by_rule[rule][1] += part->by_rule[rule][1];
    }
}

static void print_rules(const struct tally *small, const struct tally *sentence) {
    printf("\nwhich rule decided, EVOUNA (judged right / wrong)\n%-12s %16s %16s\n", "rule", "short", "sentence");
    for (int rule = 0; rule < MATCH_RULE_COUNT; rule++)
        printf("%-12s %9.0f %6.0f %9.0f %6.0f\n", match_rule_name((enum match_rule)rule), small->by_rule[rule][1],
               small->by_rule[rule][0], sentence->by_rule[rule][1], sentence->by_rule[rule][0]);
}

static void bench_agreement(const char *data) {
    struct tally small = {0}, sentence = {0};
    size_t count;
    const struct judged_set *sets = judged_sets(&count);
    printf("%-22s %-7s %6s %10s %10s %10s\n", "set", "judge", "rows", "agreement", "precision", "recall");
    for (size_t i = 0; i < count; i++) {
        struct tally tally = {0};
        if (judged_read(&sets[i], data, tally_row, &tally) != STATUS_OK) {
            printf("%-22s %s\n", sets[i].name, status_message());
            continue;
        }
        print_tally(sets[i].name, sets[i].judge, &tally);
        if (strcmp(sets[i].select, "fid") == 0)
            add_tally(&small, &tally);
        if (strcmp(sets[i].select, "sentence") == 0)
            add_tally(&sentence, &tally);
    }
    print_tally("EVOUNA short, all", "people", &small);
    print_tally("EVOUNA sentence, all", "people", &sentence);
    printf("bars: short agreement .945 with precision .975; sentence agreement .885\n");
    print_rules(&small, &sentence);
}

/* ---- chance: the golds of another question --------------------------------------------------------------------------
 */

struct question {
    char *text, *aliases[JUDGED_ALIASES_MAX], *answers[5];
    size_t alias_count, answer_count;
};

struct questions {
    struct question *items;
    size_t count, capacity;
};

static void keep_question(void *user, const struct judged *row) {
    struct questions *questions = user;
    struct question *last = questions->count > 0 ? &questions->items[questions->count - 1] : NULL;
    if (last == NULL || strcmp(last->text, row->question) != 0) {
        if (questions->count == questions->capacity) {
            questions->capacity = 2 * questions->capacity + 64;
            questions->items = realloc(questions->items, questions->capacity * sizeof *questions->items);
            if (questions->items == NULL)
                abort();
        }
        last = &questions->items[questions->count++];
        *last = (struct question){.text = strdup(row->question)};
        for (size_t i = 0; i < row->alias_count; i++)
            last->aliases[last->alias_count++] = strdup(row->aliases[i]);
    }
    if (last->answer_count < 5)
        last->answers[last->answer_count++] = strdup(row->answer);
}

static void forget_questions(struct questions *questions) {
    for (size_t q = 0; q < questions->count; q++) {
        struct question *question = &questions->items[q];
        free(question->text);
        for (size_t i = 0; i < question->alias_count; i++)
            free(question->aliases[i]);
        for (size_t i = 0; i < question->answer_count; i++)
            free(question->answers[i]);
    }
    free(questions->items);
}

/* Each answer against the golds of 10 other questions, drawn evenly. */
static void bench_shuffled(const char *data) {
    size_t set_count;
    const struct judged_set *sets = judged_sets(&set_count);
    printf("\nanswers taken for right with the golds of another question (bar: at most 1 %%)\n");
    for (size_t s = 0; s < 4 && s < set_count; s++) {
        struct questions questions = {0};
        double tried = 0, taken = 0;
        if (judged_read(&sets[s], data, keep_question, &questions) != STATUS_OK)
            continue;
        for (uint32_t q = 0; q < questions.count; q++) {
            for (uint32_t draw = 0; draw < 10; draw++) {
                struct rng_key key = {.seed = 1, .slot = q, .step = draw, .stream = RNG_TEST};
                uint32_t other = rng_below(&key, 0, (uint32_t)questions.count);
                struct question *from = &questions.items[other], *to = &questions.items[q];
                if (other == q)
                    continue;
                struct question_golds golds = {to->text, (const char *const *)from->aliases, from->alias_count};
                struct gold_set *set;
                if (gold_set_create(&golds, &set) != STATUS_OK)
                    continue;
                for (size_t a = 0; a < to->answer_count; a++) {
                    struct score score;
                    score_plain(set, to->answers[a], strlen(to->answers[a]), &score);
                    tried += 1;
                    taken += score.verdict == VERDICT_CORRECT;
                }
                gold_set_destroy(&set);
            }
        }
        printf("%-22s %8.0f tried %8.4f %%\n", sets[s].name, tried, 100 * ratio(taken, tried));
        forget_questions(&questions);
    }
}

/* ---- outputs of a model trained by reinforcement: extraction, and the exact-match grade
 * ------------------------------- */

struct chains {
    double complete, extracted, cut, agree, both, ours[MATCH_RULE_COUNT], theirs;
    double verdicts[VERDICT_COUNT];
    bool list; /* print each disagreement */
};

static void chain_row(struct chains *chains, const json_t *item) {
    const json_t *output = json_object_get(item, "output"), *golden = json_object_get(item, "golden_answers");
    const char *text = json_string_value(json_object_get(output, "final_response"));
    const char *stop = json_string_value(json_object_get(output, "stop_reason"));
    const char *aliases[JUDGED_ALIASES_MAX];
    struct question_golds golds = {json_string_value(json_object_get(item, "question")), aliases, 0};
    for (; golds.alias_count < json_array_size(golden) && golds.alias_count < JUDGED_ALIASES_MAX; golds.alias_count++)
        aliases[golds.alias_count] = json_string_value(json_array_get(golden, golds.alias_count));
    struct gold_set *set;
    struct score score;
    if (text == NULL || stop == NULL || golds.question == NULL || gold_set_create(&golds, &set) != STATUS_OK)
        return;
    score_answer(set, text, strlen(text), &score);
    bool complete = strcmp(stop, "stop") == 0;
    chains->complete += complete;
    chains->cut += !complete;
    chains->extracted += complete && score.final_bytes > 0;
    chains->verdicts[score.verdict] += 1;
    bool theirs = json_number_value(json_object_get(json_object_get(output, "metric_score"), "em")) > 0.5;
    bool ours = score.verdict == VERDICT_CORRECT;
    normalise(text + score.final_start, score.final_bytes, &scratch);
    enum match_rule rule = match_final(set, normal_list(&scratch)).rule;
    chains->agree += ours == theirs;
    chains->both += ours && theirs;
    chains->ours[rule] += ours && !theirs;
    chains->theirs += theirs && !ours;
    if (chains->list && ours != theirs)
        printf("  em %d %s (%s): %.70s | %s | %.*s\n", theirs, verdict_name(score.verdict), match_rule_name(rule),
               golds.question, aliases[0], (int)score.final_bytes, text + score.final_start);
    gold_set_destroy(&set);
}

static void bench_chains(const char *data, bool list) {
    static const char *const files[] = {"popqa_base_v0", "triviaqa_base_v1", "nq_base_v1", "bamboogle_base_v1",
                                        "bamboogle_instruct_v1"};
    printf("\nSearch-R1 outputs (bar: final answers from 99 %% of the complete ones)\n");
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[PATH_BYTES];
        struct chains chains = {.list = list};
        json_t *array, *item;
        size_t i;
        snprintf(path, sizeof path, "%s/graded/search_r1_%s.json", data, files[f]);
        if (json_read_file(path, 64u << 20, &array) != STATUS_OK) {
            printf("%s\n", status_message());
            continue;
        }
        json_array_foreach(array, i, item) chain_row(&chains, item);
        json_decref(array);
        double all = chains.complete + chains.cut;
        printf("%-22s complete %4.0f, extracted %6.2f %%; cut %4.0f; agree with exact match %.4f\n", files[f],
               chains.complete, 100 * ratio(chains.extracted, chains.complete), chains.cut, ratio(chains.agree, all));
        printf("   verdicts:");
        for (int v = 0; v < VERDICT_COUNT; v++)
            printf(" %s %.0f", verdict_name((enum verdict)v), chains.verdicts[v]);
        printf("\n   right by exact match alone: %.0f; right here alone, by rule:", chains.theirs);
        for (int rule = 0; rule < MATCH_RULE_COUNT; rule++) {
            if (chains.ours[rule] > 0)
                printf(" %s %.0f", match_rule_name((enum match_rule)rule), chains.ours[rule]);
        }
        printf("\n");
    }
}

/* ---- refusals -------------------------------------------------------------------------------------------------------
 */

static void bench_refusals(const char *data) {
    static const char *const models[] = {"gpt-4-0613", "chatgpt", "claude"};
    printf("\nshare read as abstaining, UnknownBench RefuNQ (ungraded; unanswerable questions should be refused)\n");
    for (size_t m = 0; m < 3; m++) {
        double shares[2] = {0};
        for (int answerable = 0; answerable < 2; answerable++) {
            char path[PATH_BYTES];
            struct json_lines lines;
            json_t *row;
            double count = 0;
            snprintf(path, sizeof path, "%s/abstention/%s_RefuNQ_%sanswerable.json", data, models[m],
                     answerable ? "" : "un");
            if (json_lines_open(&lines, path, 1 << 20) != STATUS_OK)
                return;
            while (json_lines_next(&lines, &row) == STATUS_OK) {
                const char *text = json_string_value(json_object_get(row, models[m]));
                struct question_golds golds = {"", NULL, 0};
                struct gold_set *set;
                struct score score;
                if (text != NULL && gold_set_create(&golds, &set) == STATUS_OK) {
                    score_plain(set, text, strlen(text), &score);
                    shares[answerable] += score.verdict == VERDICT_ABSTAIN;
                    count += 1;
                    gold_set_destroy(&set);
                }
                json_decref(row);
            }
            json_lines_close(&lines);
            shares[answerable] = ratio(shares[answerable], count);
        }
        printf("%-22s unanswerable %.3f  answerable %.3f\n", models[m], shares[0], shares[1]);
    }
}

/* ---- speed ----------------------------------------------------------------------------------------------------------
 */

/* Of this process: other work on the machine does not count. */
static double cpu_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* An answer of 100 tokens (about 4.5 bytes each) with reasoning and a boxed final; 10 aliases, prepared once for 20
 * answers. */
static void bench_speed(void) {
    static const char reasoning[] =
        "Let me think about this step by step. The question asks for the composer of a film score that was written in "
        "the early years of the studio. I recall that several people worked there at that time, and that the music for "
        "this picture was credited to a man from New York who later moved to California and wrote songs for a number "
        "of "
        "other pictures. I am fairly sure about the name, although the spelling in some sources differs slightly. ";
    static const char *const finals[] = {"so boxed[Ralph Rainger]", "so boxed[George Gershwin]", "so boxed[Unknown]",
                                         "so \\boxed{The composer was R. Rainger, of New York}"};
    static const char *const aliases[10] = {"Ralph Rainger",         "Ralph Reichenthal",
                                            "R. Rainger (composer)", "Rainger, Ralph",
                                            "Ralph Rainger (1901)",  "Ralph Reichenthal Rainger",
                                            "Reichenthal",           "Ralph Raynger",
                                            "Ralf Rainger",          "The Paramount composer Rainger"};
    struct question_golds golds = {"Who was the composer of Easy Living?", aliases, 10};
    char answers[4][1024];
    size_t bytes[4], graded = 0, counts[VERDICT_COUNT] = {0};
    for (int i = 0; i < 4; i++)
        bytes[i] = (size_t)snprintf(answers[i], sizeof answers[i], "%s%s", reasoning, finals[i]);
    double start = cpu_seconds(), seconds;
    do {
        struct gold_set *set;
        if (gold_set_create(&golds, &set) != STATUS_OK)
            return;
        for (int i = 0; i < 20; i++) {
            struct score score;
            score_answer(set, answers[i % 4], bytes[i % 4], &score);
            counts[score.verdict]++;
        }
        gold_set_destroy(&set);
        graded += 20;
        seconds = cpu_seconds() - start;
    } while (seconds < 1.0);
    printf("\n%.0f answers per second of one core (about 100 tokens, %zu bytes, 10 aliases; bar: 20,000)",
           (double)graded / seconds, bytes[0]);
    printf("; correct %.2f, abstain %.2f\n", (double)counts[VERDICT_CORRECT] / (double)graded,
           (double)counts[VERDICT_ABSTAIN] / (double)graded);
}

int main(int argc, char **argv) {
    bool list = argc > 1 && strcmp(argv[1], "--list") == 0; /* each disagreement with exact match */
    const char *data = argc > 1 + list ? argv[1 + list] : SHARED_DATA;
    bench_agreement(data);
    bench_shuffled(data);
    bench_chains(data, list);
    bench_refusals(data);
    bench_speed();
    return 0;
}
