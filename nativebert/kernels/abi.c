/* The binary interface as this library was compiled: what nativebert/kernels/__init__.py compares with its own structures before it calls
 * anything.
 *
 * Contents: AbiEntry; kernels_abi(), the size of each structure, the offset of each field, and the constants of both sides;
 * kernels_fingerprint(), a hash of the sources. SOURCES is a macro of setup.py.
 */
#include "kernels.h"

typedef struct {
    const char *name;
    int64_t value;
} AbiEntry;

#define SIZE(type) {#type, sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field)}
#define CONSTANT(name) {#name, name}

static const AbiEntry entries[] = {
    SIZE(Linear), FIELD(Linear, inward), FIELD(Linear, outward), FIELD(Linear, panels), FIELD(Linear, panels8), FIELD(Linear, bias),
    FIELD(Linear, scale), FIELD(Linear, sum),
    SIZE(Norm), FIELD(Norm, weight), FIELD(Norm, bias),
    SIZE(Relative), FIELD(Relative, q), FIELD(Relative, k), FIELD(Relative, row), FIELD(Relative, rows), FIELD(Relative, stride),
    SIZE(Layer), FIELD(Layer, qkv), FIELD(Layer, out), FIELD(Layer, up), FIELD(Layer, down), FIELD(Layer, gate), FIELD(Layer, attn_norm),
    FIELD(Layer, mlp_norm), FIELD(Layer, heads), FIELD(Layer, activation), FIELD(Layer, rotary), FIELD(Layer, bias),
    FIELD(Layer, bias_stride), FIELD(Layer, reach), FIELD(Layer, relative),
    SIZE(Embedding), FIELD(Embedding, token), FIELD(Embedding, segment), FIELD(Embedding, position), FIELD(Embedding, tokens),
    FIELD(Embedding, segments), FIELD(Embedding, positions), FIELD(Embedding, width), FIELD(Embedding, norm), FIELD(Embedding, project),
    SIZE(Quantised), FIELD(Quantised, q), FIELD(Quantised, scale), FIELD(Quantised, min),
    SIZE(Rows), FIELD(Rows, x), FIELD(Rows, stride), FIELD(Rows, scale), FIELD(Rows, sum), FIELD(Rows, outliers),
    SIZE(Outliers), FIELD(Outliers, count), FIELD(Outliers, input), FIELD(Outliers, value),
    SIZE(Kernels), FIELD(Kernels, name), FIELD(Kernels, panel), FIELD(Kernels, panel8), FIELD(Kernels, pack_panels),
    FIELD(Kernels, pack_panels8), FIELD(Kernels, gemm), FIELD(Kernels, gemm8),
    FIELD(Kernels, normalize_rows), FIELD(Kernels, quantise_rows),
    FIELD(Kernels, attention), FIELD(Kernels, attention16), FIELD(Kernels, rotate), FIELD(Kernels, attention_scratch), FIELD(Kernels, layer_norm),
    FIELD(Kernels, center_row),
    FIELD(Kernels, combine_rows), FIELD(Kernels, add_row), FIELD(Kernels, multiply_row),
    FIELD(Kernels, pool), FIELD(Kernels, training),
    SIZE(Adam), FIELD(Adam, beta1), FIELD(Adam, beta2), FIELD(Adam, rest1), FIELD(Adam, rest2), FIELD(Adam, eps),
    SIZE(AdamStep), FIELD(AdamStep, size), FIELD(AdamStep, root), FIELD(AdamStep, kept),
    SIZE(Training), FIELD(Training, product), FIELD(Training, product_scratch), FIELD(Training, drop), FIELD(Training, residual_norm),
    FIELD(Training, residual_norm_back), FIELD(Training, column_sums), FIELD(Training, attention_scratch),
    FIELD(Training, attend_forward), FIELD(Training, attend_backward), FIELD(Training, adamw), FIELD(Training, adamw_rows),
    FIELD(Training, sum_squares),
    SIZE(FirstQkv), FIELD(FirstQkv, product), FIELD(FirstQkv, bias),
    SIZE(QkvCache), FIELD(QkvCache, row_of_key), FIELD(QkvCache, key_of_row), FIELD(QkvCache, last_batch), FIELD(QkvCache, new_rows),
    FIELD(QkvCache, rows), FIELD(QkvCache, capacity), FIELD(QkvCache, count), FIELD(QkvCache, next), FIELD(QkvCache, batch),
    SIZE(Encoder), FIELD(Encoder, kernels), FIELD(Encoder, embedding), FIELD(Encoder, first_qkv), FIELD(Encoder, layer),
    FIELD(Encoder, layers), FIELD(Encoder, width), FIELD(Encoder, eps),
    FIELD(Encoder, pre_norm), FIELD(Encoder, last_norm),
    SIZE(Batch), FIELD(Batch, ids), FIELD(Batch, positions), FIELD(Batch, segments), FIELD(Batch, starts), FIELD(Batch, sequences),
    FIELD(Batch, qkv_cache),
    SIZE(Output), FIELD(Output, hidden), FIELD(Output, states), FIELD(Output, pooled), FIELD(Output, mode), FIELD(Output, modes),
    FIELD(Output, skip),
    CONSTANT(MAX_OUTLIERS), CONSTANT(ACTIVATIONS), CONSTANT(POOLINGS),
    {0, 0},
};

/* Ends with an entry without a name. */
const AbiEntry *kernels_abi(void) { return entries; }

const char *kernels_fingerprint(void) { return SOURCES; }
