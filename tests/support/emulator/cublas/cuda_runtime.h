/* As much of CUDA's runtime as lt.cu names. */
#ifndef CANDOR_TESTS_SUPPORT_EMULATOR_CUBLAS_CUDA_RUNTIME_H
#define CANDOR_TESTS_SUPPORT_EMULATOR_CUBLAS_CUDA_RUNTIME_H

typedef void *cudaStream_t;
enum cudaDataType { CUDA_R_32F = 0, CUDA_R_16BF = 14 };

/* The last launch that went wrong, until it is asked for: the next launch would be blamed. */
inline int stand_in_error = 0;
inline int cudaGetLastError() {
    int error = stand_in_error;
    stand_in_error = 0;
    return error;
}

#endif
