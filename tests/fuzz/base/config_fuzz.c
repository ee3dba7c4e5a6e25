/* A configuration file of arbitrary bytes: refused with a message, or a configuration that prints and reads back the
 * same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/run_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static struct run_config config, back;
    struct buf text = {0}, printed = {0};
    buf_append(&text, data, bytes);
    ASSERT(config_defaults(&run_options, &config) == STATUS_OK);
    if (config_read_text(&run_options, &config, "fuzz.ini", text.data) == STATUS_OK) {
        config_print(&run_options, &config, bytes % 2 == 0, &printed);
        ASSERT(config_defaults(&run_options, &back) == STATUS_OK);
        ASSERT(config_read_text(&run_options, &back, "printed", printed.data) == STATUS_OK);
        ASSERT(memcmp(&config, &back, sizeof config) == 0);
    } else {
        ASSERT(status_message()[0] != '\0');
    }
    buf_deinit(&text);
    buf_deinit(&printed);
    return 0;
}
