/* Many steps of noisy SGD for many small networks, fused; one translation unit for one kind of unit (see unit.h).

   The state of a run is copied to [block][parameter][vector] and padded with zeros. One pass over the blocks does the
   backward half of step k, the update, and the forward half of step k + 1, so that parameters are touched once per
   step. Between the halves stands the residual, the only sum over particles. Runs do not see one another, and every sum
   has one order: the result depends neither on threads nor on how steps are cut into calls. */

#include <stdlib.h>

#include "unit.h"

/* The problem: sizes, and what follows from them. */
typedef struct {
  int64_t n, b, k, frame, rows, noise_rows, hidden; /* frame: elements that residual_map mixes */
  int64_t parts, p, vectors;                        /* parts of a unit, its parameters, vectors of particles */
} shape;

/* A square matrix by its non-zero entries; every row is summed in the order of its columns. */
typedef struct {
  int64_t *start, *column;
  real* weight;
} sparse;

static int is_identity(const real* matrix, int64_t size) {
  for (int64_t i = 0; i < size; i++)
    for (int64_t j = 0; j < size; j++)
      if (matrix[i * size + j] != (i == j)) return 0;
  return 1;
}

static void compress(const real* matrix, int64_t size, sparse* m) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; i++) {
    m->start[i] = count;
    for (int64_t j = 0; j < size; j++)
      if (matrix[i * size + j] != 0) m->column[count] = j, m->weight[count++] = matrix[i * size + j];
  }
  m->start[size] = count;
}

/* factor * T (mean over particles - y), and the sums made ready for the next step. */
APART void residuals(const shape* s, vec* error, const real* y, const real* mixing, real factor, real* residual,
                     real* spare) {
  const int64_t count = s->b * OUT, size = s->frame * OUT, each = s->b / s->frame;
  real* direct = mixing ? spare : residual;
  for (int64_t i = 0; i < count; i += LANES) {
    const vec sum = count - i > LANES / 4 ? totals(LANES, error + i) : totals(LANES > 4 ? LANES / 4 : LANES, error + i);
    const vec mean = sum * (real)(1.0 / (double)s->n);
    store(direct + i, (mean - load(y + i, count - i)) * factor, count - i);
    EACH (l, LANES) error[i + l] = splat(0);
  }
  for (int64_t f = 0; mixing && f < s->frame; f++)
    for (int64_t i = 0; i < each; i++) {
      real sum[OUT] = {0};
      for (int64_t g = 0; g < s->frame; g++) {
        const real *from = direct + (g * each + i) * OUT, *entry = mixing + f * OUT * size + g * OUT;
        for (int r = 0; r < OUT; r++)
          for (int c = 0; c < OUT; c++) sum[r] += entry[r * size + c] * from[c];
      }
      for (int r = 0; r < OUT; r++) residual[(f * each + i) * OUT + r] = sum[r];
    }
}

/* z <- decay z + P (displacement + noise) for U vectors, `count` particles; noise rows are n apart. */
APART void update(const shape* s, const block* B, int U, int64_t count, const real* noise, const sparse* projection,
                  real decay) {
  const int64_t p = POINTWISE ? OUT * IN : SINGLE ? OUT + IN + BIAS : s->p;
  if (noise)
    for (int64_t row = 0; row < p; row++)
      for (int u = 0; u < U; u++) B->move[row * U + u] += load(noise + row * s->n + u * LANES, count - u * LANES);
  for (int64_t row = 0; row < p; row++)
    for (int u = 0; u < U; u++) {
      vec move = B->move[row * U + u];
      if (projection) {
        move = splat(0);
        for (int64_t i = projection->start[row]; i < projection->start[row + 1]; i++)
          move += projection->weight[i] * B->move[projection->column[i] * U + u];
      }
      vec z = B->z[row * U + u] * decay + move;
      if (count < U * LANES) z = (vec)((ivec)z & (B->live[u] > splat(0)));
      B->z[row * U + u] = z;
    }
}

typedef struct {
  vec *z, *kept, *error, *room, *move, *live;
  lanes* active;
  real *residual, *spare;
  sparse projection;
} memory;

/* One run: its state outside, what it reads at step 0, its maps (absent where they are the identity). */
typedef struct {
  real* z;
  const real *x, *y, *noise, *mixing;
  const sparse* projection;
  memory m;
} run;

/* What all runs share. */
typedef struct {
  const double* steps;
  double tau, loss_scale;
} schedule;

