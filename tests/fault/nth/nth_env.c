/* The plan of a real process, from its environment, for tests/fault/nth/processes:
 *   NTH_PLAN="PROGRAM CLASS ERRNO AT LASTING [UNDER]"   as struct nth_plan; other programs ignore it
 *   NTH_MARK=FILE   made by the call that fails; where it is there already nothing fails: a process that is started anew goes on */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault/nth/nth.h"

__attribute__((constructor)) static void plan_from_environment(void) {
    static char under[256];
    struct nth_plan plan = {0};
    char program[64], class[16];
    unsigned long long at;
    int lasting;
    const char *text = getenv("NTH_PLAN");
    nth_init();
    if (!text || sscanf(text, "%63s %15s %d %llu %d %255s", program, class, &plan.error, &at, &lasting, under) < 5 ||
        strcmp(program, program_invocation_short_name) != 0)
        return;
    while (plan.class < NTH_CLASS_COUNT && strcmp(nth_class_names[plan.class], class) != 0)
        plan.class ++;
    if (plan.class == NTH_CLASS_COUNT)
        abort();
    plan.at = at;
    plan.lasting = lasting;
    plan.under = under[0] ? under : NULL;
    plan.mark = getenv("NTH_MARK");
    nth_arm(&plan);
}
