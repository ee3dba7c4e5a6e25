/* Two passes: the first notes a key and a set for every usable question and decides, the second writes what was chosen.
 */
#include "common/data/mix.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/rng.h"
#include "common/data/output.h"

#define ENTRIES_MAX (64u << 20)

enum fate { FATE_OPEN, FATE_REPEAT, FATE_UNUSED, FATE_TRAIN, FATE_HELD_OUT };

struct entry {
    struct digest key; /* of the normalised text */
    uint8_t set, fate;
};

struct mix {
    const struct mix_options *options;
    struct mix_report *report;
    struct entry *entries; /* those of `against` first, then inputs in the order of their usable rows */
    uint32_t count, capacity, against_count;
    uint32_t *slots; /* hash table of entries by key: index + 1 */
    uint32_t slot_mask;
    uint32_t at; /* second pass: the entry of the next question */
    struct output outputs[2];
    struct buf line;
};

enum { OUTPUT_TRAIN, OUTPUT_HELD_OUT };
static const char *const output_names[] = {"train.jsonl", "held-out.jsonl"};

/* ---- the table of keys
 * -------------------------------------------------------------------------------------------------- */

static struct digest key_of(struct mix *mix, const char *text) {
    buf_reset(&mix->line);
    mix_normalise(text, &mix->line);
    if (mix->line.bytes == 0) /* nothing but punctuation */
        buf_puts(&mix->line, text);
    return hash128(mix->line.data, mix->line.bytes);
}

static enum status grow(struct mix *mix) {
    if (mix->count < mix->capacity)
        return STATUS_OK;
    if (mix->capacity >= ENTRIES_MAX)
        return fail(STATUS_LIMIT, "mix: more than %u questions", ENTRIES_MAX);
    uint32_t capacity = mix->capacity ? 2 * mix->capacity : 4096, size = 4 * capacity;
    struct entry *entries = realloc(mix->entries, capacity * sizeof *entries);
    mix->entries = entries ? entries : mix->entries;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!entries || !slots) {
        free(slots);
        return fail(STATUS_NO_MEMORY, "mix: out of memory for %u questions", capacity);
    }
    for (uint32_t i = 0; i < mix->count; i++) {
        if (entries[i].fate == FATE_REPEAT)
            continue;
        uint32_t at = (uint32_t)entries[i].key.low & (size - 1);
        while (slots[at])
            at = (at + 1) & (size - 1);
        slots[at] = i + 1;
    }
    free(mix->slots);
    mix->slots = slots;
    mix->slot_mask = size - 1;
    mix->capacity = capacity;
    return STATUS_OK;
}

/* Adds an entry; out_first is the index of the first one with this key, which may be the new one. */
static enum status add_entry(struct mix *mix, struct digest key, uint8_t set, uint32_t *out_first) {
    TRY(grow(mix));
    uint32_t index = mix->count++, at = (uint32_t)key.low & mix->slot_mask;
    mix->entries[index] = (struct entry){.key = key, .set = set};
    for (; mix->slots[at]; at = (at + 1) & mix->slot_mask)
        if (digest_equal(mix->entries[mix->slots[at] - 1].key, key)) {
            mix->entries[index].fate = FATE_REPEAT;
            *out_first = mix->slots[at] - 1;
            return STATUS_OK;
        }
    mix->slots[at] = index + 1;
    *out_first = index;
    return STATUS_OK;
}

/* ---- first pass
 * ---------------------------------------------------------------------------------------------------------- */

static enum status note_against(void *user, const struct question *question) {
    struct mix *mix = user;
    uint32_t first;
    return add_entry(mix, key_of(mix, question->text), 0, &first);
}

static enum status find_set(struct mix_report *report, const char *name, uint8_t *out_set) {
    for (uint32_t i = 0; i < report->set_count; i++)
        if (strncmp(report->sets[i].name, name, MIX_NAME_BYTES - 1) == 0) {
            *out_set = (uint8_t)i;
            return STATUS_OK;
        }
    if (report->set_count == MIX_SETS_MAX)
        return fail(STATUS_LIMIT, "mix: more than %d sets", MIX_SETS_MAX);
    *out_set = (uint8_t)report->set_count;
    snprintf(report->sets[report->set_count++].name, MIX_NAME_BYTES, "%s", name);
    return STATUS_OK;
}

static enum status note_input(void *user, const struct question *question) {
    struct mix *mix = user;
    uint8_t set = 0;
    uint32_t first;
    TRY(find_set(mix->report, question->set, &set));
    uint32_t index = mix->count;
    TRY(add_entry(mix, key_of(mix, question->text), set, &first));
    mix->report->sets[set].read++;
    mix->report->sets[set].held_elsewhere += first < mix->against_count;
    mix->report->sets[set].duplicates += first != index && first >= mix->against_count;
    return STATUS_OK;
}

static void pass_unusable(void *user, const char *path, uint64_t row, enum unusable reason, const char *detail) {
    const struct question_events *events = ((struct mix *)user)->options->events;
    if (events && events->unusable)
        events->unusable(events->user, path, row, reason, detail);
}

