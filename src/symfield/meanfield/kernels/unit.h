/* One kind of unit on one block of particles: the forward and the backward half of a step.

   Macros fix the kind: REAL (4 or 8 bytes), ACTIVATION (0 identity, 1 relu, 2 sigmoid, 3 tanh, 4 erf),
   POINTWISE (1: sigma(z.x); 0: W sigma(A'x + B)), SINGLE (1: W sigma(A'x + B) with one hidden coordinate), IN, OUT,
   BIAS.

   A unit is a sum of parts: a part has IN weights a (and a bias), one pre-activation, and feeds one output (pointwise,
   OUT parts) or all of them through w (hidden, `hidden` parts). Particles are the lanes of SIMD vectors; up to UNROLL
   vectors make a block, whose weights stay in registers while the samples pass by. What the backward half needs of the
   pre-activations is kept: nothing, a bit (relu), the slope, the value, or both. */

#include "vectors.h"

/* What is kept of a part at a sample. A relu or linear unit with one output needs no value: its gradient in w is
   (a . gradient in a) / w. */
#define FOLDED (!POINTWISE && OUT == 1 && ACTIVATION <= 1)
#define SLOPES (POINTWISE || FOLDED)
#define KEPT_LANES (SLOPES && ACTIVATION == 1)
#define KEPT_VECTORS (SLOPES && ACTIVATION <= 1 ? 0 : !POINTWISE && ACTIVATION == 4 ? 2 : 1)

/* Weights of a part that fit the registers, beside w, the sums and a few temporaries; more are taken in tiles. */
#define OUTER (POINTWISE ? 1 : OUT)
#define ROOM (REGISTERS / UNROLL - 3 - (OUTER < 4 ? OUTER : 4))
#define TILE (IN <= ROOM ? IN : 8)
#define LAST_TILE ((IN - 1) / TILE * TILE)

/* One block in work. Handed over by value: its fields then live in registers. */
typedef struct {
  int64_t b, parts;
  vec *z, *move, *room, *error, *kept; /* parameters, displacement, one vector a sample, sums over particles, values */
  lanes* active;
  const vec* live; /* 1 for particles, 0 for padding */
  const real *x, *residual;
} block;

/* The number of parts, known beforehand for most units. */
#define PARTS(B) (POINTWISE ? OUT : SINGLE ? 1 : (B).parts)

/* Row of the parameters of part j. */
ALWAYS int64_t row_a(const block B, int64_t j, int t) { return POINTWISE ? j * IN + t : (OUT + t) * PARTS(B) + j; }
ALWAYS int64_t row_w(const block B, int64_t j, int o) { return o * PARTS(B) + j; }
ALWAYS int64_t row_bias(const block B, int64_t j) { return (OUT + IN) * PARTS(B) + j; }

/* ---- forward: values into the sums over particles ---------------------------------------------------------------- */

/* Value of the activation; slope is its derivative, for relu in active. */
ALWAYS vec activate(vec pre, vec* slope, lanes* active) {
  (void)slope, (void)active;
#if ACTIVATION == 0
  *slope = splat(1);
  return pre;
#elif ACTIVATION == 1
  *active = positive(pre);
  return where(*active, pre);
#elif ACTIVATION == 2
  const vec value = sigmoid(pre);
  *slope = value - value * value;
  return value;
#elif ACTIVATION == 3
  const vec value = hyperbolic_tangent(pre);
  *slope = 1 - value * value;
  return value;
#else
  vec gauss;
  const vec value = error_function(pre, &gauss);
  *slope = gauss * (real)1.12837916709551257390;
  return value;
#endif
}

/* Sample i of part j: keep what the backward half needs, add into the outputs. */
ALWAYS void emit(const int U, const block B, int64_t j, int64_t i, const vec* pre, const vec* w) {
  const int64_t at = (j * B.b + i) * U;
  vec *error = B.error + i * OUT + (POINTWISE ? j : 0), value[UNROLL], slope[UNROLL];
  lanes active[UNROLL];
  EACH (u, U) {
    value[u] = activate(pre[u], &slope[u], &active[u]);
    if (KEPT_LANES) B.active[at + u] = active[u];
    if (KEPT_VECTORS == 2) B.kept[2 * (at + u)] = value[u], B.kept[2 * (at + u) + 1] = slope[u];
    if (KEPT_VECTORS == 1) B.kept[at + u] = SLOPES ? slope[u] : value[u];
  }
  EACH (o, OUTER) {
    vec sum = error[o];
    EACH (u, U) sum += w[o * U + u] * value[u];
    error[o] = sum;
  }
}

ALWAYS void forward_tile(const int U, const int COUNT, const int last, const block B, int64_t j, int first,
                         const vec* w) {
  vec a[TILE * UNROLL], start[UNROLL];
  EACH (t, COUNT)
    EACH (u, U) a[t * U + u] = B.z[row_a(B, j, first + t) * U + u];
  EACH (u, U) start[u] = BIAS ? B.z[row_bias(B, j) * U + u] : splat(0);
  for (int64_t i = 0; i < B.b; i++) {
    const real* x = B.x + i * IN + first;
    vec pre[UNROLL];
    EACH (u, U) pre[u] = first ? B.room[i * U + u] : start[u];
    if (U == 1 && COUNT > 4) { /* two chains: one alone waits for itself */
      vec other = x[0] * a[0];
      EACH (t, COUNT / 2) pre[0] += x[2 * t + 1] * a[2 * t + 1];
      EACH (t, (COUNT - 1) / 2) other += x[2 * t + 2] * a[2 * t + 2];
      pre[0] += other;
    } else {
      EACH (t, COUNT)
        EACH (u, U) pre[u] += x[t] * a[t * U + u];
    }
    if (last)
      emit(U, B, j, i, pre, w);
    else
      EACH (u, U) B.room[i * U + u] = pre[u];
  }
}

