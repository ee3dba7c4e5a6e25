#include "common/model/rope.h"

#include <math.h>

#include "common/base/status.h"

/* pi/2 in three parts of 33, 33 and 53 bits (fdlibm's e_rem_pio2): the first two times a quotient below 2^20 are exact.
 */
#define PIO2_1 1.57079632673412561417e+00
#define PIO2_2 6.07710050630396597660e-11
#define PIO2_3 2.02226624879595063154e-21

/* Taylor series on [-pi/4, pi/4]: the first term left out is below 1e-17. */
static double sin_small(double x) {
    double x2 = x * x, term = x, sum = x;
    for (int n = 1; n <= 8; n++) {
        term *= -x2 / (double)(2 * n * (2 * n + 1));
        sum += term;
    }
    return sum;
}

static double cos_small(double x) {
    double x2 = x * x, term = 1.0, sum = 1.0;
    for (int n = 1; n <= 8; n++) {
        term *= -x2 / (double)((2 * n - 1) * 2 * n);
        sum += term;
    }
    return sum;
}

static void cos_sin(double angle, float *out_cos, float *out_sin) {
    double quotient = (double)(int64_t)(angle * 0.63661977236758134308 + 0.5); /* nearest; angle >= 0 */
    double rest = ((angle - quotient * PIO2_1) - quotient * PIO2_2) - quotient * PIO2_3;
    double c = cos_small(rest), s = sin_small(rest);
    switch ((int64_t)quotient & 3) {
    case 0:
        *out_cos = (float)c, *out_sin = (float)s;
        break;
    case 1:
        *out_cos = (float)-s, *out_sin = (float)c;
        break;
    case 2:
        *out_cos = (float)-c, *out_sin = (float)-s;
        break;
    default:
        *out_cos = (float)s, *out_sin = (float)-c;
        break;
    }
}

void rope_table_fill(float *out_table, int32_t positions, int32_t head_dim, double theta) {
    int32_t half = head_dim / 2;
    ASSERT(half > 0 && (half & (half - 1)) == 0);
    double ratio = 1.0 / theta; /* to become theta^(-2/head_dim) */
    for (int32_t n = half; n > 1; n /= 2)
        ratio = sqrt(ratio);
    double frequency = 1.0;
    for (int32_t i = 0; i < half; i++, frequency *= ratio) {
        for (int32_t p = 0; p < positions; p++) {
            float *pair = out_table + ((int64_t)p * half + i) * 2;
            cos_sin((double)p * frequency, &pair[0], &pair[1]);
        }
    }
}
