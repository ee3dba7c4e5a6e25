/* safetensors: hostile files are refused with one clear message, good ones read back what was written. */
#include "tests/support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/model/safetensors.h"

/* A file of this header and so many bytes of data. length_off: added to the true header length. */
static enum status parse(const char *header, size_t data_bytes, int64_t length_off, struct safetensors **out_file,
                         uint8_t **out_bytes) {
    size_t header_bytes = strlen(header), total = 8 + header_bytes + data_bytes;
    uint64_t length = (uint64_t)((int64_t)header_bytes + length_off);
    uint8_t *bytes = calloc(1, total);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(length >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + header_bytes + i] = (uint8_t)i;
    enum status status = safetensors_parse(bytes, total, "x.safetensors", out_file);
    if (status == STATUS_OK && out_bytes)
        *out_bytes = bytes;
    else
        free(bytes);
    return status;
}

static void refuse(const char *header, size_t data_bytes, int64_t length_off, const char *message) {
    struct safetensors *file = NULL;
    ASSERT_FAILS(STATUS_FORMAT, parse(header, data_bytes, length_off, &file, NULL));
    if (strncmp(status_message(), "x.safetensors: ", 15) != 0 || !strstr(status_message(), message) ||
        strchr(status_message(), '\n'))
        fail_msg("\"%s\" is not in \"%s\"", message, status_message());
    assert_null(file);
}

static void hostile_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        int64_t length_off;
        const char *message;
    } cases[] = {
        /* the frame */
        {"{}", 0, 1, "header of 3 bytes in a file of 10"},
        {"{}", 0, INT64_MAX - 2, "header of 9223372036854775807 bytes"},
        {"{}", 0, -3, "header of 18446744073709551615 bytes"},
        {"{}", 0, -1, "header of 1 bytes"},
        {"{}", 1, 0, "tensors end at byte 0 of 1"},
        {" {}", 0, 0, "begins with byte 0x20"},
        {"[]", 0, 0, "begins with byte 0x5b"},
        {"{\"a\":", 0, 0, "not valid JSON"},
        {"{\"a\xff\":1}", 0, 0, "not valid JSON"},
        {"{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{\"j\":{\"k\":{\"l\":{\"m\":{\"n\":{\"o\":{"
         "\"p\":{}"
         "}}}}}}}}}}}}}}}}",
         0, 0, "nested deeper"},
        /* names and members */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1, 0, "duplicate"},
        {"{\"a\":1}", 0, 0, "dtype, shape and data_offsets are wanted"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, 0, "dtype, shape and data_offsets are wanted"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, 0, "and nothing else"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"x\":[0,1]}}", 1, 0, "data_offsets: two whole numbers"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, "a string is wanted"},
        {"{\"__metadata__\":[]}", 0, 0, "an object is wanted"},
        /* dtype and shape */
        {"{\"a\":{\"dtype\":\"Q8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 0, "dtype is \"Q8\""},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 0, "dtype is \"absent\""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, 0, "a list of at most 8 sizes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, 0, "at most 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, 0, "shape[0]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, 0, "shape[0]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, 0, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,1]}}", 1, 0, "overflows"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,1]}}", 1, 0, "not valid JSON"},
        /* places */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, 0,
         "span 1 bytes; shape and dtype make 2"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, 0,
         "span 2 bytes; shape and dtype make 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, 0, "begin <= end <= 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, 0, "0 <= begin"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, 0, "0 <= begin <= end"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1, 0, "two whole numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1e0]}}", 1, 0, "two whole numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, 0, "without a hole it would begin at 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, 0, "tensors end at byte 1 of 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, 0, "b begins at 1; without overlap it would begin at 2"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
         2, 0, "without overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, 0, "b begins at 2; without a hole"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
         2, 0, "b begins at 1; without overlap"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].header, cases[i].data_bytes, cases[i].length_off, cases[i].message);
    struct safetensors *file = NULL;
    for (size_t bytes = 0; bytes < 10; bytes++)
        ASSERT_FAILS(STATUS_FORMAT, safetensors_parse("\2\0\0\0\0\0\0\0{}", bytes, "x.safetensors", &file));
    ASSERT_OK(safetensors_parse("\2\0\0\0\0\0\0\0{}", 10, "x.safetensors", &file));
    safetensors_close(&file);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}";
    uint8_t *bytes = NULL;
    struct safetensors *file = NULL;
    ASSERT_OK(parse(header, 3, 0, &file, &bytes));
    safetensors_close(&file);
    for (size_t length = 0; length < 8 + sizeof header - 1 + 3; length++) {
        uint8_t *cut = malloc(length + 1);
        memcpy(cut, bytes, length);
        ASSERT_FAILS(STATUS_FORMAT, safetensors_parse(cut, length, "x", &file));
        free(cut);
    }
    free(bytes);
}

