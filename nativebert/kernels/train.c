/* What a training step computes of a layer, and its optimizer: see nativebert/train/fast.
 *
 * Dropout is a function of a key and an index: nothing of it is stored, and the way back, a layer that is computed again, a resumed run and
 * another number of threads all draw the same.
 *
 * Contents: keep(); train_product(), the products of a layer in all three directions; drop(); residual_norm() and its way back;
 * column_sums(); small_product(), attend_forward() and attend_backward(); adamw() and adamw_rows(); sum_squares().
 * Stability: sums over tokens and over parameters are made in blocks of a fixed size, and the blocks added in their order, so that no result
 * depends on the number of threads. Part of level.c.
 */
#include "team.h"

enum {
    SUM_ROWS = 32,        /* rows whose gradients are added up by themselves */
    SUM_NUMBERS = 1 << 16, /* numbers whose squares are */
    ADAM_WALK = 160       /* steps that a row's momentum is followed for: 0.9^160 is beyond the last bit of what it moves a weight by */
};

#define PARALLEL _Pragma("omp parallel for schedule(static) num_threads(threads)")

/* ---- dropout */

typedef struct {
    uint32_t a, b, limit;
    float scale;
} Drop;

static Drop drop_of(double p, uint64_t key)
{
    return (Drop){(uint32_t)key, (uint32_t)(key >> 32), (uint32_t)(p * 4294967296.0), 1.0f / (1.0f - (float)p)};
}

/* What an element is multiplied by: 0 with the probability p, else 1 / (1 - p). The mixing is that of the hash prospector's lowbias32
 * (https://github.com/skeeto/hash-prospector), between two halves of the key. */
INLINE float keep(Drop d, uint32_t i)
{
    uint32_t x = i + d.a;
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    x ^= x >> 16;
    x ^= d.b;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    return x >= d.limit ? d.scale : 0.0f;
}

/* y = x as dropout leaves it; both ways, since its derivative is what it multiplies by. */
static void drop(const float *x, float *y, int64_t n, double p, uint64_t key, int threads)
{
    const Drop d = drop_of(p, key);
    PARALLEL
    for (int64_t start = 0; start < n; start += 4096)
        for (int64_t i = start; i < (start + 4096 < n ? start + 4096 : n); i++)
            y[i] = x[i] * keep(d, (uint32_t)i);
}

/* ---- products */

/* Floats from one row of rows for a product to the next. */
static size_t product_stride(int K) { return (size_t)(K % 1024 ? K : K + 16); }

static int panels_of(int N) { return (N + TABLE(LEVEL).panel - 1) / TABLE(LEVEL).panel; }

/* Floats of scratch that a product needs. */
static size_t train_product_scratch(int M, int N, int K)
{
    const size_t outputs = (size_t)panels_of(N) * (size_t)TABLE(LEVEL).panel;
    return outputs * (size_t)(K + 3) + (size_t)M * (product_stride(K) + 2 + sizeof(Outliers) / sizeof(float)) + 64;
}

/* Rows first to last of the transpose of x (K, M), into rows of the given stride. */
static void transpose_rows(const float *x, size_t x_stride, int K, int first, int last, float *y, size_t stride)
{
    for (int start = 0; start < K; start += 16)
        for (int m = first; m < last; m++)
            for (int k = start; k < (start + 16 < K ? start + 16 : K); k++)
                y[(size_t)m * stride + (size_t)k] = x[(size_t)k * x_stride + (size_t)m];
}

/* y (M, N) = A (M, K) B (N, K)^T + bias + residual; either may be NULL, and the residual be y. A is stored as its transpose (K, M) where
 * that is said, and so is B. */
