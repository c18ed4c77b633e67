/* Activations: what torch computes under the names of nn/activation.py, each element by itself.
 *
 * Contents: erf_(), sigmoid(), one function for each activation; apply() and store_rows() over a tile; activate_tile(). Part of level.c.
 * Stability (fp32): erf_ to about 1e-7 absolute, exp_ to about 2 units in the last place (vec.h); none overflows for finite x.
 */

/* erf to about 1e-7: an odd over an even polynomial on [-4, 4], beyond which it is 1 in fp32 (the fit that Eigen and XLA use). */
INLINE Vec erf_(Vec x)
{
    x = max_(broadcast(-4.0f), min_(broadcast(4.0f), x));
    Vec s = x * x;
    Vec p = broadcast(-2.72614225801306e-10f);
    p = fma_(p, s, broadcast(2.77068142495902e-08f));
    p = fma_(p, s, broadcast(-2.10102402082508e-06f));
    p = fma_(p, s, broadcast(-5.69250639462346e-05f));
    p = fma_(p, s, broadcast(-7.34990630326855e-04f));
    p = fma_(p, s, broadcast(-2.95459980854025e-03f));
    p = fma_(p, s, broadcast(-1.60960333262415e-02f));
    Vec q = broadcast(-1.45660718464996e-05f);
    q = fma_(q, s, broadcast(-2.13374055278905e-04f));
    q = fma_(q, s, broadcast(-1.68282697438203e-03f));
    q = fma_(q, s, broadcast(-7.37332916720468e-03f));
    q = fma_(q, s, broadcast(-1.42647390514189e-02f));
    return x * p / q;
}

INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp_(-x)); }

INLINE Vec gelu(Vec x)
{
    Vec half = x * 0.5f;
    return fma_(half, erf_(x * 0.70710678f), half);
}

/* x sigmoid(2u) is x (1 + tanh u) / 2 */
INLINE Vec gelu_tanh(Vec x) { return x * sigmoid(1.5957691216f * fma_(0.044715f * x, x * x, x)); }

INLINE Vec gelu_10(Vec x) { return max_(broadcast(-10.0f), min_(broadcast(10.0f), gelu(x))); }

INLINE Vec quick_gelu(Vec x) { return x * sigmoid(1.702f * x); }

INLINE Vec relu(Vec x) { return max_(broadcast(0.0f), x); }

INLINE Vec relu2(Vec x) { return relu(x) * relu(x); }

INLINE Vec relu6(Vec x) { return min_(broadcast(6.0f), relu(x)); }

INLINE Vec leaky_relu(Vec x) { return fma_(broadcast(0.01f), min_(broadcast(0.0f), x), relu(x)); }

INLINE Vec silu(Vec x) { return x * sigmoid(x); }

INLINE Vec tanh_(Vec x) { return 1.0f - 2.0f * sigmoid(-2.0f * x); }

/* x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); beyond 20 the quotient is 1 and its parts would overflow */
INLINE Vec mish(Vec x)
{
    Vec e = exp_(min_(broadcast(20.0f), x));
    Vec n = e * (e + 2.0f);
    return x * n / (n + 2.0f);
}

/* f is a constant wherever this is inlined, and is inlined in turn. */
INLINE void apply(Vec (*f)(Vec), const float *x, int from, int rows, float *y, size_t stride, int columns)
{
    for (int i = 0; i < rows; i++, x += from, y += stride)
        for (int j = 0; j < columns; j += LANES)
            store_part(y + j, f(load(x + j)), columns - j);
}

/* Rows and a residual that lies as y does, or NULL. */
static void store_rows(const float *x, int from, int rows, float *y, size_t stride, int columns, const float *residual)
{
    for (int i = 0; i < rows; i++, x += from, y += stride, residual += residual ? stride : 0)
        for (int j = 0; j < columns; j += LANES) {
            Vec v = load(x + j);
            store_part(y + j, residual ? v + load_part(residual + j, columns - j) : v, columns - j);
        }
}

/* An activation of rows of a tile, which are so many floats apart, into so many columns of y; a residual is added where there is none. */
static void activate_tile(int kind, const float *x, int from, int rows, float *y, size_t stride, int columns, const float *residual)
{
    switch (kind) {
    case LINEAR: store_rows(x, from, rows, y, stride, columns, residual); break;
    case GELU: apply(gelu, x, from, rows, y, stride, columns); break;
    case GELU_TANH: apply(gelu_tanh, x, from, rows, y, stride, columns); break;
    case GELU_10: apply(gelu_10, x, from, rows, y, stride, columns); break;
    case QUICK_GELU: apply(quick_gelu, x, from, rows, y, stride, columns); break;
    case RELU: apply(relu, x, from, rows, y, stride, columns); break;
    case RELU2: apply(relu2, x, from, rows, y, stride, columns); break;
    case RELU6: apply(relu6, x, from, rows, y, stride, columns); break;
    case LEAKY_RELU: apply(leaky_relu, x, from, rows, y, stride, columns); break;
    case SILU: apply(silu, x, from, rows, y, stride, columns); break;
    case MISH: apply(mish, x, from, rows, y, stride, columns); break;
    case TANH: apply(tanh_, x, from, rows, y, stride, columns); break;
    case SIGMOID: apply(sigmoid, x, from, rows, y, stride, columns); break;
    }
}
