/* Hashes and their text. */
#include "tests/support/test.h"

#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/hash.h"

static void hashes_are_those_of_xxh3(void **state) {
    (void)state;
    struct digest empty = hash128("", 0);
    assert_true(hash64("", 0) == 0x2d06800538d394c2u); /* xxHash 0.8, doc/xxhash_spec: XXH3 of nothing, seed 0 */
    assert_true(empty.low == 0x6001c324468d497fu && empty.high == 0x99aa06d3014798d8u);
}

static void a_digest_reads_back_from_its_text(void **state) {
    (void)state;
    char hex[DIGEST_HEX_BYTES];
    struct digest digest = {.high = 0x0123456789abcdef, .low = 0xfedcba9876543210}, back = {0};
    digest_format(digest, hex);
    assert_string_equal(hex, "0123456789abcdeffedcba9876543210");
    assert_true(digest_parse(hex, &back));
    assert_true(digest_equal(digest, back));
    assert_false(digest_is_zero(back));
    assert_true(digest_is_zero((struct digest){0}));
}

static void other_texts_are_no_digest(void **state) {
    (void)state;
    struct digest digest = {.high = 1};
    const char *texts[] = {"", "0123", "0123456789abcdeffedcba98765432100", "0123456789abcdeffedcba987654321g",
                           "0123456789ABCDEFfedcba9876543210", " 123456789abcdeffedcba9876543210"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(digest_parse(texts[i], &digest));
    assert_true(digest.high == 1);
}

static void a_file_hashes_like_its_bytes(void **state) {
    (void)state;
    char path[] = "/tmp/candor-hash-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    size_t bytes = 3 * 1000 * 1000 + 17; /* several blocks and a part of one */
    char *data = malloc(bytes);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (char)(i * 31 + i / 251);
    ASSERT_OK(fs_write_atomic(path, data, bytes));
    struct digest digest = {0};
    uint64_t size = 0;
    ASSERT_OK(hash_file(path, &digest, &size));
    assert_int_equal(size, bytes);
    assert_true(digest_equal(digest, hash128(data, bytes)));
    unlink(path);
    ASSERT_FAILS(STATUS_NOT_FOUND, hash_file(path, &digest, NULL));
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_those_of_xxh3),
        cmocka_unit_test(a_digest_reads_back_from_its_text),
        cmocka_unit_test(other_texts_are_no_digest),
        cmocka_unit_test(a_file_hashes_like_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