static void pass_progress(void *user, const char *path, uint64_t bytes_read, uint64_t bytes_total) {
    const struct question_events *events = ((struct mix *)user)->options->events;
    if (events && events->progress)
        events->progress(events->user, path, bytes_read, bytes_total);
}

static enum status first_pass(struct mix *mix) {
    const struct mix_options *options = mix->options;
    struct question_events events = {.question = note_against, .progress = pass_progress, .user = mix};
    struct question_counts counts;
    for (size_t i = 0; i < options->against_count; i++)
        TRY(question_read(options->against[i], &events, &counts));
    mix->against_count = mix->count;
    events.question = note_input;
    events.unusable = pass_unusable;
    for (size_t i = 0; i < options->input_count; i++) {
        TRY(question_read(options->inputs[i], &events, &counts));
        mix->report->counts.rows += counts.rows;
        mix->report->counts.used += counts.used;
        for (int reason = 0; reason < UNUSABLE_COUNT; reason++)
            mix->report->counts.unusable[reason] += counts.unusable[reason];
    }
    return STATUS_OK;
}

/* ---- deciding
 * ------------------------------------------------------------------------------------------------------------ */

static uint32_t open_count(const struct mix_set *set) {
    return (uint32_t)(set->read - set->duplicates - set->held_elsewhere);
}

/* The key's slot is the set's name, so that another set, or another order of inputs, moves nothing. */
static void decide_set(struct mix *mix, uint8_t index, uint32_t wanted, uint32_t *scratch) {
    struct mix_set *set = &mix->report->sets[index];
    uint32_t count = 0;
    for (uint32_t i = mix->against_count; i < mix->count; i++)
        if (mix->entries[i].set == index && mix->entries[i].fate == FATE_OPEN)
            scratch[count++] = i;
    struct rng_key key = {
        .seed = mix->options->seed, .slot = (uint32_t)hash64(set->name, strlen(set->name)), .stream = RNG_DATA};
    rng_shuffle(&key, scratch, count);
    uint32_t picked = wanted < count ? wanted : count;
    set->held_out = (uint32_t)lround(mix->options->held_out * picked);
    set->train = picked - set->held_out;
    for (uint32_t i = 0; i < count; i++)
        mix->entries[scratch[i]].fate = i >= picked ? FATE_UNUSED : i < set->held_out ? FATE_HELD_OUT : FATE_TRAIN;
    mix->report->train += set->train;
    mix->report->held_out += set->held_out;
}

static enum status decide(struct mix *mix) {
    struct mix_report *report = mix->report;
    uint32_t wanted = mix->options->per_set;
    if (wanted == 0) {
        wanted = UINT32_MAX;
        for (uint32_t i = 0; i < report->set_count; i++)
            if (open_count(&report->sets[i]) > 0 && open_count(&report->sets[i]) < wanted)
                wanted = open_count(&report->sets[i]);
    }
    uint32_t *scratch = malloc((mix->count + 1) * sizeof *scratch);
    if (!scratch)
        return fail(STATUS_NO_MEMORY, "mix: out of memory");
    for (uint32_t i = 0; i < report->set_count; i++)
        decide_set(mix, (uint8_t)i, wanted, scratch);
    free(scratch);
    if (report->train == 0)
        return fail(STATUS_FORMAT, "mix: no question is left to train on, of %llu rows",
                    (unsigned long long)report->counts.rows);
    return STATUS_OK;
}

/* ---- second pass
 * --------------------------------------------------------------------------------------------------------- */

static enum status write_chosen(void *user, const struct question *question) {
    struct mix *mix = user;
    if (mix->at >= mix->count || !digest_equal(mix->entries[mix->at].key, key_of(mix, question->text)))
        return fail(STATUS_MISMATCH, "mix: an input changed while it was read");
    enum fate fate = (enum fate)mix->entries[mix->at++].fate;
    if (fate != FATE_TRAIN && fate != FATE_HELD_OUT)
        return STATUS_OK;
    struct output *output = &mix->outputs[fate == FATE_TRAIN ? OUTPUT_TRAIN : OUTPUT_HELD_OUT];
    struct question copy = *question;
    copy.split = fate == FATE_TRAIN ? "train" : "held-out";
    buf_reset(&mix->line);
    question_put(&copy, &mix->line);
    return output_put(output, &mix->line);
}

static enum status second_pass(struct mix *mix) {
    struct question_events events = {.question = write_chosen, .progress = pass_progress, .user = mix};
    struct question_counts counts;
    mix->at = mix->against_count;
    for (int i = 0; i < 2; i++) {
        char path[PATH_BYTES];
        TRY(fs_join(path, mix->options->directory, output_names[i]));
        TRY(output_open(&mix->outputs[i], path));
    }
    for (size_t i = 0; i < mix->options->input_count; i++)
        TRY(question_read(mix->options->inputs[i], &events, &counts));
    if (mix->at != mix->count)
        return fail(STATUS_MISMATCH, "mix: an input changed while it was read");
    for (int i = 0; i < 2; i++)
        TRY(output_publish(&mix->outputs[i]));
    return STATUS_OK;
}

/* ---- the manifest
 * -------------------------------------------------------------------------------------------------------- */