#define BLOCKS(v, U) for (int64_t v = 0, U; v < s->vectors && (U = s->vectors - v < UNROLL ? 1 : UNROLL); v += U)

static void copy_state(const shape* s, const run* r, int out) {
  BLOCKS (v, U)
    for (int64_t row = 0; row < s->p; row++)
      for (int64_t u = 0; u < U; u++) {
        real* at = r->z + row * s->n + (v + u) * LANES;
        vec* inner = r->m.z + v * s->p + row * U + u;
        if (out)
          store(at, *inner, s->n - (v + u) * LANES);
        else
          *inner = load(at, s->n - (v + u) * LANES);
      }
}

static void start(const shape* s, run* r, const real* residual_map, const real* gradient_map) {
  r->mixing = residual_map && !is_identity(residual_map, s->frame * OUT) ? residual_map : 0;
  r->projection = gradient_map && !is_identity(gradient_map, s->p) ? &r->m.projection : 0;
  if (r->projection) compress(gradient_map, s->p, &r->m.projection);
  copy_state(s, r, 0);
  for (int64_t i = 0; i < s->b * OUT + LANES; i++) r->m.error[i] = splat(0);
  const int64_t before_last = (s->vectors - (s->vectors % UNROLL ? 1 : UNROLL)) * LANES; /* particles in other blocks */
  for (int64_t l = 0; l < UNROLL * LANES; l++) {
    r->m.live[l / LANES][l % LANES] = 1;
    r->m.live[UNROLL + l / LANES][l % LANES] = before_last + l < s->n;
  }
}

/* The sum over particles at step k; samples of later steps lie far away, so they are asked for early. */
static void between(const shape* s, const schedule* plan, const run* r, int64_t k) {
  const int64_t x_stride = s->rows * s->b * IN, y_stride = s->rows * s->b * OUT;
  if (k + 2 < s->k) {
    for (int64_t i = 0; i < s->b * IN; i += 64 / REAL) __builtin_prefetch(r->x + (k + 2) * x_stride + i);
    for (int64_t i = 0; i < s->b * OUT; i += 64 / REAL) __builtin_prefetch(r->y + (k + 2) * y_stride + i);
  }
  const double factor = k < 0 ? 0 : -2 * plan->steps[k] * plan->loss_scale / (double)s->b;
  if (k >= 0) residuals(s, r->m.error, r->y + k * y_stride, r->mixing, (real)factor, r->m.residual, r->m.spare);
}

/* Backward half of step k, forward half of step k + 1. */
static void sweep(const shape* s, const schedule* plan, const run* r, int64_t k) {
  const int64_t x_stride = s->rows * s->b * IN, noise_stride = s->noise_rows * s->p * s->n;
  BLOCKS (v, U) {
    const memory* m = &r->m;
    const int64_t kept = v * s->parts * s->b, left = s->n - v * LANES;
    block B = {.b = s->b,
               .parts = s->parts,
               .z = m->z + v * s->p,
               .move = m->move,
               .room = m->room,
               .error = m->error,
               .kept = m->kept + kept * KEPT_VECTORS,
               .active = m->active + kept,
               .live = m->live + (left < U * LANES ? UNROLL : 0),
               .residual = m->residual};
    if (k >= 0) {
      const real* noise = r->noise ? r->noise + k * noise_stride + v * LANES : 0;
      B.x = r->x + k * x_stride;
      (U == 1 ? backward_one : backward_two)(&B);
      update(s, &B, (int)U, left, noise, r->projection, (real)(1 - 2 * plan->tau * plan->steps[k]));
    }
    B.x = r->x + (k + 1) * x_stride;
    if (k + 1 < s->k) (U == 1 ? forward_one : forward_two)(&B);
  }
}

/* Room for `size` bytes more, aligned; only counts while base is absent. */
static void* take(char* base, size_t* used, size_t size) {
  void* at = base ? base + *used : 0;
  *used += (size + 63) / 64 * 64;
  return at;
}