static void train_product(const float *a, int a_transposed, const float *b, int b_transposed, int M, int N, int K, const float *bias,
                          const float *residual, float *y, float *scratch, int threads)
{
    const Kernels *kernels = &TABLE(LEVEL);
    const int panel = kernels->panel, panels = panels_of(N), outputs = panels * panel;
    const int normalize = kernels->normalize_rows != NULL, copy = normalize || a_transposed;
    float *packed = scratch, *scale = packed + (size_t)outputs * (size_t)K, *sum = scale + outputs, *own_bias = sum + outputs;
    float *rows = own_bias + outputs, *row_scale = rows + (size_t)M * product_stride(K), *row_sum = row_scale + M;
    const Rows x = {copy ? rows : (float *)a, copy ? product_stride(K) : (size_t)K, row_scale, row_sum, (Outliers *)(row_sum + M)};
    for (int n = 0; n < outputs; n++)
        own_bias[n] = bias && n < N ? bias[n] : 0;
    const Linear w = {K, N, packed, NULL, own_bias, scale, sum};
#pragma omp parallel num_threads(threads)
    {
        const Team team = {thread_index(), team_size()};
        const Range mine = team_share(team, panels), part = team_share(team, M);
        if (b_transposed) {
            pack_columns(b, (size_t)N, K, N, mine.first, mine.last, packed, scale, sum);
        } else {
            const int first = mine.first * panel, last = min_int(mine.last * panel, N);
            if (last > first) {
                if (last < mine.last * panel) /* the last panel is not full */
                    memset(packed + (size_t)(mine.last - 1) * (size_t)panel * (size_t)K, 0, sizeof(float) * (size_t)panel * (size_t)K);
                kernels->pack_panels(b + (size_t)first * (size_t)K, last - first, K, first, packed, scale, sum);
                for (int n = last; n < mine.last * panel; n++)
                    scale[n] = sum[n] = 0;
            }
        }
        if (a_transposed)
            transpose_rows(a, (size_t)M, K, part.first, part.last, rows, product_stride(K));
        if (normalize && part.last > part.first) {
            const float *from = a_transposed ? rows + (size_t)part.first * x.stride : a + (size_t)part.first * (size_t)K;
            kernels->normalize_rows(from, a_transposed ? x.stride : (size_t)K, part.last - part.first, K, rows_from(x, part.first));
        }
        team_barrier(team);
        if (panels >= 3 * team.size)
            gemm(&w, x, M, y, (size_t)N, residual, LINEAR, mine.first, mine.last);
        else if (part.last > part.first)
            gemm(&w, rows_from(x, part.first), part.last - part.first, y + (size_t)part.first * (size_t)N, (size_t)N,
                 residual ? residual + (size_t)part.first * (size_t)N : NULL, LINEAR, 0, panels);
    }
}

/* ---- norms */

static float sum_of(const float *x, int n)
{
    Vec sum = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        sum += load(x + i);
    return reduce_add(sum + (i < n ? load_part(x + i, n - i) : (Vec){0}));
}

/* y = norm(drop(x) + residual) weight + bias, rows (T, H). What the way back needs: the normed rows, and what each was multiplied by. */
static void residual_norm(const float *x, const float *residual, const float *weight, const float *bias, float *y, float *normed,
                          float *rstd, int64_t T, int64_t H, double eps, double p, uint64_t key, int threads)
{
    const Drop d = drop_of(p, key);
    PARALLEL
    for (int64_t t = 0; t < T; t++) {
        const float *xt = x + t * H, *rt = residual + t * H;
        float *h = normed + t * H, *yt = y + t * H;
        if (p > 0)
            for (int64_t i = 0; i < H; i++)
                h[i] = xt[i] * keep(d, (uint32_t)(t * H + i)) + rt[i];
        else
            for (int64_t i = 0; i < H; i++)
                h[i] = xt[i] + rt[i];
        const float mean = sum_of(h, (int)H) / (float)H;
        Vec squares = {0};
        int64_t i = 0;
        for (; i + LANES <= H; i += LANES) {
            const Vec v = load(h + i) - mean;
            squares = fma_(v, v, squares);
        }
        float rest = 0;
        for (; i < H; i++)
            rest += (h[i] - mean) * (h[i] - mean);
        const float scale = 1.0f / sqrtf((reduce_add(squares) + rest) / (float)H + (float)eps);
        for (i = 0; i < H; i++) {
            const float v = (h[i] - mean) * scale;
            h[i] = v;
            yt[i] = v * weight[i] + bias[i];
        }
        rstd[t] = scale;
    }
}

