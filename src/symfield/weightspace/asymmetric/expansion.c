/* Trainable entries into a weight, and those of its gradient out of it, in the order of memory.

   Bit i of `bits` (of bytes in ascending order, least significant bit first) says whether entry i is trainable; `count`
   of `size` are. Entries are moved and never computed with, so that results are those of a scatter and a gather, bit by
   bit. With AVX2 a vector at a time, one by one where it would reach beyond the last trainable entry. Without AVX2 there
   is nothing to gain on a scatter, and `symfield_lanes` says so by 1. Whatever the bits are, nothing outside of `size` and
   `count` is read or written. */

#include <stdint.h>
#include <string.h>

#if REAL == 8
typedef double real;
#else
typedef float real;
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#define LANES (32 / REAL)
#define WORDS (REAL / 4) /* of four bytes in an entry: lanes are permuted by words */

/* for each mask, a byte a word: 255 where it is trainable, how many before it are, and which are, one after the other */
static struct {
  uint64_t on, before, which;
} tables[1 << LANES];

__attribute__((constructor)) static void fill(void) {
  for (uint32_t mask = 0; mask < 1u << LANES; mask++) {
    uint64_t found = 0;
    for (uint64_t word = 0; word < 8; word++) {
      tables[mask].before |= found << 8 * word;
      if (!(mask >> word / WORDS & 1)) continue;
      tables[mask].on |= (uint64_t)255 << 8 * word;
      tables[mask].which |= word << 8 * found++;
    }
  }
}

static inline __m256i load(const void *p) { return _mm256_loadu_si256(p); }
static inline __m256i lanes(uint64_t bytes) { return _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes)); }

static inline void spread(const real *entries, const real *fixed, uint32_t mask, real *dense) {
  const __m256i placed = _mm256_permutevar8x32_epi32(load(entries), lanes(tables[mask].before));
  _mm256_storeu_si256((void *)dense, _mm256_blendv_epi8(load(fixed), placed, lanes(tables[mask].on)));
}

static inline void collect(const real *dense, uint32_t mask, real *entries) {
  _mm256_storeu_si256((void *)entries, _mm256_permutevar8x32_epi32(load(dense), lanes(tables[mask].which)));
}
#endif

/* how many entries are moved at once */
int symfield_lanes(void) {
#ifdef LANES
  return LANES;
#else
  return 1;
#endif
}

/* the bits of `lanes` entries from i on, of which i is a multiple */
static inline uint32_t mask_at(const uint8_t *bits, int64_t i, int lanes) {
  return bits[i >> 3] >> (i & 7) & ((1u << lanes) - 1);
}

/* dense[i] = the next of `entries` where i is trainable, fixed[i] elsewhere */
void symfield_expand(
    const real *entries, int64_t count, const real *fixed, const uint8_t *bits, int64_t size, real *dense) {
  const real *end = entries + count;
  int64_t i = 0;
#ifdef LANES
  for (; i + LANES <= size && end - entries >= LANES; i += LANES) {
    const uint32_t mask = mask_at(bits, i, LANES);
    spread(entries, fixed + i, mask, dense + i);
    entries += __builtin_popcount(mask);
  }
#endif
  memcpy(dense + i, fixed + i, (size_t)(size - i) * sizeof(real));
  for (; i < size && entries < end; i++)
    if (mask_at(bits, i, 1)) dense[i] = *entries++;
}

/* the trainable entries of `dense`, one after the other */
void symfield_compress(const real *dense, const uint8_t *bits, int64_t size, real *entries, int64_t count) {
  real *end = entries + count;
  int64_t i = 0;
#ifdef LANES
  for (; i + LANES <= size && end - entries >= LANES; i += LANES) {
    const uint32_t mask = mask_at(bits, i, LANES);
    collect(dense + i, mask, entries);
    entries += __builtin_popcount(mask);
  }
#endif
  for (; i < size && entries < end; i++)
    if (mask_at(bits, i, 1)) *entries++ = dense[i];
}
