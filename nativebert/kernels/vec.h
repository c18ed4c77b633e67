/* A vector of LANES floats at the instruction set level that this is compiled for, and the size of the tiles that its registers hold.
 *
 * Sums, products and comparisons are the compiler's vector extension (GCC, Clang); what it has no operator for is here. Nothing is
 * contracted behind our back (-ffp-contract=off): where multiply and add are one rounding, fma() says so.
 *
 * Contents: LANES, TILE_ROWS, TILE_VECTORS, PANEL; load, store, fma_, min_, max_; interleave; reduce_add, reduce_max, reduce_min; exp_;
 * dot4, dot2.
 */
#ifndef NATIVEBERT_VEC_H
#define NATIVEBERT_VEC_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 8, TILE_VECTORS = 3 }; /* 24 of 32 registers are sums */
#elif defined(__AVX2__)
enum { LANES = 8, TILE_ROWS = 6, TILE_VECTORS = 2 }; /* 12 of 16 */
#else
enum { LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2 };
#endif
enum { PANEL = TILE_VECTORS * LANES };

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES)));
typedef uint8_t ByteVec __attribute__((vector_size(LANES)));

INLINE Vec broadcast(float x) { return x - (Vec){0}; } /* not +, which would make 0 of -0 */

INLINE Vec load(const float *from)
{
    Vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, Vec v) { memcpy(to, &v, sizeof v); }

/* The first count floats, and zeros. */
INLINE Vec load_part(const float *from, int count)
{
    if (count >= LANES)
        return load(from);
    Vec v = {0};
    memcpy(&v, from, sizeof(float) * (size_t)count);
    return v;
}

INLINE void store_part(float *to, Vec v, int count)
{
    if (count >= LANES)
        store(to, v);
    else
        memcpy(to, &v, sizeof(float) * (size_t)count);
}

/* a * b + c with one rounding, but for the portable level, where it has two. */
INLINE Vec fma_(Vec a, Vec b, Vec c)
{
#if defined(__AVX512F__)
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* The larger of each pair; where one is NaN, b. */
INLINE Vec max_(Vec a, Vec b)
{
#if defined(__AVX512F__)
    return (Vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    IntVec a_is = a > b;
    return (Vec)(((IntVec)a & a_is) | ((IntVec)b & ~a_is));
#endif
}

/* The smaller of each pair; where one is NaN, b. */
INLINE Vec min_(Vec a, Vec b)
{
#if defined(__AVX512F__)
    return (Vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    IntVec a_is = a < b;
    return (Vec)(((IntVec)a & a_is) | ((IntVec)b & ~a_is));
#endif
}

/* from[at] for each lane. */
INLINE Vec gather(const float *from, IntVec at)
{
#if defined(__AVX512F__)
    return (Vec)_mm512_i32gather_ps((__m512i)at, from, 4);
#elif defined(__AVX2__)
    return (Vec)_mm256_i32gather_ps(from, (__m256i)at, 4);
#else
    Vec v;
    for (int i = 0; i < LANES; i++)
        v[i] = from[at[i]];
    return v;
#endif
}

/* The first halves of a and b, a lane of each in turn; and their second halves. */
#if defined(__AVX512F__)
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW_LANES 0, 4, 1, 5
#define HIGH_LANES 2, 6, 3, 7
#endif
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (IntVec){__VA_ARGS__})
#endif

INLINE Vec interleave_low(Vec a, Vec b) { return SHUFFLE(a, b, LOW_LANES); }

INLINE Vec interleave_high(Vec a, Vec b) { return SHUFFLE(a, b, HIGH_LANES); }

/* Sum, largest and smallest of the lanes: halves upon halves. */
INLINE float reduce_add(Vec v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] += v[i + half];
    return v[0];
#endif
}

INLINE float reduce_max(Vec v)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
    return v[0];
#endif
}

INLINE float reduce_min(Vec v) { return -reduce_max(-v); }

/* e^x to about 2 units in the last place, from x = n ln 2 + r with |r| <= ln 2 / 2 and a polynomial in r (Cephes, expf). Beyond +-87 it
 * is that of +-87; NaN stays NaN. */
INLINE Vec exp_(Vec x)
{
    x = max_(broadcast(-87.0f), min_(broadcast(87.0f), x));
    const Vec whole = broadcast(12582912.0f); /* 3 * 2^22: adding it leaves the nearest integer in the low bits */
    Vec shifted = fma_(x, broadcast(1.44269504f), whole);
    Vec n = shifted - whole;
    Vec r = fma_(n, broadcast(-0.693359375f), x);
    r = fma_(n, broadcast(2.12194440e-4f), r);
    Vec p = broadcast(1.9875691500e-4f);
    p = fma_(p, r, broadcast(1.3981999507e-3f));
    p = fma_(p, r, broadcast(8.3334519073e-3f));
    p = fma_(p, r, broadcast(4.1665795894e-2f));
    p = fma_(p, r, broadcast(1.6666665459e-1f));
    p = fma_(p, r, broadcast(5.0000001201e-1f));
    p = fma_(p, r * r, r + 1.0f);
    return (Vec)((IntVec)p + ((IntVec)shifted << 23)); /* times 2^n */
}

INLINE IntVec broadcast_int(int32_t x) { return x + (IntVec){0}; }

/* sum + the four products of an unsigned byte of a with a signed byte of b, in each lane; exact. */
INLINE IntVec dot4(IntVec sum, IntVec a, IntVec b)
{
#if defined(__AVX512VNNI__)
    return (IntVec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__) || (defined(__AVX2__) && !defined(__AVX512F__))
    /* even and odd bytes as 16-bit numbers; those of b, which many a share, are found once by the compiler */
    const IntVec low = broadcast_int(0x00ff00ff);
    IntVec a_even = a & low, a_odd = (IntVec)((a >> 8) & low);
#if defined(__AVX512BW__)
    __m512i b_even = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)b, 8), 8), b_odd = _mm512_srai_epi16((__m512i)b, 8);
    return sum + (IntVec)_mm512_madd_epi16((__m512i)a_even, b_even) + (IntVec)_mm512_madd_epi16((__m512i)a_odd, b_odd);
#else
    __m256i b_even = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)b, 8), 8), b_odd = _mm256_srai_epi16((__m256i)b, 8);
    return sum + (IntVec)_mm256_madd_epi16((__m256i)a_even, b_even) + (IntVec)_mm256_madd_epi16((__m256i)a_odd, b_odd);
#endif
#else
    sum += (a & 255) * ((b << 24) >> 24);
    sum += ((a >> 8) & 255) * ((b << 16) >> 24);
    sum += ((a >> 16) & 255) * ((b << 8) >> 24);
    return sum + ((a >> 24) & 255) * (b >> 24);
#endif
}

/* sum + the two products of signed 16-bit numbers of a and b, in each lane; exact. */
INLINE IntVec dot2(IntVec sum, IntVec a, IntVec b)
{
#if defined(__AVX512VNNI__)
    return (IntVec)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return sum + (IntVec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && !defined(__AVX512F__)
    return sum + (IntVec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

#endif