/* The way back: dx, through the dropout, and d_residual; d_weight and d_bias are added to. room: (blocks of SUM_ROWS, 2, H). */
static void residual_norm_back(const float *dy, const float *normed, const float *rstd, const float *weight, float *dx, float *d_residual,
                               float *d_weight, float *d_bias, float *room, int64_t T, int64_t H, double p, uint64_t key, int threads)
{
    const Drop d = drop_of(p, key);
    const int64_t blocks = (T + SUM_ROWS - 1) / SUM_ROWS;
    PARALLEL
    for (int64_t block = 0; block < blocks; block++) {
        float *sum_weight = room + 2 * H * block, *sum_bias = sum_weight + H;
        memset(sum_weight, 0, sizeof(float) * 2 * (size_t)H);
        for (int64_t t = block * SUM_ROWS; t < (block + 1) * SUM_ROWS && t < T; t++) {
            const float *g = dy + t * H, *h = normed + t * H;
            float *to = dx + t * H, *r = d_residual + t * H;
            for (int64_t i = 0; i < H; i++) {
                sum_weight[i] += g[i] * h[i];
                sum_bias[i] += g[i];
                r[i] = g[i] * weight[i];
            }
            Vec first = {0}, second = {0};
            int64_t i = 0;
            for (; i + LANES <= H; i += LANES) {
                const Vec v = load(r + i);
                first += v;
                second = fma_(v, load(h + i), second);
            }
            float m1 = reduce_add(first), m2 = reduce_add(second);
            for (; i < H; i++) {
                m1 += r[i];
                m2 += r[i] * h[i];
            }
            m1 /= (float)H;
            m2 /= (float)H;
            const float s = rstd[t];
            for (i = 0; i < H; i++)
                r[i] = (r[i] - m1 - h[i] * m2) * s;
            if (p > 0)
                for (i = 0; i < H; i++)
                    to[i] = r[i] * keep(d, (uint32_t)(t * H + i));
            else
                memcpy(to, r, sizeof(float) * (size_t)H);
        }
    }
    for (int64_t block = 0; block < blocks; block++) {
        const float *sum_weight = room + 2 * H * block, *sum_bias = sum_weight + H;
        for (int64_t i = 0; i < H; i++) {
            d_weight[i] += sum_weight[i];
            d_bias[i] += sum_bias[i];
        }
    }
}

/* Sums of the columns of x (T, N), added to y (N): the gradient of a bias. */
static void column_sums(const float *x, float *y, int64_t T, int64_t N, int threads)
{
    PARALLEL
    for (int64_t column = 0; column < N; column += 64) {
        const int64_t width = N - column < 64 ? N - column : 64;
        float sum[64] = {0};
        for (int64_t t = 0; t < T; t++)
            for (int64_t j = 0; j < width; j++)
                sum[j] += x[t * N + column + j];
        for (int64_t j = 0; j < width; j++)
            y[column + j] += sum[j];
    }
}

/* ---- attention */

/* y (M, N) = A (M, K) B (K, N), for the small matrices of one head: element (i, k) of A at a[i a_row + k a_column], rows of B and y of N
 * numbers filled up to whole vectors, but those of y that are beyond it are not written where `exact`. */
