/* Devices by name, on a host without a GPU and in a build without the CUDA part. */
#include "tests/support/test.h"

#include "common/compute/device.h"

static void assert_refused(const char *spec, const char *text) {
    struct device *device = NULL;
    ASSERT_FAILS(STATUS_UNSUPPORTED, device_open(spec, 1, &device));
    if (strstr(status_message(), spec) == NULL || strstr(status_message(), text) == NULL)
        fail_msg("%s: the message is \"%s\"; \"%s\" was wanted", spec, status_message(), text);
}

static void names_that_are_none_are_refused(void **state) {
    (void)state;
    assert_refused("tpu", "auto, cpu or cuda:N");
    assert_refused("", "auto, cpu or cuda:N");
    assert_refused("cuda", "right would be cuda:N");
    assert_refused("cuda:", "right would be cuda:N");
    assert_refused("cuda:x", "right would be cuda:N");
    assert_refused("cuda:-1", "right would be cuda:N");
    assert_refused("cuda:0x", "right would be cuda:N");
    assert_refused("cuda0", "right would be cuda:N");
}

static void without_the_cuda_part_a_gpu_is_refused_in_words(void **state) {
    (void)state;
    assert_refused("cuda:0", "this installation has no CUDA part (libcandor-cuda.so");
}

static void auto_falls_back_to_the_cpu(void **state) {
    (void)state;
    struct device *device = NULL;
    ASSERT_OK(device_open("auto", 1, &device));
    assert_int_equal(device->kind, DEVICE_CPU);
    device_close(&device);
    assert_null(device);
    device_close(&device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(without_the_cuda_part_a_gpu_is_refused_in_words),
        cmocka_unit_test(auto_falls_back_to_the_cpu),
    };
    return cmocka_run_group_tests_name("plugin", tests, NULL, NULL);
}
