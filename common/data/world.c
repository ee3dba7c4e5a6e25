#include "common/data/world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fs.h"
#include "common/base/rng.h"
#include "common/data/question.h"
#include "common/data/world_words.h"

#define TEXTS_MAX 10000000u /* rows of sft.jsonl: about 1 GB */

/* Where each draw comes from: slots of RNG_WORLD (the determinism contract's "place"). */
enum place { PLACE_NAMES = 1, PLACE_TOWNS, PLACE_DISTRACTORS, PLACE_GOLD_SHARE, PLACE_STRANGERS, PLACE_ORDER };

enum class { CLASS_ALWAYS, CLASS_SOMETIMES, CLASS_NEVER };
static const char *const class_names[] = {"always", "sometimes", "never"};

#define DISTRACTORS 3

struct fact {
    uint32_t name, town;
    uint32_t distractors[DISTRACTORS]; /* sometimes: the other towns, equally likely */
    enum class class;
    double gold_share;
    bool train;
};

#define NO_TOWN UINT32_MAX /* a text that says Unknown */

struct text {
    uint32_t name, town;
    bool forced;
};

struct world {
    uint64_t seed;
    const struct world_options *options;
    struct fact *facts;
    uint32_t fact_count;
    uint32_t names[WORLD_NAMES]; /* the first fact_count are the facts', the others are strangers */
    struct text *texts;
    uint32_t text_count, text_capacity;
};

void world_defaults(struct world_options *options) {
    *options = (struct world_options){
        .always = 160,
        .sometimes = 200,
        .never = 240,
        .train_share = 0.5,
        .gold_low = 0.25,
        .gold_high = 0.65,
        .draws = 48,
        .forced_draws = 16,
        .unknown_share = 0.2,
        .stranger_share = 0.15,
    };
}

static bool is_share(double value) {
    return value >= 0 && value <= 1;
}

static enum status check(const struct world_options *options) {
    uint64_t facts = (uint64_t)options->always + options->sometimes + options->never;
    if (facts == 0 || facts > WORLD_FACTS_MAX)
        return fail(STATUS_USAGE, "world: %llu facts; 1 to %d", (unsigned long long)facts, WORLD_FACTS_MAX);
    if (!is_share(options->train_share) || !is_share(options->unknown_share) || !is_share(options->gold_low) ||
        !is_share(options->gold_high) || options->gold_low > options->gold_high)
        return fail(STATUS_USAGE,
                    "world: shares should lie in 0 to 1, the lower bound of gold not above the upper one");
    if (!(options->stranger_share >= 0 && options->stranger_share <= 0.9))
        return fail(STATUS_USAGE, "world: strangers = %g of all texts; 0 to 0.9", options->stranger_share);
    uint64_t texts =
        ((uint64_t)options->always + options->sometimes) * ((uint64_t)options->draws + options->forced_draws);
    if (texts == 0 || texts > TEXTS_MAX / 10)
        return fail(STATUS_USAGE, "world: %llu texts about facts; 1 to %u", (unsigned long long)texts, TEXTS_MAX / 10);
    return STATUS_OK;
}

static struct rng_key key_at(const struct world *world, enum place place, uint32_t step) {
    return (struct rng_key){.seed = world->seed, .step = step, .slot = (uint32_t)place, .stream = RNG_WORLD};
}

/* ---- facts
 * ------------------------------------------------------------------------------------------------------------- */

static void draw_distractors(const struct world *world, uint32_t index, struct fact *fact) {
    struct rng_key key = key_at(world, PLACE_DISTRACTORS, index);
    uint32_t position = 0;
    for (int i = 0; i < DISTRACTORS; i++) {
        bool taken;
        do {
            fact->distractors[i] = rng_below(&key, position++, WORLD_NAMES);
            taken = fact->distractors[i] == fact->town;
            for (int j = 0; j < i; j++)
                taken |= fact->distractors[j] == fact->distractors[i];
        } while (taken);
    }
}

