/* Layer norm (Ba et al. 2016, arXiv:1607.06450), and the sum of rows before it. */

/* The lanes from count on made zero. */
INLINE Vec first_lanes(Vec v, int count)
{
    Vec kept = {0};
    memcpy(&kept, &v, sizeof(float) * (size_t)(count < LANES ? count : LANES));
    return kept;
}

static void norm(const float *x, int rows, int width, Norm n, float eps, float *y, float *scales)
{
    const int whole = width / LANES * LANES;
    for (int i = 0; i < rows; i++, x += width, y += width) {
        Vec sum = {0}, squares = {0};
        for (int j = 0; j < width; j += LANES)
            sum += load_part(x + j, width - j);
        const float mean = sum_of(sum) / (float)width;
        for (int j = 0; j < whole; j += LANES) {
            Vec d = load(x + j) - mean;
            squares = fma_(d, d, squares);
        }
        if (whole < width) {
            Vec d = first_lanes(load_part(x + whole, width - whole) - mean, width - whole);
            squares = fma_(d, d, squares);
        }
        const float scale = 1.0f / sqrtf(sum_of(squares) / (float)width + eps);
        if (scales)
            scales[i] = scale;
        for (int j = 0; j < width; j += LANES) {
            int left = width - j;
            Vec d = (load_part(x + j, left) - mean) * scale;
            store_part(y + j, fma_(d, load_part(n.weight + j, left), load_part(n.bias + j, left)), left);
        }
    }
}

static void add(float *y, const float *x, int width)
{
    for (int j = 0; j < width; j += LANES)
        store_part(y + j, load_part(y + j, width - j) + load_part(x + j, width - j), width - j);
}

static void centre(const float *x, int width, const float *weight, float *y)
{
    Vec sum = {0};
    for (int j = 0; j < width; j += LANES)
        sum += load_part(x + j, width - j);
    const float mean = sum_of(sum) / (float)width;
    for (int j = 0; j < width; j += LANES)
        store_part(y + j, (load_part(x + j, width - j) - mean) * load_part(weight + j, width - j), width - j);
}

static void combine(const float *a, const float *b, float scale, const float *bias, int width, float *y)
{
    for (int j = 0; j < width; j += LANES) {
        int left = width - j;
        store_part(y + j, fma_(load_part(a + j, left) + load_part(b + j, left), broadcast(scale), load_part(bias + j, left)), left);
    }
}
