/* Rows of x to unsigned bytes, each row by itself: 0 is its smallest value and 255 its largest.
 *
 * Contents: quantise_rows(). Part of level.c. Rounding must agree with engine/int8.py: test_product_in_int8 compares them.
 */

static void quantise_rows(const float *x, size_t stride, int rows, int width, Quantised to)
{
    const int filled = (width + 3) / 4 * 4;
    for (int i = 0; i < rows; i++) {
        const float *row = x + i * stride;
        uint8_t *q = to.q + (size_t)i * filled;
        Vec low = broadcast(row[0]), high = low;
        int j = 0;
        for (; j + LANES <= width; j += LANES) {
            low = min_(low, load(row + j));
            high = max_(high, load(row + j));
        }
        float min = reduce_min(low), max = reduce_max(high);
        for (; j < width; j++) {
            min = row[j] < min ? row[j] : min;
            max = row[j] > max ? row[j] : max;
        }
        float range = max - min;
        int flat = range < 1e-30f; /* all values the same: 255 / range could be infinite */
        to.scale[i] = flat ? 0.0f : range / 255.0f;
        to.min[i] = min;
        Vec inv_scale = broadcast(flat ? 0.0f : 255.0f / range);
        const Vec whole = broadcast(8388608.0f); /* 2^23: adding it rounds, and leaves the integer in the low bits */
        for (j = 0; j < width; j += LANES) {
            Vec scaled = (load_part(row + j, width - j) - min) * inv_scale + whole;
            ByteVec bytes = __builtin_convertvector((IntVec)scaled & 255, ByteVec);
            memcpy(q + j, &bytes, (size_t)(width - j < LANES ? width - j : LANES));
        }
        for (j = width; j < filled; j++)
            q[j] = 0;
    }
}