static enum status put_file(struct buf *out, const char *key, const char *path) {
    struct digest digest;
    uint64_t bytes;
    char hex[DIGEST_HEX_BYTES];
    TRY(hash_file(path, &digest, &bytes));
    digest_format(digest, hex);
    json_put_string(out, key, strlen(key));
    buf_printf(out, ": {\"bytes\": %llu, \"xxh3_128\": \"%s\"", (unsigned long long)bytes, hex);
    return STATUS_OK;
}

static enum status put_files(struct buf *out, const char *const *arguments, size_t count) {
    for (size_t i = 0; i < count; i++) {
        buf_puts(out, i ? ",\n    " : "\n    ");
        TRY(put_file(out, arguments[i], question_path(arguments[i])));
        buf_puts(out, "}");
    }
    return STATUS_OK;
}

static enum status write_manifest(const struct mix *mix, struct buf *out) {
    const struct mix_options *options = mix->options;
    const struct mix_report *report = mix->report;
    char path[PATH_BYTES];
    buf_printf(out, "{\n  \"format\": 1,\n  \"seed\": %llu,\n  \"per_set\": %u,\n  \"held_out\": ",
               (unsigned long long)options->seed, options->per_set);
    json_put_double(out, options->held_out);
    buf_puts(out, ",\n  \"inputs\": {");
    TRY(put_files(out, options->inputs, options->input_count));
    buf_puts(out, "\n  },\n  \"against\": {");
    TRY(put_files(out, options->against, options->against_count));
    buf_printf(out, "\n  },\n  \"rows\": %llu,\n  \"usable\": %llu,\n  \"unusable\": {",
               (unsigned long long)report->counts.rows, (unsigned long long)report->counts.used);
    for (int i = 0; i < UNUSABLE_COUNT; i++)
        buf_printf(out, "%s\"%s\": %llu", i ? ", " : "", unusable_name((enum unusable)i),
                   (unsigned long long)report->counts.unusable[i]);
    buf_puts(out, "},\n  \"sets\": {");
    for (uint32_t i = 0; i < report->set_count; i++) {
        const struct mix_set *set = &report->sets[i];
        buf_puts(out, i ? ",\n    " : "\n    ");
        json_put_string(out, set->name, strlen(set->name));
        buf_printf(
            out, ": {\"read\": %llu, \"duplicates\": %llu, \"held_elsewhere\": %llu, \"train\": %u, \"held_out\": %u}",
            (unsigned long long)set->read, (unsigned long long)set->duplicates, (unsigned long long)set->held_elsewhere,
            set->train, set->held_out);
    }
    buf_puts(out, "\n  },\n  \"outputs\": {");
    for (int i = 0; i < 2; i++) {
        buf_puts(out, i ? ",\n    " : "\n    ");
        TRY(put_file(out, output_names[i], mix->outputs[i].path));
        buf_printf(out, ", \"rows\": %llu}", (unsigned long long)mix->outputs[i].rows);
    }
    buf_puts(out, "\n  }\n}\n");
    TRY(fs_join(path, options->directory, "manifest.json"));
    return buf_ok(out) ? fs_write_atomic(path, out->data, out->bytes)
                       : fail(STATUS_NO_MEMORY, "%s: out of memory", path);
}

/* A manifest never describes other files than those beside it: the old one goes first. */
static enum status remove_manifest(const char *directory) {
    char path[PATH_BYTES];
    TRY(fs_join(path, directory, "manifest.json"));
    return unlink(path) == 0 || errno == ENOENT ? STATUS_OK : fail_errno("%s", path);
}

static enum status write_files(struct mix *mix) {
    const char *directory = mix->options->directory;
    struct buf manifest = {0};
    TRY(fs_make_directories(directory));
    enum status status = remove_manifest(directory);
    if (status == STATUS_OK)
        status = second_pass(mix);
    if (status == STATUS_OK)
        status = write_manifest(mix, &manifest);
    output_drop(&mix->outputs[OUTPUT_TRAIN]);
    output_drop(&mix->outputs[OUTPUT_HELD_OUT]);
    buf_deinit(&manifest);
    if (status != STATUS_OK)
        (void)rmdir(directory); /* only if it is empty */
    return status;
}

enum status mix_write(const struct mix_options *options, struct mix_report *out_report) {
    if (options->input_count == 0 || !(options->held_out >= 0 && options->held_out < 1))
        return fail(STATUS_USAGE, "mix: at least one input, and a held-out share from 0 to below 1");
    struct mix_report *report = calloc(1, sizeof *report);
    struct mix *mix = calloc(1, sizeof *mix);
    enum status status = report && mix ? STATUS_OK : fail(STATUS_NO_MEMORY, "mix: out of memory");
    TRY_GOTO(status, out);
    mix->options = options;
    mix->report = report;
    TRY_GOTO(first_pass(mix), out);
    TRY_GOTO(decide(mix), out);
    TRY_GOTO(write_files(mix), out);
    *out_report = *report;
out:
    if (mix) {
        buf_deinit(&mix->line);
        free(mix->entries);
        free(mix->slots);
        free(mix);
    }
    free(report);
    return status;
}
