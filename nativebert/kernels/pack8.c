/* Weights as a checkpoint has them, rows of K numbers for each output, quantised into the panels of kernels.h.
 *
 * Contents: scale_of(), pack_panels8(). Part of level.c. Rounding is to nearest, ties to even, and must agree with engine/int8.py and
 * weights_map/eightbit.py: test_product_in_int8 and test_eightbit.py compare them.
 */

enum { SCALE_ROUND_ULPS = 0x100 }; /* of a float's bits: 24 significant ones less 16 */

/* What one is worth in a row whose largest magnitude is max_abs: weights_map/eightbit.py says why it is rounded. */
static float scale_of(float max_abs)
{
    float exact = max_abs / 127.0f;
    uint32_t bits;
    memcpy(&bits, &exact, sizeof bits);
    bits = (bits + SCALE_ROUND_ULPS / 2) / SCALE_ROUND_ULPS * SCALE_ROUND_ULPS;
    memcpy(&exact, &bits, sizeof bits);
    return exact < 0x1p-100f ? 1.0f : exact;
}

/* Rows first to first + rows of the matrix: whole numbers, what one is worth in each row, and the sum of each row's. */
static void pack_panels8(const float *w, int rows, int width, int first, int8_t *panels, float *scale, float *sum)
{
    const int filled = (width + 3) / 4 * 4;
    const Vec whole = broadcast(12582912.0f); /* 3 * 2^22: adding it rounds to the nearest integer */
    for (int i = 0; i < rows; i++) {
        const float *x = w + (size_t)i * width;
        int row = first + i, k;
        Vec max_abs = {0};
        for (k = 0; k < width; k += LANES) {
            Vec v = load_part(x + k, width - k);
            max_abs = max_(max_abs, max_(v, -v));
        }
        scale[row] = scale_of(reduce_max(max_abs));
        int8_t *to = panels + (size_t)(row / PANEL) * PANEL * (size_t)filled + row % PANEL * 4;
        int32_t total = 0;
        for (k = 0; k < width; k += LANES) {
            IntVec units = __builtin_convertvector((load_part(x + k, width - k) / scale[row] + whole) - whole, IntVec);
            for (int j = 0; j < LANES && k + j < width; j++) {
                to[(size_t)((k + j) / 4) * 4 * PANEL + (k + j) % 4] = (int8_t)units[j];
                total += units[j];
            }
        }
        sum[row] = (float)total;
    }
}
