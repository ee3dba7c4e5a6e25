/* The CUDA device's table of operations. */
#include "common/compute/cuda/cuda.h"

extern "C" {
extern const struct ops cuda_ops = {
    cuda_allocate,
    cuda_release,
    cuda_upload,
    cuda_download,
    cuda_copy,
    cuda_zero,
    cuda_synchronize,
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
    cuda_adamw,
    cuda_sum_squares,
    cuda_digest,
};
}
