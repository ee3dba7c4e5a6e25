/* Small things about files and devices that sft, training and checkpoints share. */
#ifndef CANDOR_LEARNER_SUPPORT_H
#define CANDOR_LEARNER_SUPPORT_H

#include "common/base/run_config.h"
#include "common/compute/device.h"
#include "common/model/chat.h"
#include "common/model/tokenizer.h"
#include "common/model/train.h"

/* Copy what stands beside the weights (tokenizer, chat template, generation settings; not config.json), as far as it is
 * there. */
enum status support_copy_tokenizer(const char *from_directory, const char *to_directory);

/* Layers whose activations are kept for the backward pass: as many as fit a part of the device's memory that is free now, less
 * what others will take of it. It changes no bit. */
int32_t support_keep_layers(struct device *device, const struct model_config *config, struct train_limits limits,
                            int64_t others_bytes);

/* Refuse, by STATUS_CONFIG, a model that cannot be trained in the memory that is free: the kernel would grant it page by page,
 * and end some process later.
 *   directory  the model's, for the message
 *   models     copies of the weights on the device: 1, or 2 with a reference
 *   versions   copies that the hub serves, in host memory: counted where that is the device's memory too */
enum status support_check_memory(struct device *device, const char *directory, const struct model_config *config,
                                 enum dtype type, enum moment_storage moments, int models, int versions);

/* Call use(context, path) for each path of a ':'-separated list; empty parts are skipped. */
enum status support_each_path(const char *list, enum status (*use)(void *context, const char *path), void *context);

#endif