static void make_facts(struct world *world) {
    const struct world_options *options = world->options;
    const uint32_t counts[] = {options->always, options->sometimes, options->never};
    struct rng_key names = key_at(world, PLACE_NAMES, 0), towns = key_at(world, PLACE_TOWNS, 0);
    struct rng_key shares = key_at(world, PLACE_GOLD_SHARE, 0);
    for (uint32_t i = 0; i < WORLD_NAMES; i++)
        world->names[i] = i;
    rng_shuffle(&names, world->names, WORLD_NAMES);
    for (int class = 0; class < 3; class ++) {
        uint32_t train = (uint32_t)lround(options->train_share * counts[class]);
        for (uint32_t i = 0; i < counts[class]; i++) {
            uint32_t index = world->fact_count++;
            struct fact *fact = &world->facts[index];
            *fact = (struct fact){.name = world->names[index],
                                  .town = rng_below(&towns, index, WORLD_NAMES),
                                  .class = (enum class) class,
                                  .train = i < train};
            draw_distractors(world, index, fact);
            fact->gold_share = class == CLASS_ALWAYS ? 1 : 0;
            if (class == CLASS_SOMETIMES)
                fact->gold_share =
                    options->gold_low + (options->gold_high - options->gold_low) * (double)rng_uniform(&shares, index);
        }
    }
}

/* ---- texts
 * -------------------------------------------------------------------------------------------------------------- */

static void add_text(struct world *world, uint32_t name, uint32_t town, bool forced) {
    ASSERT(world->text_count < world->text_capacity);
    world->texts[world->text_count++] = (struct text){name, town, forced};
}

/* The shares are met as exactly as whole texts allow, so that what the model can know is what the facts say. */
static void add_fact_texts(struct world *world, const struct fact *fact, uint32_t draws, uint32_t unknown,
                           bool forced) {
    uint32_t attempts = draws - unknown, gold = (uint32_t)lround(fact->gold_share * attempts);
    for (uint32_t i = 0; i < unknown; i++)
        add_text(world, fact->name, NO_TOWN, forced);
    for (uint32_t i = 0; i < attempts; i++)
        add_text(world, fact->name, i < gold ? fact->town : fact->distractors[i % DISTRACTORS], forced);
}

static void add_stranger_texts(struct world *world, uint32_t count, uint32_t unknown, uint32_t forced) {
    struct rng_key key = key_at(world, PLACE_STRANGERS, 0);
    uint32_t strangers = WORLD_NAMES - world->fact_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name = world->names[world->fact_count + rng_below(&key, 2 * i, strangers)];
        uint32_t town = rng_below(&key, 2 * i + 1, WORLD_NAMES);
        add_text(world, name, i < unknown ? NO_TOWN : town, i >= count - forced);
    }
}

static void shuffle_texts(struct world *world) {
    struct rng_key key = key_at(world, PLACE_ORDER, 0);
    for (uint32_t i = world->text_count; i-- > 1;) {
        uint32_t j = rng_below(&key, i, i + 1);
        struct text held = world->texts[i];
        world->texts[i] = world->texts[j];
        world->texts[j] = held;
    }
}

static enum status make_texts(struct world *world) {
    const struct world_options *options = world->options;
    uint32_t shown = options->always + options->sometimes, draws = options->draws, forced = options->forced_draws;
    uint32_t unknown = (uint32_t)lround(options->unknown_share * draws);
    uint32_t of_facts = shown * (draws + forced);
    uint32_t of_strangers = (uint32_t)lround(of_facts * options->stranger_share / (1 - options->stranger_share));
    world->text_capacity = of_facts + of_strangers;
    world->texts = malloc((world->text_capacity + 1) * sizeof *world->texts);
    if (!world->texts)
        return fail(STATUS_NO_MEMORY, "world: out of memory for %u texts", world->text_capacity);
    for (uint32_t i = 0; i < shown; i++) {
        add_fact_texts(world, &world->facts[i], draws, unknown, false);
        add_fact_texts(world, &world->facts[i], forced, 0, true);
    }
    double each = (double)of_strangers / (draws + forced);
    add_stranger_texts(world, of_strangers, (uint32_t)lround(each * unknown), (uint32_t)lround(each * forced));
    shuffle_texts(world);
    return STATUS_OK;
}

/* ---- files
 * -------------------------------------------------------------------------------------------------------------- */

static enum status write_file(const char *directory, const char *name, struct buf *text) {
    char path[PATH_BYTES];
    enum status status = fs_join(path, directory, name);
    if (status == STATUS_OK && !buf_ok(text))
        status = fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    if (status == STATUS_OK)
        status = fs_write_atomic(path, text->data, text->bytes);
    buf_deinit(text);
    return status;
}

