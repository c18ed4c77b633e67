/* Layer norm (Ba et al. 2016, arXiv:1607.06450), the sum of rows before it, and what qkv_cache.c makes of it.
 *
 * Contents: norm_rows(), layer_norm(); add_row(), multiply_row(); center_row() and combine_rows(). Part of level.c.
 * Stability (fp32): two passes, the variance being the mean of squared differences from the mean; lane sums, then halves upon halves.
 */

enum { ROWS_AT_A_TIME = 4 /* rows at a time: one alone would wait for its own sums */ };

/* The lanes from count on made zero. */
INLINE Vec first_lanes(Vec v, int count)
{
    Vec kept = {0};
    memcpy(&kept, &v, sizeof(float) * (size_t)(count < LANES ? count : LANES));
    return kept;
}

/* rows is a constant wherever this is inlined. Each is computed as if it were alone. Without a bias, the root mean square is that of the
 * values themselves, not of their differences from the mean (Zhang and Sennrich 2019, arXiv:1910.07467). */
INLINE void norm_rows(const int rows, const float *x, int width, Norm n, float eps, float *y, float *scales)
{
    const int whole = width / LANES * LANES;
    Vec sum[ROWS_AT_A_TIME], squares[ROWS_AT_A_TIME];
    float mean[ROWS_AT_A_TIME], scale[ROWS_AT_A_TIME];
    for (int i = 0; i < rows; i++)
        sum[i] = squares[i] = (Vec){0};
    for (int j = 0; j < width; j += LANES)
        for (int i = 0; i < rows; i++)
            sum[i] += load_part(x + (size_t)i * width + j, width - j);
    for (int i = 0; i < rows; i++)
        mean[i] = n.bias ? reduce_add(sum[i]) / (float)width : 0.0f;
    for (int j = 0; j < whole; j += LANES)
        for (int i = 0; i < rows; i++) {
            Vec d = load(x + (size_t)i * width + j) - mean[i];
            squares[i] = fma_(d, d, squares[i]);
        }
    for (int i = 0; i < rows && whole < width; i++) {
        Vec d = first_lanes(load_part(x + (size_t)i * width + whole, width - whole) - mean[i], width - whole);
        squares[i] = fma_(d, d, squares[i]);
    }
    for (int i = 0; i < rows; i++) {
        scale[i] = 1.0f / sqrtf(reduce_add(squares[i]) / (float)width + eps);
        if (scales)
            scales[i] = scale[i];
    }
    for (int j = 0; j < width; j += LANES) {
        const int left = width - j;
        Vec weight = load_part(n.weight + j, left), bias = n.bias ? load_part(n.bias + j, left) : (Vec){0};
        for (int i = 0; i < rows; i++) {
            Vec d = (load_part(x + (size_t)i * width + j, left) - mean[i]) * scale[i];
            store_part(y + (size_t)i * width + j, fma_(d, weight, bias), left);
        }
    }
}

static void layer_norm(const float *x, int rows, int width, Norm n, float eps, float *y, float *scales)
{
    int i = 0;
    for (; i + ROWS_AT_A_TIME <= rows; i += ROWS_AT_A_TIME)
        norm_rows(ROWS_AT_A_TIME, x + (size_t)i * width, width, n, eps, y + (size_t)i * width, scales ? scales + i : NULL);
    for (; i < rows; i++)
        norm_rows(1, x + (size_t)i * width, width, n, eps, y + (size_t)i * width, scales ? scales + i : NULL);
}

static void add_row(float *y, const float *x, int width)
{
    for (int j = 0; j < width; j += LANES)
        store_part(y + j, load_part(y + j, width - j) + load_part(x + j, width - j), width - j);
}

static void multiply_row(float *y, const float *x, int width)
{
    for (int j = 0; j < width; j += LANES)
        store_part(y + j, load_part(y + j, width - j) * load_part(x + j, width - j), width - j);
}

static void center_row(const float *x, int width, const float *weight, float *y)
{
    Vec sum = {0};
    for (int j = 0; j < width; j += LANES)
        sum += load_part(x + j, width - j);
    const float mean = reduce_add(sum) / (float)width;
    for (int j = 0; j < width; j += LANES)
        store_part(y + j, (load_part(x + j, width - j) - mean) * load_part(weight + j, width - j), width - j);
}

static void combine_rows(const float *a, const float *b, float scale, const float *bias, int width, float *y)
{
    for (int j = 0; j < width; j += LANES) {
        int left = width - j;
        store_part(y + j, fma_(load_part(a + j, left) + load_part(b + j, left), broadcast(scale), load_part(bias + j, left)), left);
    }
}
