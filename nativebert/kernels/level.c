/* All kernels at one instruction set level. Compiled once for each, with its compiler flags, its name in LEVEL, and PAIRS where additions
 * have units of their own: see setup.py. */
#include <math.h>

#include "kernels.h"
#include "vec.h"

#include "activation.c"
#include "attention.c"
#include "norm.c"
#include "pack8.c"
#include "pool.c"
#if defined(PAIRS)
#include "pairs.c"
#else
#include "product.c"
#endif
#include "product8.c"
#include "quantise.c"

#define JOIN(a, b) a##b
#define TABLE(level) JOIN(kernels_, level)
#define TEXT(name) #name
#define QUOTED(name) TEXT(name)

extern const Kernels TABLE(LEVEL);
const Kernels TABLE(LEVEL) = {
    .name = QUOTED(LEVEL),
#if defined(PAIRS)
    .panel = PAIRED_PANEL,
    .balance = balance,
#else
    .panel = PANEL,
    .balance = NULL,
#endif
    .panel8 = PANEL,
    .pack = pack,
    .pack8 = pack8,
    .product = product,
    .product8 = product8,
    .quantise = quantise,
    .attention = attention,
    .attention_scratch = attention_scratch,
    .norm = norm,
    .centre = centre,
    .combine = combine,
    .add = add,
    .pool = pool,
};
