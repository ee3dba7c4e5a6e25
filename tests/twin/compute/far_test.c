/* Rows behind the 2^31st element, as caches, vocabularies and logits of a 7B model have them: an index that is a 32-bit product
 * somewhere would miss them. The memory is there, but only what is touched is real. */
#include "tests/twin/compute/twin.h"

enum { H = 256 };
#define FAR_ROW ((int32_t)(((int64_t)1 << 31) / H + 12345)) /* of H elements each */

/* Zeros; `bytes` at the row from host. */
static uint16_t *far_rows(int64_t rows, int64_t row, int64_t width, const void *host, size_t element) {
    char *memory = device_bytes(NULL, (size_t)(rows * width) * element);
    if (host != NULL)
        cuda->ops->upload(cuda, memory + (size_t)(row * width) * element, host, (size_t)width * element);
    return (uint16_t *)(void *)memory;
}

static void assert_row(const uint16_t *rows, int64_t row, int64_t width, const float *want, const char *what) {
    assert_same_bits(host_of_bf16(rows + row * width, width), want, width, what);
}

static void far_rows_are_gathered_and_added_to(void **state) {
    (void)state;
    float *x = rounded_floats(H);
    uint16_t *far = far_rows(FAR_ROW + 1, FAR_ROW, H, to_bf16(x, H), 2), *y = device_bytes(NULL, H * 2);
    int32_t *row = device_ints((int32_t[]){FAR_ROW}, 1);
    cuda->ops->gather_rows(cuda, y, far, row, 1, H);
    assert_row(y, 0, H, x, "gathered");
    cuda->ops->scatter_add_rows(cuda, far, y, row, 1, H);
    for (int i = 0; i < H; i++)
        x[i] *= 2;
    assert_row(far, FAR_ROW, H, x, "added to");
}

static void far_ids_are_embedded(void **state) {
    (void)state;
    float *w = rounded_floats(H), *got;
    uint16_t *far = far_rows(FAR_ROW + 1, FAR_ROW, H, to_bf16(w, H), 2), *x = device_bytes(NULL, H * 2);
    int32_t *id = device_ints((int32_t[]){FAR_ROW}, 1);
    cuda->ops->embed_forward(cuda, x, weight_bf16(far), id, 1, H);
    assert_row(x, 0, H, w, "embedding");
    float *dw = (float *)(void *)far_rows(FAR_ROW + 1, 0, H, NULL, 4);
    cuda->ops->embed_backward(cuda, dw, x, id, 1, H, FAR_ROW + 1);
    got = host_of_floats(dw + (int64_t)FAR_ROW * H, H);
    assert_same_bits(got, w, H, "gradient of an embedding");
}

/* One token whose key and value lie far: it attends to itself alone, so out is its value. */
static void far_slots_of_a_cache_are_written_and_attended_to(void **state) {
    (void)state;
    static const struct attention_shape shape = {4, 4, 64, 0.125f}; /* K D = H */
    float *qkv = rounded_floats(3 * H), table[64];
    for (int i = 0; i < 32; i++) {
        table[2 * i] = 1;
        table[2 * i + 1] = 0;
    }
    uint16_t *k = far_rows(FAR_ROW + 1, 0, H, NULL, 2), *v = far_rows(FAR_ROW + 1, 0, H, NULL, 2);
    uint16_t *d_qkv = device_bf16(qkv, 3 * H), *out = device_bytes(NULL, H * 2);
    int32_t *slot = device_ints((int32_t[]){FAR_ROW}, 1), *zero = device_ints((int32_t[]){0}, 1);
    cuda->ops->rope_forward(cuda, d_qkv, k, v, device_floats(table, 64), zero, slot, 1, shape);
    assert_row(k, FAR_ROW, H, qkv + H, "key");
    assert_row(v, FAR_ROW, H, qkv + 2 * H, "value");
    struct attention_view view = {1, 1, zero, zero, device_ints((int32_t[]){0, 1}, 2), slot, 0, NULL};
    cuda->ops->attention_forward(cuda, out, NULL, d_qkv, k, v, &view, shape);
    assert_row(out, 0, H, qkv + 2 * H, "what attends to it");
}

static void far_logits_are_drawn_from(void **state) {
    (void)state;
    enum { V = 8192 };
    int32_t row = (int32_t)(((int64_t)1 << 31) / V + 3), id;
    float *logits = random_floats(V), uniform = 0.5f, lp;
    logits[4711] = 40;
    float *far = (float *)(void *)far_rows(row + 1, row, V, logits, 4);
    int32_t *ids = device_bytes(NULL, 4);
    float *lps = device_bytes(NULL, 4);
    cuda->ops->sample(cuda, ids, lps, far, device_ints(&row, 1), device_floats(&uniform, 1), 1, V, V, 1, 0, 1);
    cuda->ops->download(cuda, &id, ids, sizeof id);
    cuda->ops->download(cuda, &lp, lps, sizeof lp);
    assert_int_equal(id, 4711);
    assert_true(lp > -1e-3f);
}

int main(void) {
    setenv("EMULATED_CUDA_BYTES", "1000000000000", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(far_rows_are_gathered_and_added_to, twin_free_all),
        cmocka_unit_test_teardown(far_ids_are_embedded, twin_free_all),
        cmocka_unit_test_teardown(far_slots_of_a_cache_are_written_and_attended_to, twin_free_all),
        cmocka_unit_test_teardown(far_logits_are_drawn_from, twin_free_all),
    };
    return cmocka_run_group_tests_name("far", tests, twins_open, twins_close);
}
