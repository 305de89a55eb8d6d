/* SIMD vectors of REAL-byte numbers with GCC's vector extensions, and the activations on them.

   Compiled for the machine at hand; sizes and registers follow its instruction set. NaN passes through everything. */

#include <stdint.h>
#include <string.h>
#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if REAL == 8
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif

#if defined(__AVX512F__)
#define WIDTH 64
#define REGISTERS 32
#elif defined(__AVX__)
#define WIDTH 32
#define REGISTERS 16
#else
#define WIDTH 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#endif

#define LANES (WIDTH / REAL)
#define UNROLL (REGISTERS == 32 ? 2 : 1)
#define ALWAYS static inline __attribute__((always_inline, unused))
#define APART static __attribute__((noinline))
#define EACH(i, count) _Pragma("GCC unroll 16") for (int i = 0; i < (count); i++)

typedef real vec __attribute__((vector_size(WIDTH)));
typedef whole ivec __attribute__((vector_size(WIDTH)));
typedef real loose __attribute__((vector_size(WIDTH), aligned(sizeof(real)), may_alias));

/* Which lanes are active: one bit a lane where the machine has mask registers, else a vector of 0 and -1. */
#if defined(__AVX512F__) && REAL == 8
typedef __mmask8 lanes;
#elif defined(__AVX512F__)
typedef __mmask16 lanes;
#else
typedef ivec lanes;
#endif

ALWAYS vec splat(real a) { return a - (vec){0}; }
ALWAYS vec select_(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

/* max(min(a, high), low); NaN stays NaN. */
ALWAYS vec clamp(vec a, real low, real high) {
#if defined(__AVX512F__) && REAL == 8
  return (vec)_mm512_max_pd((__m512d)splat(low), _mm512_min_pd((__m512d)splat(high), (__m512d)a));
#elif defined(__AVX512F__)
  return (vec)_mm512_max_ps((__m512)splat(low), _mm512_min_ps((__m512)splat(high), (__m512)a));
#elif defined(__AVX__) && REAL == 8
  return (vec)_mm256_max_pd((__m256d)splat(low), _mm256_min_pd((__m256d)splat(high), (__m256d)a));
#elif defined(__AVX__)
  return (vec)_mm256_max_ps((__m256)splat(low), _mm256_min_ps((__m256)splat(high), (__m256)a));
#else
  a = select_(a > splat(high), splat(high), a);
  return select_(a < splat(low), splat(low), a);
#endif
}

/* Lanes with a > 0 or NaN, and a vector with zeros in the other lanes. */
ALWAYS lanes positive(vec a) {
#if defined(__AVX512F__) && REAL == 8
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)splat(0), _CMP_NLE_UQ);
#elif defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)splat(0), _CMP_NLE_UQ);
#else
  return ~(a <= splat(0));
#endif
}

ALWAYS vec where(lanes active, vec a) {
#if defined(__AVX512F__) && REAL == 8
  return (vec)_mm512_maskz_mov_pd(active, (__m512d)a);
#elif defined(__AVX512F__)
  return (vec)_mm512_maskz_mov_ps(active, (__m512)a);
#else
  return (vec)((ivec)a & active);
#endif
}

/* exp(x) = 2^n p(r), |r| <= log(2)/2, p = 1 + r + r^2 q(r) with relative error 2e-17 (float: 1e-8). Adding SHIFTER
   rounds to an integer, which then stands in the low bits, from where it goes into the exponent. */
#if REAL == 8
#define SHIFTER 6755399441055744.0
#define MANTISSA 52
#define EXP_LIMIT 708.0
static const real EXP[] = {2.5100424157005066788e-8,
                           2.7620138719733995569e-7,
                           2.7557268378684192873e-6,
                           0.000024801521190217727651,
                           0.00019841269863105968748,
                           0.0013888888917281793308,
                           0.0083333333333300513464,
                           0.041666666666623991516,
                           0.16666666666666667456,
                           0.50000000000000010262,
                           1,
                           1};
#else
#define SHIFTER 12582912.0f
#define MANTISSA 23
#define EXP_LIMIT 87.0f
static const real EXP[] = {0.0013926213466332443037f,
                           0.0083632029715758549465f,
                           0.041666554437685938899f,
                           0.16666576845993976311f,
                           0.5f,
                           1,
                           1};
#endif
#define EXP_TERMS ((int)(sizeof(EXP) / sizeof(real)))

ALWAYS vec horner(const real* c, int terms, vec x) {
  vec sum = splat(c[0]);
  EACH (i, terms - 1) sum = sum * x + c[i + 1];
  return sum;
}

/* r, and n in the place of the exponent. */
ALWAYS vec reduce(vec x, ivec* power) {
  const vec shifted = x * (real)1.4426950408889634074 + SHIFTER;
  *power = (ivec)shifted << MANTISSA;
  return x - (shifted - SHIFTER) * (real)0.69314718055994530942;
}

ALWAYS vec exponential(vec x) {
  ivec power;
  const vec r = reduce(x, &power);
  return (vec)((ivec)horner(EXP, EXP_TERMS, r) + power);
}

ALWAYS vec sigmoid(vec x) { return 1 / (1 + exponential(-clamp(x, -EXP_LIMIT, EXP_LIMIT))); }

/* (e^2x - 1) / (e^2x + 1) at |x|, exact to rounding near 0, odd bit by bit. */
ALWAYS vec hyperbolic_tangent(vec x) {
  const ivec sign = (ivec)x & (ivec)splat((real)-0.0);
  ivec power;
  const vec r = reduce(clamp(2 * (vec)((ivec)x ^ sign), 0, 44), &power);
  const vec tail = r + (r * r) * horner(EXP, EXP_TERMS - 2, r), scale = (vec)((ivec)splat(1) + power);
  const vec minus_one = scale * tail + (scale - 1);
  return (vec)((ivec)(minus_one / (minus_one + 2)) ^ sign);
}

