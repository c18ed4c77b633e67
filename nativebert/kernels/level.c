/* All kernels at one instruction set level. Compiled once for each, with its compiler flags and its name in LEVEL: see setup.py. */
#include <math.h>

#include "kernels.h"
#include "vec.h"

#include "activation.c"
#include "attention.c"
#include "norm.c"
#include "pack.c"
#include "pool.c"
#include "product.c"
#include "product8.c"
#include "quantise.c"

#define JOIN(a, b) a##b
#define TABLE(level) JOIN(kernels_, level)
#define TEXT(name) #name
#define QUOTED(name) TEXT(name)

extern const Kernels TABLE(LEVEL);
const Kernels TABLE(LEVEL) = {
    .name = QUOTED(LEVEL),
    .panel = PANEL,
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
