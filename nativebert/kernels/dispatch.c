/* Which levels there are, and which this processor can run.
 *
 * Contents: a test of the processor for each level; kernels_level(), which Python calls.
 */
#include <string.h>

#include "kernels.h"

extern const Kernels kernels_portable;
#if defined(__x86_64__)
#include <cpuid.h>

extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512vnni, kernels_zen4, kernels_zen5;

static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}

static int has_avx512vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

/* AMD's first processors with these instructions are of Zen 4; like those after them they add beside what they multiply. */
static int has_zen4(void) { return has_avx512vnni() && __builtin_cpu_is("amd"); }

/* Zen 5 is family 1Ah, and multiplies and adds vectors of 512 bits at a time where Zen 4 takes two turns. */
static int has_zen5(void)
{
    unsigned signature, b, c, d;
    return has_zen4() && __get_cpuid(1, &signature, &b, &c, &d) && (signature >> 8 & 15) + (signature >> 20 & 255) >= 0x1a;
}
#endif

static int always(void) { return 1; }

/* The fastest first. */
static const struct {
    const Kernels *kernels;
    int (*runs)(void);
} levels[] = {
#if defined(__x86_64__)
    {&kernels_zen5, has_zen5},
    {&kernels_zen4, has_zen4},
    {&kernels_avx512vnni, has_avx512vnni},
    {&kernels_avx512, has_avx512},
    {&kernels_avx2, has_avx2},
#endif
    {&kernels_portable, always},
};

/* The kernels of level number n on this processor, counted from the fastest that it runs; NULL beyond the last. */
const Kernels *kernels_level(int32_t n)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].runs() && n-- == 0)
            return levels[i].kernels;
    return NULL;
}
