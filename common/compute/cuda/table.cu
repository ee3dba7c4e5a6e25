/* The CUDA device's table of operations. */
#include "common/compute/cuda/cuda.h"

extern "C" {
enum status cuda_out_of_memory(const struct device *device, size_t bytes, size_t available, size_t total) {
    return fail(
        STATUS_NO_MEMORY,
        "cuda:%d: out of memory: %.2f GB asked for, %.2f GB free of %.2f GB. What takes most can be set smaller: "
        "actor.kv_tokens and actor.in_flight of an actor, train.microbatch_tokens and train.logit_chunk of the "
        "learner, optim.moments = int8; or give the two a GPU each",
        cuda_state_of(device)->ordinal, (double)bytes / 1e9, (double)available / 1e9, (double)total / 1e9);
}

extern const struct ops cuda_ops = {
    cuda_allocate,
    cuda_release,
    cuda_upload,
    cuda_download,
    cuda_read_aside,
    cuda_copy,
    cuda_zero,
    cuda_synchronize,
    cuda_free_bytes,
    cuda_embed_forward,
    cuda_embed_backward,
    cuda_rmsnorm_forward,
    cuda_rmsnorm_backward,
    cuda_prepare_matmul,
    cuda_matmul,
    cuda_matmul_f32,
    cuda_matmul_dx,
    cuda_matmul_dw,
    cuda_bias_backward,
    cuda_rope_forward,
    cuda_rope_backward,
    cuda_attention_forward,
    cuda_attention_backward,
    cuda_swiglu_forward,
    cuda_swiglu_backward,
    cuda_add,
    cuda_gather_rows,
    cuda_scatter_add_rows,
    cuda_logprob_forward,
    cuda_logprob_backward,
    cuda_sample,
    cuda_decay,
    cuda_adamw,
    cuda_adamw8,
    cuda_sum_squares,
    cuda_digest,
    cuda_find_changes,
    cuda_apply_changes,
};
}
