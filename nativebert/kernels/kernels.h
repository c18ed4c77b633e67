/* The kernels of a BERT encoder on a CPU: what they are given, and the table of them at one instruction set level.
 *
 * Letters: T tokens of a batch, L of a sequence, H width of the model, E of its embedding tables, F inner width of the feed-forward
 * part, A heads, D width of a head; K and N inward and outward width of a product. Arrays are row-major: (T, H) is T rows of H floats.
 *
 * Bitwise batch invariance: every kernel computes a row, or a head of a sequence, in an order of summation that depends on its own
 * sizes alone. Nobody may add a path that is chosen by the number of rows, of sequences or of threads and that sums otherwise.
 *
 * The structures are mirrored in nativebert/kernels/__init__.py, which compares them with abi.c when it loads the library: a new field or
 * structure goes into all three.
 */
#ifndef NATIVEBERT_KERNELS_H
#define NATIVEBERT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* What follows a product. Numbered as in nativebert/kernels/__init__.py. */
enum Activation {
    LINEAR, GELU, GELU_TANH, GELU_10, QUICK_GELU, RELU, RELU2, RELU6, LEAKY_RELU, SILU, MISH, TANH, SIGMOID,
    ACTIVATIONS /* their number */
};

/* How a sequence becomes one vector. Numbered as in nativebert/kernels/__init__.py. */
enum Pooling { CLS, MAX, MEAN, MEAN_SQRT_LEN_TOKENS, WEIGHTED_MEAN, LAST_TOKEN, POOLINGS /* their number */ };

/* y = x W^T + b. The weights lie in panels of Kernels.panel or panel8 outputs each, the last one filled up with zeros; so do bias, scale
 * and sum. In fp32 a panel is [K][panel], in an order of K that is the level's own; in int8 it is [K/4][panel][4], K filled up to a
 * multiple of 4. W[n][k] is the weight of output n for input k; P is panel or panel8:
 *
 *          fp32, one panel (outputs 0 to P - 1)                 int8, one panel
 *          +---------+---------+-----+-----------+              +------------------+-----+--------------------+
 *     k=0  | W[0][0] | W[1][0] | ... | W[P-1][0] |      k=0..3  | W[0][0..3]       | ... | W[P-1][0..3]       |
 *     k=1  | W[0][1] | W[1][1] | ... | W[P-1][1] |      k=4..7  | W[0][4..7]       | ... | W[P-1][4..7]       |
 *     ...  |         |         |     |           |      ...     |                  |     |                    |
 *          +---------+---------+-----+-----------+              +------------------+-----+--------------------+
 *          then the panel of outputs P to 2P - 1, ...           4 bytes are one lane of a dot product (dot4)
 *
 * With winograd.c, of 16 lanes, the rows of whole groups of 48 inputs stand in the order k = 0, 16, 32, 1, 17, 33, ..., 15, 31, 47: the
 * two of a pair, then the one by itself. */
typedef struct {
    int32_t inward, outward; /* K, N */
    const float *panels;     /* fp32, or NULL */
    const int8_t *panels8;   /* int8, or NULL */
    const float *bias;
    const float *scale; /* what one unit of an output's weights is worth: in int8, and where fp32 has it (winograd.c) */
    const float *sum;   /* int8: the sum of an output's weights, in units; in fp32 that of their pairs */
} Linear;

typedef struct {
    const float *weight, *bias; /* bias is NULL for a norm by the root mean square: see norm.c */
} Norm;

/* Relative positions of one head, scored apart from contents (DeBERTa): queries and keys of R rows, and the row for each distance. */
typedef struct {
    const float *q, *k;  /* (D, stride), of which R columns count */
    const int32_t *row;  /* of query - key; that of distance 0 */
    int32_t rows, stride; /* R; more than R by a vector */
} Relative;

/* A layer with its norms after attention and after the feed-forward part, or before them. */
typedef struct {
    Linear qkv, out, up, down; /* H -> 3H, H -> H, H -> F, F -> H */
    Linear gate;               /* H -> F, times what the activation gives; inward is 0 for none */
    Norm attn_norm, mlp_norm;  /* attn_norm.weight is NULL for none */
    int32_t heads, activation;
    const float *rotary;      /* (positions, D) cosines, then sines, of each position; NULL for none */
    const float *bias;        /* of scores by the distance of query and key, that of 0 of the first head; NULL for none */
    int64_t bias_stride;      /* floats from one head's to the next's */
    int32_t reach;            /* keys count up to so many tokens from the query, its own included; 0 for all; the bias has minus infinity beyond */
    Relative relative;        /* of the first head; rows is 0 for none */
} Layer;