static void order_empty_tensors_and_scalars_are_legal(void **state) {
    (void)state;
    uint8_t *bytes = NULL;
    struct safetensors *file = NULL;
    ASSERT_OK(parse("{\"__metadata__\":{\"format\":\"pt\"},"
                    "\"late\":{\"dtype\":\"U8\",\"shape\":[2,1],\"data_offsets\":[4,6]},"
                    "\"empty\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                    "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ",
                    6, 0, &file, &bytes));
    assert_int_equal(file->count, 3);
    assert_string_equal(file->tensors[0].name, "scalar");
    assert_string_equal(file->tensors[1].name, "empty");
    assert_string_equal(file->tensors[2].name, "late");
    const struct st_tensor *late = safetensors_find(file, "late");
    assert_int_equal(late->rank, 2);
    assert_int_equal(late->bytes, 2);
    assert_int_equal(((const uint8_t *)late->data)[0], 4);
    assert_int_equal(safetensors_find(file, "scalar")->dtype, ST_F32);
    assert_int_equal(safetensors_find(file, "empty")->dtype, ST_OTHER);
    assert_null(safetensors_find(file, "absent"));
    safetensors_close(&file);
    assert_null(file);
    free(bytes);
}

/* ---- writer ---- */

static void make_directory(char *path) {
    strcpy(path, "/tmp/candor-safetensors-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    char directory[PATH_BYTES], path[PATH_BYTES];
    make_directory(directory);
    ASSERT_OK(fs_join(path, directory, "model.safetensors"));
    struct st_writer *writer = NULL;
    struct digest digest, again;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const uint16_t halves[3] = {7, 8, 9};
    ASSERT_OK(st_writer_create(path, &writer));
    ASSERT_OK(st_writer_declare(writer, "a\"\\name", ST_F32, 2, (const int64_t[]){2, 3}));
    ASSERT_OK(st_writer_declare(writer, "b", ST_U16, 1, (const int64_t[]){3}));
    ASSERT_OK(st_writer_append(writer, values, 5)); /* pieces of any size */
    ASSERT_OK(st_writer_append(writer, (const char *)values + 5, sizeof values - 5));
    ASSERT_OK(st_writer_append(writer, halves, sizeof halves));
    ASSERT_OK(st_writer_finish(&writer, &digest));
    assert_null(writer);
    ASSERT_OK(hash_file(path, &again, NULL));
    assert_true(digest_equal(digest, again));

    struct safetensors *file = NULL;
    ASSERT_OK(safetensors_open(path, &file));
    assert_int_equal(file->count, 2);
    assert_int_equal((uintptr_t)file->tensors[0].data % 8, 0);
    assert_memory_equal(safetensors_find(file, "a\"\\name")->data, values, sizeof values);
    assert_memory_equal(safetensors_find(file, "b")->data, halves, sizeof halves);
    assert_int_equal(file->tensors[0].shape[1], 3);
    safetensors_close(&file);
    ASSERT_OK(fs_remove_tree(directory));
}

static void an_aborted_writer_leaves_no_file(void **state) {
    (void)state;
    char directory[PATH_BYTES], path[PATH_BYTES];
    make_directory(directory);
    ASSERT_OK(fs_join(path, directory, "model.safetensors"));
    struct st_writer *writer = NULL;
    ASSERT_OK(st_writer_create(path, &writer));
    ASSERT_OK(st_writer_declare(writer, "a", ST_U8, 1, (const int64_t[]){2}));
    ASSERT_OK(st_writer_append(writer, "x", 1));
    st_writer_abort(&writer);
    assert_false(fs_exists(path));
    st_writer_abort(&writer); /* nothing there: nothing to do */
    ASSERT_OK(fs_join(path, directory, "absent/model.safetensors"));
    ASSERT_FAILS(STATUS_IO, st_writer_create(path, &writer));
    assert_null(writer);
    ASSERT_OK(fs_remove_tree(directory));
}

static void a_full_disk_is_an_error_that_names_the_file(void **state) {
    (void)state;
    struct st_writer *writer = NULL;
    static const char zeros[1 << 16];
    if (access("/dev/full", W_OK) != 0)
        SKIP("no /dev/full here");
    char directory[PATH_BYTES], path[PATH_BYTES];
    make_directory(directory);
    ASSERT_OK(fs_join(path, directory, "full"));
    assert_int_equal(symlink("/dev/full", path), 0); /* removed by the writer, as a file would be */
    ASSERT_OK(st_writer_create(path, &writer));
    ASSERT_OK(st_writer_declare(writer, "a", ST_U8, 1, (const int64_t[]){sizeof zeros}));
    ASSERT_FAILS(STATUS_IO, st_writer_append(writer, zeros, sizeof zeros));
    assert_non_null(strstr(status_message(), "full: cannot write: No space left"));
    st_writer_abort(&writer);
    struct stat info;
    assert_int_not_equal(lstat(path, &info), 0);
    ASSERT_OK(fs_remove_tree(directory));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(order_empty_tensors_and_scalars_are_legal),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(an_aborted_writer_leaves_no_file),
        cmocka_unit_test(a_full_disk_is_an_error_that_names_the_file),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
