#include "common/base/build.h"

const char *build_name(void) {
    return CANDOR_BUILD;
}