typedef struct {
    const float *token, *segment, *position; /* tables of width E; segment and position may be NULL */
    int32_t tokens, segments, positions;     /* rows of the tables */
    int32_t width;                           /* E */
    Norm norm;      /* weight is NULL for none */
    Linear project; /* E -> H; inward is 0 for none */
} Embedding;

/* Rows quantised each by itself: x is about min + scale * q. */
typedef struct {
    uint8_t *q; /* (T, K filled up to a multiple of 4) */
    float *scale, *min;
} Quantised;

/* Inputs of a row that are multiplied apart from the pairs: see winograd.c. */
enum { MAX_OUTLIERS = 16 };

typedef struct {
    int32_t count, input[MAX_OUTLIERS];
    float value[MAX_OUTLIERS];
} Outliers;

/* Rows in fp32, so many floats from one to the next; normalized where the level asks for it: brought to a length of about one. */
typedef struct {
    float *x;
    size_t stride;
    float *scale, *sum; /* (T) what one unit of a row is worth, and the sum of its pairs; NULL where they are not normalized */
    Outliers *outliers;       /* (T) */
} Rows;

static inline Rows rows_from(Rows r, int first)
{
    return (Rows){r.x + first * r.stride, r.stride, r.scale + first, r.sum + first, r.outliers + first};
}

/* AdamW: the decay of its moments, with 1 - beta1 and 1 - beta2 (in float the subtraction would lose digits), and one of its steps: learning rate and corrections of the moments' bias are in size and root, what is left
 * of a weight after decay in kept. */
typedef struct {
    float beta1, beta2, rest1, rest2, eps;
} Adam;

typedef struct {
    float size, root, kept;
} AdamStep;

/* What training needs of a level: see train.c. */
typedef struct {
    void (*product)(const float *a, int a_transposed, const float *b, int b_transposed, int M, int N, int K, const float *bias,
                    const float *residual, float *y, float *scratch, int threads);
    size_t (*product_scratch)(int M, int N, int K);
    void (*drop)(const float *x, float *y, int64_t n, double p, uint64_t key, int threads);
    void (*residual_norm)(const float *x, const float *residual, const float *weight, const float *bias, float *y, float *normed,
                          float *rstd, int64_t T, int64_t H, double eps, double p, uint64_t key, int threads);
    void (*residual_norm_back)(const float *dy, const float *normed, const float *rstd, const float *weight, float *dx, float *d_residual,
                               float *d_weight, float *d_bias, float *room, int64_t T, int64_t H, double p, uint64_t key, int threads);
    void (*column_sums)(const float *x, float *y, int64_t T, int64_t N, int threads);
    size_t (*attention_scratch)(int length, int head);
    void (*attend_forward)(const float *qkv, const int32_t *starts, int sequences, int heads, int H, const int64_t *where, float *weights,
                           float *context, double p, uint64_t key, float *scratch, int longest, int threads);
    void (*attend_backward)(const float *qkv, const int32_t *starts, int sequences, int heads, int H, const int64_t *where,
                            const float *weights, const float *d_context, float *d_qkv, double p, uint64_t key, float *scratch,
                            int longest, int threads);
    void (*adamw)(float *w, float *m, float *v, const float *g, int64_t n, const Adam *, const AdamStep *, double clip, int threads);
    void (*adamw_rows)(float *w, float *m, float *v, int32_t *last, const int64_t *rows, const float *grad, int64_t count, int64_t E,
                       const Adam *, const AdamStep *steps, const double *kept, int64_t step, double clip, int threads);
    double (*sum_squares)(const float *x, int64_t n, double *room, int threads);
} Training;