static size_t lay_out(const shape* s, int projects, char* base, memory* m) {
  const size_t p = (size_t)s->p, b = (size_t)s->b, entries = p * p * !!projects;
  const size_t kept = (size_t)(s->vectors * s->parts) * b;
  size_t used = 0;
  m->z = take(base, &used, (size_t)s->vectors * p * sizeof(vec));
  m->kept = take(base, &used, kept * KEPT_VECTORS * sizeof(vec));
  m->active = take(base, &used, kept * KEPT_LANES * sizeof(lanes));
  m->error = take(base, &used, (b * OUT + LANES) * sizeof(vec));
  m->room = take(base, &used, b * UNROLL * sizeof(vec));
  m->move = take(base, &used, p * UNROLL * sizeof(vec));
  m->live = take(base, &used, 2 * UNROLL * sizeof(vec));
  m->residual = take(base, &used, b * OUT * sizeof(real));
  m->spare = take(base, &used, b * OUT * sizeof(real));
  m->projection.start = take(base, &used, (p + 1) * sizeof(int64_t));
  m->projection.column = take(base, &used, entries * sizeof(int64_t));
  m->projection.weight = take(base, &used, entries * sizeof(real));
  return used;
}

/* Advance runs first to last - 1 of z (runs, p, n) by k steps. Returns 1 when memory runs out, else 0. */
int symfield_advance(real* z, const real* x, const real* y, const real* noise, const double* steps,
                     const int64_t* data_row, const int64_t* noise_row, const real* residual_map,
                     const real* gradient_map, const int64_t* sizes, double tau, double loss_scale, int64_t first,
                     int64_t last) {
  shape s = {.n = sizes[0],
             .b = sizes[1],
             .k = sizes[2],
             .frame = sizes[3],
             .rows = sizes[4],
             .noise_rows = sizes[5],
             .hidden = sizes[6]};
  s.parts = POINTWISE ? OUT : s.hidden;
  s.p = POINTWISE ? OUT * IN : (OUT + IN + BIAS) * s.hidden;
  s.vectors = (s.n + LANES - 1) / LANES;
  const schedule plan = {steps, tau, loss_scale};
  const int64_t mixing = s.frame * OUT * s.frame * OUT;
  run r;
  const size_t size = lay_out(&s, gradient_map != 0, 0, &r.m);
  char* base = malloc(size + 64);
  if (!base) return 1;
  lay_out(&s, gradient_map != 0, base + 64 - (uintptr_t)base % 64, &r.m);
  for (int64_t i = first; i < last; i++) {
    r.z = z + i * s.p * s.n;
    r.x = x + data_row[i] * s.b * IN;
    r.y = y + data_row[i] * s.b * OUT;
    r.noise = noise ? noise + noise_row[i] * s.p * s.n : 0;
    start(&s, &r, residual_map ? residual_map + i * mixing : 0, gradient_map ? gradient_map + i * s.p * s.p : 0);
    for (int64_t k = -1; k < s.k; k++) {
      between(&s, &plan, &r, k);
      sweep(&s, &plan, &r, k);
    }
    copy_state(&s, &r, 1);
  }
  free(base);
  return 0;
}

/* The arithmetic alone: one part of a block of particles, `steps` times; nothing is kept, summed over particles or
   updated. Its time for a particle, sample and part is what a step costs at least. Returns the block's size. */
int64_t symfield_arithmetic(real* x, int64_t b, int64_t steps) {
  enum { U = IN <= 4 ? 2 * UNROLL : UNROLL }; /* enough chains that none waits */
  vec a[IN * U], slope[IN * U], value = splat(0), rates[U];
  lanes seen[U];
  EACH (u, U) rates[u] = splat(0), seen[u] = positive(rates[u]);
  EACH (t, IN * U) a[t] = splat(x[t / U] * (real)(1 + t % U)), slope[t] = splat(0);
  for (int64_t k = 0; k < steps; k++) {
    for (int64_t i = 0; i < b; i++)
      EACH (u, U) {
        vec pre = splat(0), rate = splat(0);
        lanes active = seen[u];
        EACH (t, IN) pre += x[i * IN + t] * a[t * U + u];
        const vec now = activate(pre, &rate, &active);
        value += now;
        seen[u] |= active;
        if (ACTIVATION >= 2) rates[u] += ACTIVATION == 4 ? rate : now * now; /* one operation, like the slope */
      }
    for (int64_t i = 0; i < b; i++)
      EACH (u, U) {
        const vec pulled = splat(x[i * IN]);
        const vec delta = ACTIVATION == 0 ? pulled : ACTIVATION == 1 ? where(seen[u], pulled) : pulled * rates[u];
        EACH (t, IN) slope[t * U + u] += x[i * IN + t] * delta;
      }
  }
  EACH (t, IN * U) value += slope[t];
  store(x, value, 1);
  return U * LANES;
}
