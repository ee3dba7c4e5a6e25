#include "common/base/verdict.h"

#include <string.h>

static const char *const names[VERDICT_COUNT] = {
    [VERDICT_CORRECT] = "correct",     [VERDICT_PROCESS_CORRECT] = "process-correct",
    [VERDICT_ABSTAIN] = "abstain",     [VERDICT_WRONG] = "wrong",
    [VERDICT_MALFORMED] = "malformed",
};

const char *verdict_name(enum verdict verdict) {
    return (unsigned)verdict < VERDICT_COUNT ? names[verdict] : "?";
}

bool verdict_find(const char *name, enum verdict *out_verdict) {
    for (unsigned i = 0; i < VERDICT_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out_verdict = (enum verdict)i;
            return true;
        }
    }
    return false;
}