INLINE void small_tile(const int rows, const int vectors, const float *a, size_t a_row, size_t a_column, const float *b, size_t b_row,
                       int K, float *y, size_t y_row, int left)
{
    Vec sum[4][2];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (Vec){0};
    for (int k = 0; k < K; k++) {
        Vec w[2];
        for (int v = 0; v < vectors; v++)
            w[v] = load(b + (size_t)k * b_row + (size_t)v * LANES);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const Vec x = broadcast(a[(size_t)i * a_row + (size_t)k * a_column]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = fma_(x, w[v], sum[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            store_part(y + (size_t)i * y_row + (size_t)v * LANES, sum[i][v], left - v * LANES);
}

static void small_product(int M, int N, int K, const float *a, size_t a_row, size_t a_column, const float *b, size_t b_row, float *y,
                          size_t y_row)
{
    for (int n = 0; n < N; n += 2 * LANES) {
        const int left = N - n, two = left > LANES;
        for (int m = 0; m < M; m += 4) {
            const float *at = a + (size_t)m * a_row;
            float *to = y + (size_t)m * y_row + n;
#define SMALL(rows)                                                                                   \
    if (two)                                                                                          \
        small_tile(rows, 2, at, a_row, a_column, b + n, b_row, K, to, y_row, left);                   \
    else                                                                                              \
        small_tile(rows, 1, at, a_row, a_column, b + n, b_row, K, to, y_row, left);                   \
    break
            switch (min_int(4, M - m)) {
            case 1: SMALL(1);
            case 2: SMALL(2);
            case 3: SMALL(3);
            default: SMALL(4);
            }
#undef SMALL
        }
    }
}

static int whole_vectors(int n) { return (n + LANES - 1) / LANES * LANES; }

/* A head's rows (l, D), from rows of the given stride: as they are, filled up to whole vectors, or transposed (D, l) likewise. */
static void gather_head(const float *x, size_t stride, int l, int D, float *y)
{
    const int width = whole_vectors(D);
    for (int i = 0; i < l; i++) {
        memcpy(y + (size_t)i * (size_t)width, x + (size_t)i * stride, sizeof(float) * (size_t)D);
        for (int j = D; j < width; j++)
            y[(size_t)i * (size_t)width + (size_t)j] = 0;
    }
}

static void gather_head_transposed(const float *x, size_t stride, int l, int D, float *y)
{
    const int width = whole_vectors(l);
    for (int j = 0; j < D; j++)
        for (int i = l; i < width; i++)
            y[(size_t)j * (size_t)width + (size_t)i] = 0;
    for (int i = 0; i < l; i++)
        for (int j = 0; j < D; j++)
            y[(size_t)j * (size_t)width + (size_t)i] = x[(size_t)i * stride + (size_t)j];
}

/* Floats of scratch that each thread needs for attention over so many tokens. */
static size_t train_attention_scratch(int length, int head)
{
    const size_t l = (size_t)whole_vectors(length), D = (size_t)whole_vectors(head);
    return 2 * l * l + 2 * l * D + 64;
}

/* context (T, H) = softmax(q k^T / sqrt(D)) v of every head of every sequence; qkv (T, 3H). weights: for each sequence and head (l, l) numbers,
 * one after the other, as softmax gives them, before dropout; where[sequence] is where its first head's begin. */
static void attend_forward(const float *qkv, const int32_t *starts, int sequences, int heads, int H, const int64_t *where, float *weights,
                           float *context, double p, uint64_t key, float *scratch, int longest, int threads)
{
    const Drop d = drop_of(p, key);
    const int D = H / heads;
    const float scale = 1.0f / sqrtf((float)D);
    const size_t size = train_attention_scratch(longest, D);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int unit = 0; unit < sequences * heads; unit++) {
        const int sequence = unit / heads, head = unit % heads, l = starts[sequence + 1] - starts[sequence];
        const size_t width = (size_t)whole_vectors(l), stride = 3 * (size_t)H;
        const int64_t at = where[sequence] + (int64_t)head * l * l;
        const float *q = qkv + (size_t)starts[sequence] * stride + (size_t)(head * D);
        float *kT = scratch + size * (size_t)thread_index(), *v = kT + (size_t)D * width, *s = v + (size_t)l * (size_t)whole_vectors(D);
        gather_head_transposed(q + H, stride, l, D, kT);
        gather_head(q + 2 * H, stride, l, D, v);
        small_product(l, (int)width, D, q, stride, 1, kT, width, s, width);
        for (int i = 0; i < l; i++) {
            float *row = s + (size_t)i * width, *out = weights + at + (int64_t)i * l;
            for (int j = l; j < (int)width; j++)
                row[j] = -INFINITY;
            Vec most = load(row);
            for (size_t j = LANES; j < width; j += LANES)
                most = max_(most, load(row + j));
            const float top = reduce_max(most);
            Vec total = {0};
            for (size_t j = 0; j < width; j += LANES) {
                Vec e = exp_((load(row + j) - top) * scale);
                if ((int)(j + LANES) > l)
                    for (int n = 0; n < LANES; n++)
                        if ((int)j + n >= l)
                            e[n] = 0;
                store(row + j, e);
                total += e;
            }
            const float inverse = 1.0f / reduce_add(total);
            for (int j = 0; j < l; j++)
                out[j] = row[j] *= inverse;
            if (p > 0)
                for (int j = 0; j < l; j++)
                    row[j] *= keep(d, (uint32_t)(at + (int64_t)i * l + j));
        }
        small_product(l, D, l, s, width, 1, v, (size_t)whole_vectors(D), context + (size_t)starts[sequence] * (size_t)H + (size_t)(head * D),
                      (size_t)H);
    }
}

/* The way back: d_qkv (T, 3H) from d_context (T, H). */
static void attend_backward(const float *qkv, const int32_t *starts, int sequences, int heads, int H, const int64_t *where,
                            const float *weights, const float *d_context, float *d_qkv, double p, uint64_t key, float *scratch, int longest,
                            int threads)
{
    const Drop d = drop_of(p, key);
    const int D = H / heads;
    const float scale = 1.0f / sqrtf((float)D);
    const size_t size = train_attention_scratch(longest, D), stride = 3 * (size_t)H;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int unit = 0; unit < sequences * heads; unit++) {
        const int sequence = unit / heads, head = unit % heads, l = starts[sequence + 1] - starts[sequence];
        const size_t width = (size_t)whole_vectors(l), wide = (size_t)whole_vectors(D);
        const int64_t at = where[sequence] + (int64_t)head * l * l;
        const float *q = qkv + (size_t)starts[sequence] * stride + (size_t)(head * D);
        const float *dc = d_context + (size_t)starts[sequence] * (size_t)H + (size_t)(head * D);
        float *dq = d_qkv + (size_t)starts[sequence] * stride + (size_t)(head * D);
        float *first = scratch + size * (size_t)thread_index(), *second = first + width * wide, *s = second + width * wide;
        float *dropped = s + width * width;
        for (int i = 0; i < l; i++) {
            const float *w = weights + at + (int64_t)i * l;
            float *row = dropped + (size_t)i * width;
            if (p > 0)
                for (int j = 0; j < l; j++)
                    row[j] = w[j] * keep(d, (uint32_t)(at + (int64_t)i * l + j));
            else
                memcpy(row, w, sizeof(float) * (size_t)l);
        }
        gather_head(dc, (size_t)H, l, D, first);
        small_product(l, D, l, dropped, 1, width, first, wide, dq + 2 * H, stride); /* d_v = dropped^T d_context */
        gather_head_transposed(q + 2 * H, stride, l, D, first);
        small_product(l, (int)width, D, dc, (size_t)H, 1, first, width, s, width); /* d_context v^T */
        for (int i = 0; i < l; i++) {
            const float *w = weights + at + (int64_t)i * l;
            float *row = s + (size_t)i * width;
            if (p > 0)
                for (int j = 0; j < l; j++)
                    row[j] *= keep(d, (uint32_t)(at + (int64_t)i * l + j));
            Vec sum = {0};
            for (int j = 0; j < l; j += LANES)
                sum = fma_(load_part(row + j, l - j), load_part(w + j, l - j), sum);
            const float dot = reduce_add(sum);
            for (int j = 0; j < l; j++)
                row[j] = (row[j] - dot) * w[j] * scale;
        }
        gather_head(q + H, stride, l, D, first);
        small_product(l, D, l, s, width, 1, first, wide, dq, stride); /* d_q = d_scores k */
        gather_head(q, stride, l, D, second);
        small_product(l, D, l, s, 1, width, second, wide, dq + H, stride); /* d_k = d_scores^T q */
    }
}

/* ---- the optimizer: AdamW (arXiv:1711.05101), as torch.optim.AdamW computes it */

INLINE Vec sqrt_(Vec x)
{
#if defined(__AVX512F__)
    return (Vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (Vec)_mm256_sqrt_ps((__m256)x);
#else
    for (int n = 0; n < LANES; n++)
        x[n] = sqrtf(x[n]);
    return x;
#endif
}

/* One step of some numbers. Without a gradient it still decays, and moves by what momentum there is. */
INLINE void adam_numbers(float *w, float *m, float *v, const float *g, int64_t n, Adam a, AdamStep step, float clip)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const int left = n - i < LANES ? (int)(n - i) : LANES;
        Vec mi = load_part(m + i, left) * a.beta1, vi = load_part(v + i, left) * a.beta2;
        if (g) {
            const Vec gi = load_part(g + i, left) * clip;
            mi = fma_(gi, broadcast(a.rest1), mi);
            vi = fma_(gi * gi, broadcast(a.rest2), vi);
        }
        const Vec wi = load_part(w + i, left) * step.kept - mi * step.size / fma_(sqrt_(vi), broadcast(step.root), broadcast(a.eps));
        store_part(m + i, mi, left);
        store_part(v + i, vi, left);
        store_part(w + i, wi, left);
    }
}

/* One step of n numbers, whose gradient is multiplied by clip. */
static void adamw(float *w, float *m, float *v, const float *g, int64_t n, const Adam *a, const AdamStep *step, double clip, int threads)
{
    PARALLEL
    for (int64_t start = 0; start < n; start += SUM_NUMBERS)
        adam_numbers(w + start, m + start, v + start, g + start, n - start < SUM_NUMBERS ? n - start : SUM_NUMBERS, *a, *step, (float)clip);
}

/* Rows of a table (rows, E) whose other rows have no gradient: each after the steps that it has missed. steps[s] is step s, from 1; kept[s] the
 * product of all decay up to s. last[row] is the last step that a row has had, or, of a row that never had a gradient and so only decays,
 * -1 - that step. Without grad (rows, E), the rows are brought up to step - 1. */
static void adamw_rows(float *w, float *m, float *v, int32_t *last, const int64_t *rows, const float *grad, int64_t count, int64_t E,
                       const Adam *a, const AdamStep *steps, const double *kept, int64_t step, double clip, int threads)
{
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t n = 0; n < count; n++) {
        const int64_t row = rows[n], from = last[row], end = step - 1;
        float *wr = w + row * E, *mr = m + row * E, *vr = v + row * E, factor;
        if (from >= 0) {
            const int64_t walked = end - from < ADAM_WALK ? end - from : ADAM_WALK;
            for (int64_t s = from + 1; s <= from + walked; s++)
                adam_numbers(wr, mr, vr, NULL, E, *a, steps[s], 1);
            factor = (float)(kept[end] / kept[from + walked]);
            if (walked < end - from) { /* only the decay is left */
                const float f1 = (float)pow(a->beta1, (double)(end - from - walked)), f2 = (float)pow(a->beta2, (double)(end - from - walked));
                for (int64_t i = 0; i < E; i++) {
                    mr[i] *= f1;
                    vr[i] *= f2;
                }
            }
        } else
            factor = (float)(kept[end] / kept[-from - 1]);
        if (factor != 1)
            for (int64_t i = 0; i < E; i++)
                wr[i] *= factor;
        if (grad) {
            adam_numbers(wr, mr, vr, grad + n * E, E, *a, steps[step], (float)clip);
            last[row] = (int32_t)step;
        } else
            last[row] = (int32_t)(from >= 0 ? end : -1 - end);
    }
}