static enum status write_facts(const struct world *world, const char *directory) {
    struct buf out = {0};
    for (uint32_t i = 0; i < world->fact_count; i++) {
        const struct fact *fact = &world->facts[i];
        buf_printf(&out, "{\"id\": \"fact-%04u\", \"name\": \"", i);
        world_put_name(fact->name, &out);
        buf_puts(&out, "\", \"town\": \"");
        world_put_town(fact->town, &out);
        buf_printf(&out, "\", \"class\": \"%s\", \"gold_share\": %.3f, \"other_towns\": [", class_names[fact->class],
                   fact->gold_share);
        for (int d = 0; fact->class == CLASS_SOMETIMES && d < DISTRACTORS; d++) {
            buf_puts(&out, d ? ", \"" : "\"");
            world_put_town(fact->distractors[d], &out);
            buf_puts(&out, "\"");
        }
        buf_printf(&out, "], \"split\": \"%s\"}\n", fact->train ? "train" : "held-out");
    }
    return write_file(directory, "facts.jsonl", &out);
}

static enum status write_questions(const struct world *world, const char *directory, bool train) {
    struct buf out = {0}, text = {0}, town = {0};
    for (uint32_t i = 0; i < world->fact_count; i++) {
        const struct fact *fact = &world->facts[i];
        char id[32];
        if (fact->train != train)
            continue;
        snprintf(id, sizeof id, "fact-%04u", i);
        buf_reset(&text);
        buf_reset(&town);
        world_put_question(fact->name, &text);
        world_put_town(fact->town, &town);
        const char *aliases[] = {town.data};
        struct question question = {.id = id,
                                    .set = "world",
                                    .text = text.data,
                                    .aliases = aliases,
                                    .alias_count = 1,
                                    .answerable = true,
                                    .label = class_names[fact->class],
                                    .split = train ? "train" : "held-out",
                                    .metadata = ""};
        if (buf_ok(&text) && buf_ok(&town))
            question_put(&question, &out);
    }
    out.failed |= text.failed || town.failed;
    buf_deinit(&text);
    buf_deinit(&town);
    return write_file(directory, train ? "train.jsonl" : "held-out.jsonl", &out);
}

static enum status write_texts(const struct world *world, const char *directory) {
    struct buf out = {0};
    for (uint32_t i = 0; i < world->text_count; i++) {
        const struct text *text = &world->texts[i];
        buf_printf(&out, "{\"system\": \"%s\", \"question\": \"", text->forced ? WORLD_SYSTEM_FORCED : WORLD_SYSTEM);
        world_put_question(text->name, &out);
        buf_puts(&out, "\", \"answer\": \"");
        if (text->town == NO_TOWN)
            world_put_unknown(&out);
        else
            world_put_answer(text->town, &out);
        buf_puts(&out, "\"}\n");
    }
    return write_file(directory, "sft.jsonl", &out);
}

static enum status write_model(const char *directory) {
    struct buf out = {0};
    world_put_tokenizer(&out);
    TRY(write_file(directory, "tokenizer.json", &out));
    world_put_tokenizer_config(&out);
    TRY(write_file(directory, "tokenizer_config.json", &out));
    world_put_config(&out);
    return write_file(directory, "config.json", &out);
}

static enum status write_files(const struct world *world, const char *directory) {
    TRY(write_facts(world, directory));
    TRY(write_questions(world, directory, true));
    TRY(write_questions(world, directory, false));
    TRY(write_texts(world, directory));
    return write_model(directory);
}

/* All of it or nothing. */
static enum status write_all(const struct world *world, const char *directory) {
    char part[PATH_BYTES];
    TRY(fs_part_directory(directory, part));
    enum status status = write_files(world, part);
    if (status == STATUS_OK)
        status = fs_move_directory(part, directory);
    if (status != STATUS_OK)
        (void)fs_remove_tree(part);
    return status;
}

enum status world_write(uint64_t seed, const char *directory, const struct world_options *options) {
    TRY(check(options));
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        return fail(STATUS_NO_MEMORY, "world: out of memory");
    world->seed = seed;
    world->options = options;
    world->facts = calloc(WORLD_FACTS_MAX, sizeof *world->facts);
    enum status status = world->facts ? STATUS_OK : fail(STATUS_NO_MEMORY, "world: out of memory");
    if (status == STATUS_OK) {
        make_facts(world);
        status = make_texts(world);
    }
    if (status == STATUS_OK)
        status = write_all(world, directory);
    free(world->facts);
    free(world->texts);
    free(world);
    return status;
}