/* Below 1 an odd polynomial, above 1 - exp(-x^2) times a polynomial in 1/(x + 3); gauss = exp(-x^2). */
static const real ERF_NEAR[] = {-7.7958988270021422416e-10, 1.3720064546777685604e-8,    -1.6208483801871705902e-7,
                                1.644742470331736241e-6,    -0.000014924736907419660338, 0.00012055294904839707917,
                                -0.00085483259753896920806, 0.0052239776071164227321,    -0.02686617064323777036,
                                0.11283791670945006266,     -0.37612638903183540438,     1.1283791670955125665};
static const real ERF_FAR[] = {-2.3736182042986788177e-10, 2.4416129982547696244e-10, 1.1314785641441369648e-8,
                               4.5512675485929949251e-9,   -5.5411258481609424031e-7, -2.4255722116117702011e-6,
                               0.000019563578906857694466, 0.00033160296487534609736, 0.0024793146976212768179,
                               0.012713147695154857327,    0.049698445403375212692,   0.15436117429438836151,
                               0.2079832913334288618};

ALWAYS vec error_function(vec x, vec* gauss) {
  const ivec sign = (ivec)x & (ivec)splat((real)-0.0);
  const vec size = (vec)((ivec)x ^ sign);
  *gauss = exponential(clamp(-(x * x), -EXP_LIMIT, 0));
  const vec near = size * horner(ERF_NEAR, 12, x * x);
  const vec far = 1 - *gauss * horner(ERF_FAR, 13, (real)14.4 / (size + 3) - (real)2.6);
  return (vec)((ivec)select_(size < splat(1), near, far) ^ sign);
}

/* ---- memory and sums --------------------------------------------------------------------------------------------- */

/* The first `count` numbers at p, zeros behind them; and the first `count` of v to p. */
#if defined(__AVX512F__) && REAL == 8
#define FIRST(count) ((__mmask8)((1u << (count)) - 1))
ALWAYS vec load_first(const real* p, int64_t count) { return (vec)_mm512_maskz_loadu_pd(FIRST(count), p); }
ALWAYS void store_first(real* p, vec v, int64_t count) { _mm512_mask_storeu_pd(p, FIRST(count), (__m512d)v); }
#elif defined(__AVX512F__)
#define FIRST(count) ((__mmask16)((1u << (count)) - 1))
ALWAYS vec load_first(const real* p, int64_t count) { return (vec)_mm512_maskz_loadu_ps(FIRST(count), p); }
ALWAYS void store_first(real* p, vec v, int64_t count) { _mm512_mask_storeu_ps(p, FIRST(count), (__m512)v); }
#elif defined(__AVX__)
#define FIRST(count) ((__m256i)((ivec){PLACES} < (whole)(count)))
#if REAL == 8
#define PLACES 0, 1, 2, 3
ALWAYS vec load_first(const real* p, int64_t count) { return (vec)_mm256_maskload_pd(p, FIRST(count)); }
ALWAYS void store_first(real* p, vec v, int64_t count) { _mm256_maskstore_pd(p, FIRST(count), (__m256d)v); }
#else
#define PLACES 0, 1, 2, 3, 4, 5, 6, 7
ALWAYS vec load_first(const real* p, int64_t count) { return (vec)_mm256_maskload_ps(p, FIRST(count)); }
ALWAYS void store_first(real* p, vec v, int64_t count) { _mm256_maskstore_ps(p, FIRST(count), (__m256)v); }
#endif
#else
ALWAYS vec load_first(const real* p, int64_t count) {
  vec v = {0};
  memcpy(&v, p, (size_t)count * sizeof(real));
  return v;
}
ALWAYS void store_first(real* p, vec v, int64_t count) { memcpy(p, &v, (size_t)count * sizeof(real)); }
#endif
ALWAYS vec load(const real* p, int64_t count) {
  if (count >= LANES) return *(const loose*)p;
  return load_first(p, count > 0 ? count : 0);
}
ALWAYS void store(real* p, vec v, int64_t count) {
  if (count >= LANES)
    *(loose*)p = v;
  else
    store_first(p, v, count > 0 ? count : 0);
}

/* Sums of neighbours: a0 + a1, a2 + a3, ..., b0 + b1, ... */
#if LANES == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#elif LANES == 4
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#else
#define EVEN 0, 2
#define ODD 1, 3
#endif
#if defined(__clang__)
ALWAYS vec pair(vec a, vec b) { return __builtin_shufflevector(a, b, EVEN) + __builtin_shufflevector(a, b, ODD); }
#else
ALWAYS vec pair(vec a, vec b) { return __builtin_shuffle(a, b, (ivec){EVEN}) + __builtin_shuffle(a, b, (ivec){ODD}); }
#endif

/* The sum over the lanes of each of ROWS vectors, a power of two up to LANES; in the first ROWS lanes. */
ALWAYS vec totals(const int ROWS, const vec* rows) {
  vec sums[LANES];
  EACH (l, ROWS) sums[l] = rows[l];
  for (int left = ROWS / 2; left; left /= 2)
    EACH (l, left) sums[l] = pair(sums[2 * l], sums[2 * l + 1]);
  for (int done = ROWS; done < LANES; done *= 2) sums[0] = pair(sums[0], sums[0]);
  return sums[0];
}
