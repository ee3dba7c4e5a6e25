/* v16 in portable C; see vector.h. */
typedef struct {
    float lane[LANES];
} v16;
typedef struct {
    uint8_t lane[LANES];
} m16;

#define V16_EACH for (int i = 0; i < LANES; i++)

static inline v16 v16_set(float value) {
    v16 r;
    V16_EACH r.lane[i] = value;
    return r;
}

static inline v16 v16_zero(void) {
    return v16_set(0.0f);
}

static inline v16 v16_load(const float *from) {
    v16 r;
    memcpy(&r, from, sizeof r);
    return r;
}

static inline void v16_store(float *to, v16 value) {
    memcpy(to, &value, sizeof value);
}

static inline v16 v16_load_part(const float *from, int n) {
    v16 r = v16_zero();
    memcpy(&r, from, (size_t)n * sizeof *from);
    return r;
}

static inline void v16_store_part(float *to, v16 value, int n) {
    memcpy(to, &value, (size_t)n * sizeof *to);
}

static inline v16 v16_load_bf16(const uint16_t *from) {
    v16 r;
    V16_EACH r.lane[i] = f32_of_bf16(from[i]);
    return r;
}

static inline v16 v16_add(v16 a, v16 b) {
    V16_EACH a.lane[i] += b.lane[i];
    return a;
}

static inline v16 v16_sub(v16 a, v16 b) {
    V16_EACH a.lane[i] -= b.lane[i];
    return a;
}

static inline v16 v16_mul(v16 a, v16 b) {
    V16_EACH a.lane[i] *= b.lane[i];
    return a;
}

static inline v16 v16_div(v16 a, v16 b) {
    V16_EACH a.lane[i] /= b.lane[i];
    return a;
}

static inline v16 v16_sqrt(v16 a) {
    V16_EACH a.lane[i] = sqrtf(a.lane[i]);
    return a;
}

static inline v16 v16_max(v16 a, v16 b) {
    V16_EACH a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

static inline v16 v16_min(v16 a, v16 b) {
    V16_EACH a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

/* a*b + c, rounded once */
static inline v16 v16_fma(v16 a, v16 b, v16 c) {
    V16_EACH c.lane[i] = fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}

static inline m16 v16_less(v16 a, v16 b) {
    m16 m;
    V16_EACH m.lane[i] = a.lane[i] < b.lane[i];
    return m;
}

static inline m16 v16_equal(v16 a, v16 b) {
    m16 m;
    V16_EACH m.lane[i] = a.lane[i] == b.lane[i];
    return m;
}

/* m ? a : b */
static inline v16 v16_select(m16 m, v16 a, v16 b) {
    V16_EACH a.lane[i] = m.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

/* p * 2^n for whole n in -126 .. 128 */
static inline v16 v16_scale(v16 p, v16 n) {
    V16_EACH {
        int32_t exponent = (int32_t)n.lane[i], half = exponent >> 1;
        p.lane[i] *= f32_of_bits((uint32_t)(half + 127) << 23);
        p.lane[i] *= f32_of_bits((uint32_t)(exponent - half + 127) << 23);
    }
    return p;
}

static inline float v16_sum(v16 a) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            a.lane[i] += a.lane[i + width];
    return a.lane[0];
}

static inline float v16_most(v16 a) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            a.lane[i] = a.lane[i] > a.lane[i + width] ? a.lane[i] : a.lane[i + width];
    return a.lane[0];
}

/* Lane i is v16_sum(a[i]). a is destroyed. */
static inline v16 v16_sums(v16 a[LANES]) {
    v16 r;
    V16_EACH r.lane[i] = v16_sum(a[i]);
    return r;
}

/* The exact fp32 master of a bf16 weight: the weight is the master rounded half away from zero, the remainder its low
 * half as a signed number: master = (w << 16) + remainder modulo 2^32. Every pattern splits and joins without loss
 * (engine.md section 7: rounding half to even would lose ties). */
static inline v16 v16_join(const uint16_t *w, const uint16_t *remainder) {
    v16 r;
    V16_EACH r.lane[i] = f32_of_bits(((uint32_t)w[i] << 16) + (uint32_t)(int32_t)(int16_t)remainder[i]);
    return r;
}

static inline void v16_split(v16 value, uint16_t *w, uint16_t *remainder) {
    V16_EACH {
        uint32_t bits = bits_of_f32(value.lane[i]);
        w[i] = (uint16_t)((bits + 0x8000u) >> 16);
        remainder[i] = (uint16_t)bits;
    }
}
