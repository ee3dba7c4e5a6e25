/* candor-bench gpu runs to its end, at small shapes on the emulated device. */
#include "tests/bench/gpu.h"
#include "tests/support/emulator/device.h"
#include "tests/support/test.h"

static const struct bench_shapes small = {.hidden = 64,
                                          .ffn = 72,
                                          .heads = 2,
                                          .kv_heads = 1,
                                          .head_dim = 64,
                                          .vocab = 600,
                                          .decode_rows = 3,
                                          .context = 40,
                                          .prompt = 5,
                                          .answers = 2,
                                          .answer = 4,
                                          .groups = 2,
                                          .logit_rows = 2,
                                          .flat = 1000};

static void every_operation_has_its_line(void **state) {
    (void)state;
    static const char *const names[] = {
        "matmul ",          "matmul_f32",       "matmul_dx", "matmul_dw",       "attention ",     "attention backward",
        "rmsnorm ",         "rmsnorm backward", "swiglu ",   "swiglu backward", "embed backward", "logprob ",
        "logprob backward", "sample",           "adamw ",    "adamw8",          "sum_squares",    "digest",
        "find_changes",     "apply_changes"};
    struct device *device;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    ASSERT_OK(emulator_open(0, &device));
    ASSERT_OK(bench_gpu_table(device, &small, 0, out));
    fclose(out);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(text, names[i]) == NULL)
            fail_msg("no line for %s in:\n%s", names[i], text);
    free(text);
    emulator_close(&device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_operation_has_its_line)};
    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