/* The kernels at one instruction set level. Strides are in floats. */
typedef struct {
    const char *name;
    int32_t panel, panel8; /* outputs in a panel of weights, in fp32 and in int8 */

    /* Rows of weights (rows, K), the matrix's rows from first on, into panels that hold zeros where no row is, with scale and sum of each
     * row of the matrix; these are left alone where normalize_rows is NULL. */
    void (*pack_panels)(const float *w, int rows, int width, int first, float *panels, float *scale, float *sum);
    /* The same quantised by row. */
    void (*pack_panels8)(const float *w, int rows, int width, int first, int8_t *panels, float *scale, float *sum);

    /* Panels first to last of y (T, N) = activation(x (T, K) W^T + b), or, without activation, + residual (T, N) if that is not NULL;
     * it may be y, whose stride it has. */
    void (*gemm)(const Linear *, Rows x, int rows, float *y, size_t stride, const float *residual, int activation, int first, int last);
    /* The same of quantised rows. */
    void (*gemm8)(const Linear *, Quantised x, int rows, float *y, size_t stride, const float *residual, int activation, int first,
                     int last);
    /* What product is given in place of x (T, K), each row by itself; to.x may be x. NULL where product is given x. */
    void (*normalize_rows)(const float *x, size_t stride, int rows, int width, Rows to);
    /* Rows of x (T, K), each by itself. */
    void (*quantise_rows)(const float *x, size_t stride, int rows, int width, Quantised to);
    /* One head of one sequence, of the queries first to last: qkv points to its q in rows of 3H, context to its place in rows of H. */
    void (*attention)(const float *qkv, int length, int width, int head, int first, int last, const float *bias, int reach,
                      const Relative *, float *context, float *scratch);
    /* The same for layers in int8: in whole numbers of 16 bits where the text is long. */
    void (*attention16)(const float *qkv, int length, int width, int head, int first, int last, const float *bias, int reach,
                        const Relative *, float *context, float *scratch);
    /* Queries and keys of one head of one sequence turned by the angles of their positions, in place. */
    void (*rotate)(float *qkv, int length, int width, int head, const int64_t *positions, const float *rotary);
    /* Floats of scratch that attention over so many tokens needs, with so many rows of relative positions. */
    size_t (*attention_scratch)(int length, int head, int relative_rows);
    /* Layer norm of rows of x (T, H) into y, which may be x; what each row was multiplied by into scale (T), unless that is NULL. */
    void (*layer_norm)(const float *x, int rows, int width, Norm, float eps, float *y, float *scale);
    /* One row of x (H) less its mean, times weight (H), into y, which may be x. */
    void (*center_row)(const float *x, int width, const float *weight, float *y);
    /* y = (a + b) scale + bias, of so many floats. */
    void (*combine_rows)(const float *a, const float *b, float scale, const float *bias, int width, float *y);
    /* y + x + ... of the tables: one token's embedding before its norm. */
    void (*add_row)(float *y, const float *x, int width);
    /* y times x, of so many floats. */
    void (*multiply_row)(float *y, const float *x, int width);
    /* One vector (H) for a sequence x (L, H), its first tokens left out. */
    void (*pool)(const float *x, int length, int width, int mode, int skip, float *y);
    const Training *training;
} Kernels;

/* The first layer's queries, keys and values from rows of the embedding tables, and the cache of them: see qkv_cache.c. */
typedef struct {
    Linear product;    /* E -> 3H without bias; inward is 0 where they are computed as in other layers */
    const float *bias; /* (3H) */
} FirstQkv;

typedef struct {
    int32_t *row_of_key; /* of each key: 1 + its row, 0 for none */
    int32_t *key_of_row; /* of each row */
    uint32_t *last_batch; /* of each row: the number of the last batch that used it */
    int32_t *new_rows;   /* the rows that this batch adds */
    float *rows;         /* (capacity, 3H) */
    int32_t capacity, count;
    int32_t next;   /* the row that is evicted next, if this batch does not use it */
    uint32_t batch; /* the number of this one */
} QkvCache;

/* The whole model, and its batches: see encode.c. */
typedef struct {
    const Kernels *kernels;
    Embedding embedding;
    FirstQkv first_qkv;
    const Layer *layer;
    int32_t layers, width; /* number of layers, H */
    float eps;
    int32_t pre_norm; /* whether norms come before attention and feed-forward part */
    Norm last_norm;   /* then once more at the end */
} Encoder;

typedef struct {
    const int64_t *ids, *positions, *segments; /* (T) each; segments may be NULL for all zeros */
    const int32_t *starts;                     /* first token of each sequence, and T: (sequences + 1) */
    int32_t sequences;
    QkvCache *qkv_cache; /* from batches before, NULL where the model has no FirstQkv */
} Batch;

/* What is wanted of a batch; each may be NULL. */
typedef struct {
    float *hidden;        /* (T, H) hidden states of the last layer */
    float *states;        /* (layers + 1, T, H) those after the embeddings and after each layer */
    float *pooled;        /* (sequences, modes, H) */
    const int32_t *mode;  /* the kinds of pooling */
    int32_t modes, skip;  /* how many; tokens that they leave out at the beginning of a sequence */
} Output;

#endif
