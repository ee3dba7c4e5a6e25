/* What config.c (values, printing) and config_read.c (where values come from) share. */
#ifndef CANDOR_BASE_CONFIG_INTERNAL_H
#define CANDOR_BASE_CONFIG_INTERNAL_H

#include "common/base/config.h"

/* Set one field of target from its text. STATUS_CONFIG "PLACEsection.key = text: what would be right". */
enum status config_parse_value(const struct config_option *option, void *target, const char *place, const char *text);

/* NULL when absent. */
const struct config_option *config_find(const struct option_table *table, const char *section, const char *key);

/* STATUS_CONFIG "PLACEsection.key: no such option; did you mean ...?" */
enum status config_fail_unknown(const struct option_table *table, const char *place, const char *section,
                                const char *key);

#endif
