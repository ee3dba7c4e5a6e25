#include "tests/support/test.h"

#include "common/base/fs.h"
#include "common/weights/files.h"
#include "common/weights/store.h"
#include "proto/limits.h"

static char root[] = "/tmp/candor-files-test-XXXXXX";
static char model[PATH_BYTES], cache[PATH_BYTES];
static char big[CHUNK_BYTES_MAX + 12345];

struct line {
    struct store *store;
    struct files *files;
    struct message_fetch fetches[64];
    uint32_t count, served;
    enum status status;
};

static bool take_fetch(void *context, const struct message_fetch *fetch) {
    struct line *line = context;
    line->fetches[line->count++] = *fetch;
    return true;
}

static bool take_reply(void *context, const struct message *message) {
    struct line *line = context;
    line->status = message->type == MESSAGE_CHUNK ? files_chunk(line->files, &message->chunk, 0)
                                                  : files_gone(line->files, &message->gone);
    return true;
}

static void run_line(struct line *line) {
    while (line->served < line->count && line->status == STATUS_OK)
        store_fetch(line->store, &line->fetches[line->served++], take_reply, line);
}

static void write_file(const char *directory, const char *name, const void *data, size_t bytes) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, name));
    ASSERT_OK(fs_write_atomic(path, data, bytes));
}

static void assert_same(const char *directory, const char *name, const void *data, size_t bytes) {
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, directory, name));
    struct buf text = {0};
    ASSERT_OK(fs_read(path, 4u << 20, &text));
    assert_int_equal(text.bytes, bytes);
    assert_memory_equal(text.data, data, bytes);
    buf_deinit(&text);
}

static void open_line(struct line *line) {
    memset(line, 0, sizeof *line);
    ASSERT_OK(store_create(&line->store));
    ASSERT_OK(store_open_files(line->store, model));
    uint32_t count;
    const struct model_file *list = store_files(line->store, &count);
    assert_int_equal(count, 3);
    ASSERT_OK(files_create(cache, list, count, 0, take_fetch, line, &line->files));
    assert_true(files_same(line->files, list, count));
    assert_false(files_same(line->files, list, count - 1));
}

static void close_line(struct line *line) {
    store_destroy(&line->store);
    files_destroy(&line->files);
}

static void only_model_files_are_offered(void **state) {
    (void)state;
    assert_true(store_file_allowed("tokenizer.json"));
    assert_false(store_file_allowed("model.safetensors"));
    assert_false(store_file_allowed("../config.json"));
    assert_false(store_file_allowed("secret.key"));
}

static void files_are_fetched_once_and_lie_in_one_directory(void **state) {
    (void)state;
    struct line line;
    open_line(&line);
    assert_false(files_done(line.files));
    run_line(&line);
    ASSERT_OK(line.status);
    assert_true(files_done(line.files));
    assert_same(files_directory(line.files), "config.json", "{\"a\": 1}", 8);
    assert_same(files_directory(line.files), "tokenizer.json", big, sizeof big);
    assert_same(files_directory(line.files), "merges.txt", "", 0);
    close_line(&line);
    open_line(&line);
    assert_true(files_done(line.files));
    assert_int_equal(line.count, 0);
    write_file(files_directory(line.files), "config.json", "{\"a\": 2}", 8); /* a damaged cache */
    close_line(&line);
    open_line(&line);
    assert_false(files_done(line.files));
    run_line(&line);
    assert_true(files_done(line.files));
    assert_same(files_directory(line.files), "config.json", "{\"a\": 1}", 8);
    close_line(&line);
    ASSERT_OK(fs_remove_tree(cache));
}

static void a_file_changed_on_the_learner_is_noticed(void **state) {
    (void)state;
    struct line line;
    open_line(&line);
    char path[PATH_BYTES];
    ASSERT_OK(fs_join(path, model, "config.json"));
    FILE *file = fopen(path, "r+"); /* in place: the store holds it open */
    assert_non_null(file);
    assert_int_equal(fwrite("{\"b", 1, 3, file), 3);
    fclose(file);
    run_line(&line);
    ASSERT_FAILS(STATUS_AGAIN, line.status);
    assert_non_null(strstr(status_message(), "config.json"));
    close_line(&line);
    write_file(model, "config.json", "{\"a\": 1}", 8);
}

static void a_file_no_longer_offered_is_final(void **state) {
    (void)state;
    struct line line;
    open_line(&line);
    line.fetches[0].object.low++;
    struct message_gone gone = {FETCH_FILE, line.fetches[0].object, {"why", 3}};
    ASSERT_OK(files_gone(line.files, &gone)); /* another file */
    gone.object.low--;
    assert_int_equal(files_gone(line.files, &gone), STATUS_AGAIN);
    close_line(&line);
}

static void hostile_lists_are_refused(void **state) {
    (void)state;
    struct files *files;
    struct model_file list[2] = {{{"config.json", 11}, 5, {1, 2}}, {{"config.json", 11}, 5, {1, 2}}};
    struct line line = {0};
    ASSERT_FAILS(STATUS_FORMAT, files_create(cache, list, 2, 0, take_fetch, &line, &files));
    list[1].name = (struct text){"../../etc/passwd", 16};
    ASSERT_FAILS(STATUS_FORMAT, files_create(cache, list, 2, 0, take_fetch, &line, &files));
    list[0].bytes = 1ull << 40;
    ASSERT_FAILS(STATUS_FORMAT, files_create(cache, list, 1, 0, take_fetch, &line, &files));
    assert_int_equal(line.count, 0);
}

int main(void) {
    if (!mkdtemp(root))
        return 1;
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(cache, sizeof cache, "%s/cache", root);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 2654435761u >> 13);
    if (fs_make_directories(model) != STATUS_OK)
        return 1;
    write_file(model, "config.json", "{\"a\": 1}", 8);
    write_file(model, "tokenizer.json", big, sizeof big);
    write_file(model, "merges.txt", "", 0);
    write_file(model, "model.safetensors", big, 100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_model_files_are_offered),
        cmocka_unit_test(files_are_fetched_once_and_lie_in_one_directory),
        cmocka_unit_test(a_file_changed_on_the_learner_is_noticed),
        cmocka_unit_test(a_file_no_longer_offered_is_final),
        cmocka_unit_test(hostile_lists_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fs_remove_tree(root);
    return failed;
}
