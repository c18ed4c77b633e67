/* All kernels at one instruction set level, and the table of them.
 *
 * RE-INCLUDED PER TARGET: setup.py compiles this one file once for each level, with the level's compiler flags, its name in LEVEL, and
 * WINOGRAD where additions have units of their own. The files included below are parts of it, are never compiled alone, and have only
 * static names; headers and enums (LANES, PANEL, TILE_ROWS) take the level's sizes.
 */
#include <math.h>

#include "kernels.h"
#include "vec.h"

#include "activation.c"
#include "attention.c"
#include "attention16.c"
#include "norm.c"
#include "pack8.c"
#include "pool.c"
#if defined(WINOGRAD)
#include "winograd.c"
#else
#include "product.c"
#endif
#include "product8.c"
#include "quantise.c"

#define JOIN(a, b) a##b
#define TABLE(level) JOIN(kernels_, level)
#define TRAINING(level) JOIN(training_, level)
#define TEXT(name) #name
#define STRING(name) TEXT(name)

extern const Kernels TABLE(LEVEL);

#include "train.c"

const Kernels TABLE(LEVEL) = {
    .name = STRING(LEVEL),
#if defined(WINOGRAD)
    .panel = WINOGRAD_PANEL,
    .normalize_rows = normalize_rows,
#else
    .panel = PANEL,
    .normalize_rows = NULL,
#endif
    .panel8 = PANEL,
    .pack_panels = pack_panels,
    .pack_panels8 = pack_panels8,
    .gemm = gemm,
    .gemm8 = gemm8,
    .quantise_rows = quantise_rows,
    .attention = attention,
    .attention16 = attention16,
    .rotate = rotate,
    .attention_scratch = attention_scratch,
    .layer_norm = layer_norm,
    .center_row = center_row,
    .combine_rows = combine_rows,
    .add_row = add_row,
    .multiply_row = multiply_row,
    .pool = pool,
    .training = &TRAINING(LEVEL),
};
