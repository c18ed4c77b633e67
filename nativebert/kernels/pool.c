/* One vector for a sequence. Reference: sentence-transformers, Pooling. nn/pool.py says the same in torch.
 *
 * Contents: weight_of(), divisor(), max_or_nan(), pool(). Part of level.c.
 * Stability (fp32): tokens are summed from the first to the last; a NaN is passed on.
 */

/* The weight of a token in the sum. */
INLINE float weight_of(int mode, int token) { return mode == WEIGHTED_MEAN ? (float)(token + 1) : 1.0f; }

/* What the sum over so many tokens, skip of them left out, is divided by. */
static float divisor(int mode, int length, int skip)
{
    const float count = (float)(length - skip);
    switch (mode) {
    case MEAN: return count;
    case MEAN_SQRT_LEN_TOKENS: return sqrtf(count);
    case WEIGHTED_MEAN: return count * (float)(skip + 1 + length) / 2; /* skip + 1, skip + 2, ..., length */
    default: return 1;
    }
}

/* The larger of each pair, and NaN where one is NaN: a state that is not a number must not go by. */
INLINE Vec max_or_nan(Vec a, Vec b)
{
    const IntVec is_nan = a != a;
    return (Vec)(((IntVec)a & is_nan) | ((IntVec)max_(a, b) & ~is_nan)); /* of a NaN in b, max_() gives b */
}

/* x (L, H) -> y (H), the first skip tokens left out, but never all; zeros where there is no token. */
static void pool(const float *x, int length, int width, int mode, int skip, float *y)
{
    if (length == 0) {
        memset(y, 0, (size_t)width * sizeof *y);
        return;
    }
    skip = skip < length ? skip : length - 1;
    if (mode == CLS || mode == LAST_TOKEN) {
        memcpy(y, x + (size_t)(mode == CLS ? skip : length - 1) * width, (size_t)width * sizeof *y);
        return;
    }
    const float by = divisor(mode, length, skip);
    for (int j = 0; j < width; j += LANES) {
        const int left = width - j;
        const float *row = x + (size_t)skip * width + j;
        Vec pooled = load_part(row, left) * weight_of(mode, skip);
        for (int token = skip + 1; token < length; token++) {
            row += width;
            Vec next = load_part(row, left);
            pooled = mode == MAX ? max_or_nan(pooled, next) : fma_(next, broadcast(weight_of(mode, token)), pooled);
        }
        store_part(y + j, pooled / by, left);
    }
}
