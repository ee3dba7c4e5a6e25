/* What is refused before anything is allocated for it. */
#include "tests/support/test.h"

#include "learner/support.h"

static void a_model_that_does_not_fit_is_refused_with_both_numbers(void **state) {
    (void)state;
    const struct model_config small = {
        .layers = 2, .hidden = 64, .heads = 2, .kv_heads = 1, .head_dim = 64, .ffn = 256, .vocab = 1000, .tied = true};
    struct model_config large = small;
    large.layers = 1024;
    large.hidden = 65536;
    large.ffn = 1 << 20; /* 2e14 parameters: more than any machine's memory */
    struct device *device;
    ASSERT_OK(device_open("cpu", 1, &device));
    ASSERT_OK(support_check_memory(device, "small", &small, DTYPE_BF16, MOMENTS_FP32, 2, 3));
    ASSERT_FAILS(STATUS_CONFIG, support_check_memory(device, "large", &large, DTYPE_BF16, MOMENTS_FP32, 2, 3));
    assert_non_null(strstr(status_message(), "large: training its"));
    assert_non_null(strstr(status_message(), "GB free"));
    assert_non_null(strstr(status_message(), "optim.moments = int8"));
    ASSERT_FAILS(STATUS_CONFIG, support_check_memory(device, "large", &large, DTYPE_BF16, MOMENTS_INT8, 2, 3));
    assert_null(strstr(status_message(), "optim.moments"));
    device_close(&device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_that_does_not_fit_is_refused_with_both_numbers),
    };
    return cmocka_run_group_tests_name("support", tests, NULL, NULL);
}
