/* Weights and tokens by formula, the twins of tests/golden/model/make.py's; small models for tests. */
#ifndef CANDOR_TESTS_SUPPORT_MODEL_GOLDEN_H
#define CANDOR_TESTS_SUPPORT_MODEL_GOLDEN_H

#include "common/model/parameters.h"

uint32_t golden_hash(uint32_t index, uint32_t seed);
uint32_t golden_seed(const char *name);

/* values [layout->total]: exact in fp32, not in bf16. */
void golden_fill(const struct parameter_layout *layout, float *values);

/* Upload masters [total] as the model stores them: fp32 as they are, or bf16 rounded half away with the remainders
 * [total] going to remainders (host; NULL: dropped). */
void golden_upload(struct model *model, const float *masters, uint16_t *remainders);

/* A model of 2 layers with 4 query heads on 2, filled by formula. Hidden 48, ffn 64, vocabulary 96 of which 91 are valid. */
struct model *golden_small_model(struct device *device, enum dtype type, int32_t positions);

/* count tokens below valid, different for each seed */
void golden_tokens(int32_t *ids, int32_t count, uint32_t seed, int32_t valid);

#endif
