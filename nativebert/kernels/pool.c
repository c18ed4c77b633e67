/* One vector for a sequence. Reference: sentence-transformers, Pooling. nn/pool.py says the same in torch.
 *
 * Tokens are summed from the first to the last.
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
INLINE Vec larger_or_nan(Vec a, Vec b)
{
    const IntVec spoilt = a != a;
    return (Vec)(((IntVec)a & spoilt) | ((IntVec)larger(a, b) & ~spoilt)); /* of a NaN in b, larger() gives b */
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
        Vec found = load_part(row, left) * weight_of(mode, skip);
        for (int token = skip + 1; token < length; token++) {
            row += width;
            Vec next = load_part(row, left);
            found = mode == MAX ? larger_or_nan(found, next) : fma_(next, broadcast(weight_of(mode, token)), found);
        }
        store_part(y + j, found / by, left);
    }
}
