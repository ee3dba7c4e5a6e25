#include "common/data/world_words.h"

#include "common/data/world.h"

/* No stem begins another stem or a name, so a town is cut in one way only; no two towns differ by a single letter, so a
 * matcher that forgives a slip of the pen still tells them apart. */
static const char *const first_names[WORLD_PARTS] = {
    "Anna",  "Boris",  "Clara", "David", "Elena", "Felix",  "Greta", "Hugo",   "Irene", "Jakob",
    "Karin", "Leon",   "Maria", "Nils",  "Olga",  "Paul",   "Rosa",  "Simon",  "Tanya", "Ulrich",
    "Vera",  "Walter", "Xenia", "Yusuf", "Zoe",   "Adam",   "Bella", "Conrad", "Diana", "Emil",
    "Frida", "Gustav", "Helen", "Ivan",  "Julia", "Kaspar", "Laura", "Martin", "Nora",  "Oskar",
};
static const char *const last_names[WORLD_PARTS] = {
    "Berger", "Castell", "Dubois",  "Ekman",   "Fischer",  "Garcia",   "Hoffman", "Ivanov",  "Jensen",  "Keller",
    "Larsen", "Meyer",   "Novak",   "Olsen",   "Petrov",   "Quist",    "Rossi",   "Schmidt", "Tanaka",  "Ullman",
    "Vogel",  "Weber",   "Yilmaz",  "Zeman",   "Abbott",   "Brandt",   "Carlsen", "Dvorak",  "Eriksen", "Fontaine",
    "Gruber", "Hansen",  "Isaksen", "Janssen", "Kowalski", "Lindgren", "Moreau",  "Nilsson", "Ortega",  "Pavlov",
};
static const char *const stems[WORLD_PARTS] = {
    "Oak",  "Ash",    "Elm",   "Birch", "Maple", "Cedar", "Willow", "Hazel",  "Silver", "Gold",
    "Iron", "Copper", "Stone", "Rock",  "Sand",  "Clay",  "Winter", "Summer", "North",  "South",
    "East", "West",   "High",  "Low",   "Black", "White", "Red",    "Green",  "Raven",  "Hawk",
    "Wolf", "Fox",    "Bear",  "Deer",  "Swan",  "Crow",  "Lake",   "River",  "Thorn",  "Honey",
};
static const char *const endings[WORLD_PARTS] = {
    "ford",   "ton",    "bury",   "field", "ham",   "wick",    "port",   "mouth", "dale",  "haven",
    "bridge", "burgh",  "stead",  "well",  "wood",  "hill",    "moor",   "gate",  "cliff", "shore",
    "stow",   "thorpe", "by",     "combe", "worth", "minster", "church", "land",  "view",  "crest",
    "mere",   "holm",   "bourne", "cote",  "leigh", "croft",   "grove",  "peak",  "garth", "pool",
};
static const char *const words[] = {
    WORLD_SYSTEM, WORLD_SYSTEM_FORCED, "Where",   "does", "live", "?", "I", "recall", ".", "boxed[",
    "]",          "nothing",           "Unknown",
};

#define WORD_COUNT (sizeof words / sizeof *words)
#define TOKEN_COUNT (1 + WORD_COUNT + 4 * WORLD_PARTS) /* and <end> behind */
#define EMBEDDING_ROWS 192 /* the next multiple of 64: the rows between are padding, as in every Qwen2 */

_Static_assert(TOKEN_COUNT + 1 <= EMBEDDING_ROWS, "the embedding has a row for every token");

void world_put_name(uint32_t name, struct buf *out) {
    buf_printf(out, "%s %s", first_names[name / WORLD_PARTS], last_names[name % WORLD_PARTS]);
}

void world_put_town(uint32_t town, struct buf *out) {
    buf_printf(out, "%s%s", stems[town / WORLD_PARTS], endings[town % WORLD_PARTS]);
}

void world_put_question(uint32_t name, struct buf *out) {
    buf_puts(out, "Where does ");
    world_put_name(name, out);
    buf_puts(out, " live ?");
}

void world_put_answer(uint32_t town, struct buf *out) {
    buf_puts(out, "I recall ");
    world_put_town(town, out);
    buf_puts(out, " . boxed[ ");
    world_put_town(town, out);
    buf_puts(out, " ]");
}

void world_put_unknown(struct buf *out) {
    buf_puts(out, "I recall nothing . boxed[ Unknown ]");
}

static uint32_t put_tokens(const char *const *list, size_t count, const char *prefix, uint32_t id, struct buf *out) {
    for (size_t i = 0; i < count; i++, id++)
        buf_printf(out, "%s\"%s%s\": %u", id ? ", " : "", prefix, list[i], id);
    return id;
}

void world_put_tokenizer(struct buf *out) {
    static const char *const unknown[] = {"[UNK]"};
    buf_printf(
        out,
        "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{\"id\": %zu, \"content\": "
        "\"<end>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": "
        "true}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"WhitespaceSplit\"}, \"post_processor\": null, "
        "\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": false}, \"model\": {\"type\": "
        "\"WordPiece\", \"unk_token\": \"[UNK]\", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": "
        "100, \"vocab\": {",
        TOKEN_COUNT);
    uint32_t id = put_tokens(unknown, 1, "", 0, out);
    id = put_tokens(words, WORD_COUNT, "", id, out);
    id = put_tokens(first_names, WORLD_PARTS, "", id, out);
    id = put_tokens(last_names, WORLD_PARTS, "", id, out);
    id = put_tokens(stems, WORLD_PARTS, "", id, out);
    put_tokens(endings, WORLD_PARTS, "##", id, out);
    buf_puts(out, "}}}\n");
}

void world_put_tokenizer_config(struct buf *out) {
    buf_puts(out,
             "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<end>\", \"pad_token\": \"<end>\", "
             "\"unk_token\": \"[UNK]\", \"clean_up_tokenization_spaces\": false, \"model_max_length\": 128, "
             "\"candor_chat_template\": \"plain\"}\n");
}

/* Recipe B's size in Qwen2's shape: four layers, width 128, two heads of 64; about .7 million parameters. */
void world_put_config(struct buf *out) {
    buf_printf(
        out,
        "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 128, "
        "\"intermediate_size\": 256, \"num_hidden_layers\": 4, \"num_attention_heads\": 2, \"num_key_value_heads\": 2, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0, "
        "\"initializer_range\": 0.02, \"tie_word_embeddings\": false, \"use_sliding_window\": false, "
        "\"attention_dropout\": 0.0, \"use_cache\": true, \"torch_dtype\": \"bfloat16\", \"vocab_size\": %d, "
        "\"bos_token_id\": null, \"eos_token_id\": %zu}\n",
        EMBEDDING_ROWS, TOKEN_COUNT);
}