/* The sum of squares, in blocks of a fixed size; room: one number for each block. */
static double sum_squares(const float *x, int64_t n, double *room, int threads)
{
    const int64_t blocks = (n + SUM_NUMBERS - 1) / SUM_NUMBERS;
    PARALLEL
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t end = (block + 1) * SUM_NUMBERS < n ? (block + 1) * SUM_NUMBERS : n;
        double total = 0;
        for (int64_t start = block * SUM_NUMBERS; start < end; start += 1024) {
            Vec sum = {0};
            for (int64_t i = start; i < (start + 1024 < end ? start + 1024 : end); i += LANES) {
                const Vec v = load_part(x + i, end - i < LANES ? (int)(end - i) : LANES);
                sum = fma_(v, v, sum);
            }
            total += (double)reduce_add(sum);
        }
        room[block] = total;
    }
    double total = 0;
    for (int64_t block = 0; block < blocks; block++)
        total += room[block];
    return total;
}

extern const Training TRAINING(LEVEL);
const Training TRAINING(LEVEL) = {
    .product = train_product,
    .product_scratch = train_product_scratch,
    .drop = drop,
    .residual_norm = residual_norm,
    .residual_norm_back = residual_norm_back,
    .column_sums = column_sums,
    .attention_scratch = train_attention_scratch,
    .attend_forward = attend_forward,
    .attend_backward = attend_backward,
    .adamw = adamw,
    .adamw_rows = adamw_rows,
    .sum_squares = sum_squares,
};
