/* A chain of deltas applied on the emulated CUDA device, over more blocks than one call takes: the same weights as on the CPU, and
 * none changed when it does not lead where it should. */
#include "tests/support/test.h"

#include "common/compute/ops.h"
#include "common/weights/content.h"
#include "common/weights/patch.h"
#include "tests/support/emulator/device.h"

#define ELEMENTS ((CHANGE_BLOCKS_MAX + 2) * CHANGE_BLOCK + 12345)
#define BYTES (ELEMENTS * sizeof(uint16_t))

static struct device *cuda;
static uint16_t versions[2][ELEMENTS], got[ELEMENTS];
static struct digest digests[2];
static struct chain chain;

static int set_up(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ELEMENTS; i++)
        versions[0][i] = (uint16_t)(i * 2654435761u >> 11);
    memcpy(versions[1], versions[0], BYTES);
    for (uint32_t i = 0; i < ELEMENTS; i += 1 + i % 9999)
        versions[1][i] = (uint16_t)(versions[1][i] + 1 + i % 3);
    versions[1][ELEMENTS - 1]++;
    for (int v = 0; v < 2; v++)
        digests[v] = content_digest(versions[v], 0, BYTES);
    chain = (struct chain){.version = 1, .to = digests[1], .hop_count = 1};
    bool ready = delta_encode(versions[0], versions[1], ELEMENTS, digests[0], digests[1], 1, &chain.hops[0].data,
                              &chain.hops[0].bytes, NULL) == STATUS_OK &&
                 emulator_open(0, &cuda) == STATUS_OK;
    return ready ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(chain.hops[0].data);
    emulator_close(&cuda);
    return 0;
}

static void a_device_applies_a_chain_or_leaves_its_weights(void **state) {
    (void)state;
    void *weights = NULL;
    struct patch *patch;
    ASSERT_OK(cuda->ops->allocate(cuda, BYTES, &weights));
    cuda->ops->upload(cuda, weights, versions[0], BYTES);
    ASSERT_OK(patch_create(&chain, digests[0], ELEMENTS, 1, &patch));
    patch->to.low++;
    ASSERT_FAILS(STATUS_MISMATCH, patch_apply_on(patch, cuda, weights));
    cuda->ops->download(cuda, got, weights, BYTES);
    assert_memory_equal(got, versions[0], BYTES);
    patch->to.low--;
    ASSERT_OK(patch_apply_on(patch, cuda, weights));
    cuda->ops->download(cuda, got, weights, BYTES);
    assert_memory_equal(got, versions[1], BYTES);
    patch_destroy(&patch);
    cuda->ops->release(cuda, weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_applies_a_chain_or_leaves_its_weights),
    };
    return cmocka_run_group_tests_name("patch", tests, set_up, tear_down);
}
