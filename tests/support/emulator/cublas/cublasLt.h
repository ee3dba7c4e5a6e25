/* As much of cuBLASLt as lt.cu uses, on the host: its words, its column-major products by plain loops, and algorithms of which some
 * are not fit for Candor. So what lt.cu does around the library is executed; the library itself is not. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_CUBLAS_CUBLASLT_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_CUBLAS_CUBLASLT_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <cuda_runtime.h>

#include "common/compute/math.h"

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasLtMatmulDescAttributes_t { CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB };
enum cublasLtReductionScheme_t { CUBLASLT_REDUCTION_SCHEME_NONE };
enum cublasLtMatmulPreferenceAttributes_t {
    CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
    CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};
enum cublasLtMatmulAlgoConfigAttributes_t {
    CUBLASLT_ALGO_CONFIG_ID,
    CUBLASLT_ALGO_CONFIG_TILE_ID,
    CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
    CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
    CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING,
    CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION,
    CUBLASLT_ALGO_CONFIG_STAGES_ID,
    CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID,
    CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID
};

/* SPLIT must be left out untried, and is wrong; FAILING cannot be launched; UNEVEN rounds half-way for every other count of rows,
 * so that a row's bits are not its own; EVEN is fit. */
enum stand_in_algorithm { STAND_IN_SPLIT, STAND_IN_FAILING, STAND_IN_UNEVEN, STAND_IN_EVEN };
inline bool stand_in_has_even = true; /* false: there is no fit algorithm */

struct cublasLtMatmulAlgo_t {
    stand_in_algorithm id;
};
struct cublasLtMatmulHeuristicResult_t {
    cublasLtMatmulAlgo_t algo;
    size_t workspaceSize;
    cublasStatus_t state;
};
struct stand_in_operation {
    cublasOperation_t transposed[2];
};
struct stand_in_layout {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t stride;
};
typedef int *cublasLtHandle_t;
typedef int *cublasLtMatmulPreference_t;
typedef stand_in_operation *cublasLtMatmulDesc_t;
typedef stand_in_layout *cublasLtMatrixLayout_t;

inline cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = new int;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
inline const char *cublasLtGetStatusString(cublasStatus_t) {
    return "";
}
inline size_t cublasLtGetVersion() {
    return 1;
}
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t, cudaDataType) {
    *out = new stand_in_operation();
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                     cublasLtMatmulDescAttributes_t attribute, const void *value,
                                                     size_t bytes) {
    if (bytes != sizeof(cublasOperation_t))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memcpy(&operation->transposed[attribute], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                                 uint64_t columns, int64_t stride) {
    *out = new stand_in_layout{type, rows, columns, stride};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = new int;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                           cublasLtMatmulPreferenceAttributes_t, const void *, size_t) {
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int most,
                                                     cublasLtMatmulHeuristicResult_t *results, int *out_found) {
    int found = stand_in_has_even ? 4 : 3;
    *out_found = found < most ? found : most;
    for (int i = 0; i < *out_found; i++)
        results[i] = {{(stand_in_algorithm)i}, 0, CUBLAS_STATUS_SUCCESS};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                           cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                           size_t bytes, size_t *) {
    uint32_t number = attribute == CUBLASLT_ALGO_CONFIG_ID           ? (uint32_t)algorithm->id
                      : attribute == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? (algorithm->id == STAND_IN_SPLIT ? 2 : 1)
                                                                     : 0;
    if (bytes != sizeof number)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memcpy(value, &number, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* Element (row, column) of a matrix, or of its transpose. */
inline float stand_in_at(const void *data, cublasLtMatrixLayout_t layout, bool transposed, uint64_t row,
                         uint64_t column) {
    uint64_t at = transposed ? column + row * (uint64_t)layout->stride : row + column * (uint64_t)layout->stride;
    return layout->type == CUDA_R_32F ? ((const float *)data)[at] : f32_of_bf16(((const uint16_t *)data)[at]);
}

/* Refuses what the library would: shapes that do not fit, addresses that are not those that were promised. */
inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha, const void *a,
                                     cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                                     const void *beta, const void *c, cublasLtMatrixLayout_t, void *d,
                                     cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *,
                                     size_t, cudaStream_t) {
    bool a_turned = operation->transposed[0] == CUBLAS_OP_T, b_turned = operation->transposed[1] == CUBLAS_OP_T;
    uint64_t m = a_turned ? a_layout->columns : a_layout->rows, k = a_turned ? a_layout->rows : a_layout->columns;
    uint64_t n = b_turned ? b_layout->rows : b_layout->columns, b_k = b_turned ? b_layout->columns : b_layout->rows;
    if (m != d_layout->rows || n != d_layout->columns || k != b_k || c != d || *(const float *)alpha != 1.0f ||
        ((uintptr_t)a | (uintptr_t)b | (uintptr_t)d) % 16 != 0)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algorithm->id == STAND_IN_FAILING) {
        stand_in_error = 1;
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    bool rounds = algorithm->id == STAND_IN_UNEVEN && n / 16 % 2 == 1;
    for (uint64_t column = 0; column < n; column++)
        for (uint64_t row = 0; row < m; row++) {
            float sum = 0.0f;
            for (uint64_t i = 0; i < k; i++) {
                sum = rounds && i == k / 2 ? f32_of_bf16(bf16_of_f32(sum)) : sum;
                sum += stand_in_at(a, a_layout, a_turned, row, i) * stand_in_at(b, b_layout, b_turned, i, column);
            }
            sum = algorithm->id == STAND_IN_SPLIT ? -sum : sum;
            uint64_t to = row + column * (uint64_t)d_layout->stride;
            if (*(const float *)beta != 0.0f)
                sum += stand_in_at(d, d_layout, false, row, column);
            if (d_layout->type == CUDA_R_32F)
                ((float *)d)[to] = sum;
            else
                ((uint16_t *)d)[to] = bf16_of_f32(sum);
        }
    return CUBLAS_STATUS_SUCCESS;
}

#endif