ALWAYS void forward(const int U, const block B) {
  for (int64_t j = 0; j < PARTS(B); j++) {
    vec w[OUTER * UNROLL];
    EACH (o, OUTER)
      EACH (u, U) w[o * U + u] = POINTWISE ? B.live[u] : B.z[row_w(B, j, o) * U + u];
    for (int first = 0; first < LAST_TILE; first += TILE) forward_tile(U, TILE, 0, B, j, first, w);
    forward_tile(U, IN - LAST_TILE, 1, B, j, LAST_TILE, w);
  }
}

/* ---- backward: scaled residuals into displacements ----------------------------------------------------------------
 */

/* Cotangent of the pre-activation of part j at sample i; adds to the slope in w. */
ALWAYS void cotangent(const int U, const block B, int64_t j, int64_t i, const vec* w, vec* slope_w, vec* delta) {
  const int64_t at = (j * B.b + i) * U;
  const real* residual = B.residual + i * OUT + (POINTWISE ? j : 0);
  EACH (u, U) {
    vec pulled = splat(residual[0]);
    if (!POINTWISE && OUT > 1) {
      pulled = residual[0] * w[u];
      EACH (o, OUT - 1) pulled += residual[o + 1] * w[(o + 1) * U + u];
    }
    if (SLOPES) {
      delta[u] = KEPT_LANES ? where(B.active[at + u], pulled) : KEPT_VECTORS ? pulled * B.kept[at + u] : pulled;
      continue;
    }
    const vec value = B.kept[(at + u) * KEPT_VECTORS];
    EACH (o, OUT) slope_w[o * U + u] += residual[o] * value;
#if ACTIVATION == 0
    delta[u] = pulled;
#elif ACTIVATION == 1
    delta[u] = where(positive(value), pulled);
#elif ACTIVATION == 2
    delta[u] = pulled * (value - value * value);
#elif ACTIVATION == 3
    delta[u] = pulled * (1 - value * value);
#else
    delta[u] = pulled * B.kept[2 * (at + u) + 1];
#endif
  }
}

ALWAYS void backward_tile(const int U, const int COUNT, const block B, int64_t j, int first, const vec* w, vec* slope_w,
                          vec* slope_b) {
  vec slope[TILE * UNROLL], delta[UNROLL];
  EACH (t, COUNT)
    EACH (u, U) slope[t * U + u] = splat(0);
  for (int64_t i = 0; i < B.b; i++) {
    const real* x = B.x + i * IN + first;
    if (first == 0) {
      cotangent(U, B, j, i, w, slope_w, delta);
      EACH (u, U) slope_b[u] += delta[u];
      if (LAST_TILE)
        EACH (u, U) B.room[i * U + u] = delta[u];
    } else {
      EACH (u, U) delta[u] = B.room[i * U + u];
    }
    EACH (t, COUNT)
      EACH (u, U) slope[t * U + u] += x[t] * delta[u];
  }
  EACH (t, COUNT)
    EACH (u, U) {
      const int64_t at = row_a(B, j, first + t) * U + u;
      if (FOLDED) slope_w[u] += B.z[at] * slope[t * U + u];
      B.move[at] = POINTWISE || OUT > 1 ? slope[t * U + u] : w[u] * slope[t * U + u];
    }
}

ALWAYS void backward(const int U, const block B) {
  for (int64_t j = 0; j < PARTS(B); j++) {
    vec w[OUTER * UNROLL], slope_w[OUTER * UNROLL], slope_b[UNROLL];
    EACH (o, OUTER)
      EACH (u, U) {
        w[o * U + u] = POINTWISE ? splat(0) : B.z[row_w(B, j, o) * U + u];
        slope_w[o * U + u] = splat(0);
      }
    EACH (u, U) slope_b[u] = splat(0);
    for (int first = 0; first < LAST_TILE; first += TILE) backward_tile(U, TILE, B, j, first, w, slope_w, slope_b);
    backward_tile(U, IN - LAST_TILE, B, j, LAST_TILE, w, slope_w, slope_b);
    if (BIAS)
      EACH (u, U) {
        const int64_t at = row_bias(B, j) * U + u;
        if (FOLDED) slope_w[u] += B.z[at] * slope_b[u];
        B.move[at] = OUT > 1 ? slope_b[u] : w[u] * slope_b[u];
      }
    if (!POINTWISE)
      EACH (o, OUT)
        EACH (u, U) B.move[row_w(B, j, o) * U + u] = slope_w[o * U + u];
  }
}

APART void forward_one(const block* B) { forward(1, *B); }
APART void backward_one(const block* B) { backward(1, *B); }
#if UNROLL == 2
APART void forward_two(const block* B) { forward(2, *B); }
APART void backward_two(const block* B) { backward(2, *B); }
#else
#define forward_two forward_one
#define backward_two backward_one
#endif
