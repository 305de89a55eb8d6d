/* Linear assignment by shortest augmenting paths on a sparse core of the matrix, priced against all of it.

   After Jonker and Volgenant 1987 (Computing 38) and Volgenant 1996 (Comput. Oper. Res. 23):

   1. duals v of the columns: given, or the least entry of every column once that of every row is subtracted;
   2. the core: of every row some dozens of entries with least c - v, in one pass over the matrix;
   3. augmenting row reduction, then for every row still free a shortest augmenting path, all within the core;
   4. one pass over the matrix finds entries with c - v < u. They join the core, their rows become free, and 3 is
      repeated; when there are none, u and v are feasible for the whole matrix and prove that the assignment is optimal.

   Entries are REAL-byte numbers, all arithmetic is in double. A wide matrix (n < m) keeps every entry in its core, and v = 0
   at the columns left over, which no step then has to undo. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if REAL == 8
typedef double real;
#else
typedef float real;
#endif

#define LANES 8
#define WAYS 4
#define BLOCK (LANES * WAYS)
#define CAP 64 /* entries that a row gains at once */

typedef double vec __attribute__((vector_size(8 * LANES)));
typedef int64_t ivec __attribute__((vector_size(8 * LANES)));
typedef real small __attribute__((vector_size(sizeof(real) * LANES), aligned(sizeof(real)), may_alias));
typedef double loose __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

#define ALWAYS static inline __attribute__((always_inline, unused))

ALWAYS vec least(vec a, vec b) {
  ivec mask = (ivec)(a < b);
  return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}
ALWAYS vec splat(double a) { return a - (vec){0}; }
ALWAYS vec load(const real *p) { return __builtin_convertvector(*(const small *)p, vec); }

typedef struct {
  int32_t *column;
  double *cost;
  int32_t length, room;
} Row;

typedef struct {
  const real *c;
  int64_t n, m;
  double sign, eps;
  Row *rows;
  int32_t *x, *y;      /* column of a row, row of a column, -1 for none */
  double *v, *scratch; /* scratch: m + BLOCK */
  double *dist, *copy;
  int32_t *from, *heap, *place, *seen, *free, *found;
  int32_t heap_size, seen_size, free_size;
} Problem;

/* c - v of one row into scratch; the lanes' least values go to low. */
static void reduce(Problem *p, int64_t i, double low[BLOCK]) {
  const real *c = p->c + i * p->m;
  const double *v = p->v;
  double *out = p->scratch;
  vec sign = splat(p->sign), best[WAYS];
  int64_t m = p->m, j = 0;
  for (int w = 0; w < WAYS; w++) best[w] = splat(INFINITY);
  for (; j + BLOCK <= m; j += BLOCK)
    for (int w = 0; w < WAYS; w++) {
      int64_t k = j + w * LANES;
      vec r = sign * load(c + k) - *(const loose *)(v + k);
      *(loose *)(out + k) = r;
      best[w] = least(r, best[w]);
    }
  for (int w = 0; w < WAYS; w++) memcpy(low + w * LANES, &best[w], sizeof(vec));
  for (; j < m; j++) {
    out[j] = p->sign * (double)c[j] - v[j];
    if (out[j] < low[j % BLOCK]) low[j % BLOCK] = out[j];
  }
}

static double row_least(const real *row, int64_t m, double sign) {
  vec best[WAYS], signs = splat(sign);
  double low = INFINITY;
  int64_t j = 0;
  for (int w = 0; w < WAYS; w++) best[w] = splat(INFINITY);
  for (; j + BLOCK <= m; j += BLOCK)
    for (int w = 0; w < WAYS; w++) best[w] = least(signs * load(row + j + w * LANES), best[w]);
  for (int w = 0; w < WAYS; w++)
    for (int l = 0; l < LANES; l++) low = best[w][l] < low ? best[w][l] : low;
  for (; j < m; j++) low = sign * (double)row[j] < low ? sign * (double)row[j] : low;
  return low;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int grow(Row *row, int32_t more) {
  if (row->length + more <= row->room) return 0;
  int32_t room = row->length + more;
  if (room < 2 * row->room) room = 2 * row->room;
  int32_t *column = realloc(row->column, sizeof(int32_t) * room);
  if (column) row->column = column;
  double *cost = realloc(row->cost, sizeof(double) * room);
  if (cost) row->cost = cost;
  if (!column || !cost) return -1;
  row->room = room;
  return 0;
}

/* Entries of scratch that are at most bound, a given number of them at most, join a row. Begins near the diagonal, so
   that rows full of ties get different columns. */
static int gather(Problem *p, int64_t i, double bound, int32_t most) {
  int32_t *found = p->found, count = 0;
  const double *r = p->scratch;
  int64_t m = p->m, start = i * m / p->n;
  for (int half = 0; half < 2; half++) {
    int64_t j = half ? 0 : start, end = half ? start : m;
    for (; j + LANES <= end && count < most; j += LANES) {
      ivec mask = (ivec)(*(const loose *)(r + j) <= splat(bound));
      int64_t any = 0;
      for (int l = 0; l < LANES; l++) any |= mask[l];
      if (!any) continue;
      for (int l = 0; l < LANES && count < most; l++)
        if (mask[l]) found[count++] = (int32_t)(j + l);
    }
    for (; j < end && count < most; j++)
      if (r[j] <= bound) found[count++] = (int32_t)j;
  }
  Row *row = &p->rows[i];
  if (grow(row, count)) return -1;
  for (int32_t k = 0; k < count; k++) {
    row->column[row->length] = found[k];
    row->cost[row->length++] = p->sign * (double)p->c[i * p->m + found[k]];
  }
  return count;
}

static int whole_row(Problem *p, int64_t i) {
  Row *row = &p->rows[i];
  row->length = 0;
  if (grow(row, (int32_t)p->m)) return -1;
  for (int64_t j = 0; j < p->m; j++) {
    row->column[j] = (int32_t)j;
    row->cost[j] = p->sign * (double)p->c[i * p->m + j];
  }
  row->length = (int32_t)p->m;
  return 0;
}

/* The first core of a row: some dozens of its least entries. */
static int begin(Problem *p, int64_t i) {
  double low[BLOCK];
  reduce(p, i, low);
  qsort(low, BLOCK, sizeof(double), ascending);
  return gather(p, i, low[BLOCK / 2], CAP);
}

/* The entry of the given rank, from 0; reorders. */
static double ranked(double *a, int64_t length, int64_t rank) {
  int64_t low = 0, high = length - 1;
  while (low < high) {
    double pivot = a[(low + high) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (pivot < a[j]) j--;
      if (i <= j) {
        double swap = a[i];
        a[i++] = a[j], a[j--] = swap;
      }
    }
    if (rank <= j)
      high = j;
    else if (rank >= i)
      low = i;
    else
      break;
  }
  return a[rank];
}

/* A row doubles its core: the least entries that are not yet there join it. */
static int widen(Problem *p, int64_t i) {
  Row *row = &p->rows[i];
  double low[BLOCK];
  int64_t length = row->length, rest = p->m - length, more = length < rest ? length : rest;
  if (!more) return 0;
  reduce(p, i, low);
  for (int32_t k = 0; k < length; k++) p->scratch[row->column[k]] = INFINITY;
  memcpy(p->copy, p->scratch, sizeof(double) * p->m);
  return gather(p, i, ranked(p->copy, p->m, more - 1), (int32_t)more);
}

/* Two least reduced costs of a row within its core. */
ALWAYS void two_least(const Problem *p, int64_t i, double *one, double *two, int32_t *first, int32_t *second) {
  const Row *row = &p->rows[i];
  double a = INFINITY, b = INFINITY;
  int32_t ja = -1, jb = -1;
  for (int32_t k = 0; k < row->length; k++) {
    int32_t j = row->column[k];
    double r = row->cost[k] - p->v[j];
    if (r < b) {
      if (r < a) {
        b = a, jb = ja, a = r, ja = j;
      } else
        b = r, jb = j;
    }
  }
  *one = a, *two = b, *first = ja, *second = jb;
}

static void row_reduction(Problem *p, int passes) {
  for (int pass = 0; pass < passes && p->free_size; pass++) {
    int32_t count = p->free_size, k = 0;
    int64_t steps = 0, most = 4 * p->n + 64;
    p->free_size = 0;
    int32_t *todo = p->heap; /* not in use now */
    memcpy(todo, p->free, sizeof(int32_t) * count);
    while (k < count) {
      int32_t i = todo[k++];
      double one, two;
      int32_t j, other;
      two_least(p, i, &one, &two, &j, &other);
      double lower = two < INFINITY ? p->v[j] - (two - one) : p->v[j];
      int strict = lower < p->v[j];
      if (strict)
        p->v[j] = lower;
      else if (p->y[j] >= 0 && other >= 0 && two <= one)
        j = other;
      int32_t owner = p->y[j];
      if (owner >= 0 && !strict) {
        p->free[p->free_size++] = i; /* a tie: leave it to the paths */
        continue;
      }
      p->x[i] = j, p->y[j] = i;
      if (owner >= 0) {
        p->x[owner] = -1;
        if (strict && steps++ < most)
          todo[--k] = owner;
        else
          p->free[p->free_size++] = owner;
      }
    }
  }
}

/* A binary heap of columns by dist. */
ALWAYS void up(Problem *p, int32_t at) {
  int32_t j = p->heap[at];
  double d = p->dist[j];
  while (at) {
    int32_t above = (at - 1) / 2, k = p->heap[above];
    if (p->dist[k] <= d) break;
    p->heap[at] = k, p->place[k] = at, at = above;
  }
  p->heap[at] = j, p->place[j] = at;
}

ALWAYS int32_t pop(Problem *p) {
  int32_t top = p->heap[0], j = p->heap[--p->heap_size], at = 0;
  if (p->heap_size) {
    double d = p->dist[j];
    for (int32_t below; (below = 2 * at + 1) < p->heap_size; at = below) {
      if (below + 1 < p->heap_size && p->dist[p->heap[below + 1]] < p->dist[p->heap[below]]) below++;
      int32_t k = p->heap[below];
      if (p->dist[k] >= d) break;
      p->heap[at] = k, p->place[k] = at;
    }
    p->heap[at] = j, p->place[j] = at;
  }
  p->place[top] = -2; /* done */
  return top;
}

/* A shortest augmenting path from a free row. 1: augmented; 0: the core holds none, seen holds the columns reached. */
static int augment(Problem *p, int32_t start) {
  int32_t done = 0, end = -1, i = start;
  double *dist = p->dist, *v = p->v, reach = 0;
  double base;
  {
    double two;
    int32_t j, other;
    two_least(p, start, &base, &two, &j, &other);
  }
  p->heap_size = p->seen_size = 0;
  for (;;) {
    const Row *row = &p->rows[i];
    for (int32_t k = 0; k < row->length; k++) {
      int32_t j = row->column[k];
      if (p->place[j] == -2) continue;
      double d = reach + (row->cost[k] - v[j] - base);
      if (d < dist[j]) {
        if (dist[j] == INFINITY) p->heap[p->heap_size] = j, p->place[j] = p->heap_size++;
        dist[j] = d < reach ? reach : d; /* round-off below zero */
        p->from[j] = i;
        up(p, p->place[j]);
      }
    }
    if (!p->heap_size) break;
    int32_t j = pop(p);
    reach = dist[j];
    p->seen[done++] = j;
    if (p->y[j] < 0) {
      end = j;
      break;
    }
    i = p->y[j];
    base = p->sign * (double)p->c[(int64_t)i * p->m + j] - v[j];
  }
  if (end >= 0)
    for (int32_t k = 0; k + 1 < done; k++) v[p->seen[k]] += dist[p->seen[k]] - reach;
  for (int32_t k = 0; k < p->heap_size; k++) dist[p->heap[k]] = INFINITY, p->place[p->heap[k]] = -1;
  for (int32_t k = 0; k < done; k++) dist[p->seen[k]] = INFINITY, p->place[p->seen[k]] = -1;
  p->seen_size = done;
  if (end < 0) return 0;
  for (int32_t j = end; j >= 0;) {
    int32_t row = p->from[j], before = p->x[row];
    p->y[j] = row, p->x[row] = j;
    j = row == start ? -1 : before;
  }
  return 1;
}

static void release(Problem *p, int32_t i) {
  p->y[p->x[i]] = -1;
  p->x[i] = -1;
  p->free[p->free_size++] = i;
}

/* u of an assigned row. */
ALWAYS double level(const Problem *p, int32_t i) {
  return p->sign * (double)p->c[(int64_t)i * p->m + p->x[i]] - p->v[p->x[i]];
}

/* Rows reached from start have too few columns between them: widen them all. */
static int widen_reached(Problem *p, int32_t start) {
  int32_t count = p->seen_size, added = 0;
  for (int32_t k = -1; k < count; k++) {
    int32_t i = k < 0 ? start : p->y[p->seen[k]];
    if (i < 0) continue;
    int more = widen(p, i);
    if (more < 0) return -1;
    added += more;
    if (p->x[i] < 0) continue;
    double one, two;
    int32_t first, second;
    two_least(p, i, &one, &two, &first, &second);
    if (one < level(p, i) - p->eps) release(p, i);
  }
  p->free[p->free_size++] = start;
  return added ? 0 : -2;
}

static int paths(Problem *p) {
  while (p->free_size) {
    int32_t i = p->free[--p->free_size];
    if (augment(p, i)) continue;
    int status = widen_reached(p, i);
    if (status) return status;
  }
  return 0;
}

/* Where c - v < u: these entries join the core. Returns the number of rows concerned; u of every row is written. */
static int64_t price(Problem *p, double *u) {
  int64_t bad = 0;
  for (int32_t i = 0; i < p->n; i++) {
    double low[BLOCK], best = INFINITY, mine = level(p, i);
    reduce(p, i, low);
    for (int l = 0; l < BLOCK; l++) best = low[l] < best ? low[l] : best;
    u[i] = best;
    if (best >= mine - p->eps) continue;
    bad++;
    qsort(low, BLOCK, sizeof(double), ascending);
    double bound = low[BLOCK / 2] < mine - p->eps ? low[BLOCK / 2] : nextafter(mine - p->eps, -INFINITY);
    if (gather(p, i, bound, CAP) < 0) return -1;
    release(p, i);
  }
  return bad;
}

/* n <= m rows and columns. Returns 0, or -1: no memory, -2: did not end, -3: entries that are
   not finite. */
int symfield_assign(const real *c, int64_t n, int64_t m, double sign, const double *warm, int32_t *x,
                    double *u, double *v) {
  Problem p = {.c = c, .n = n, .m = m, .sign = sign, .x = x, .v = v};
  int status = -1, wide = n < m;
  size_t length = (size_t)(m + BLOCK);
  p.rows = calloc(n, sizeof(Row));
  p.scratch = malloc(sizeof(double) * length);
  p.dist = malloc(sizeof(double) * length);
  p.copy = malloc(sizeof(double) * length);
  int32_t *work = malloc(sizeof(int32_t) * 7 * length);
  if (!p.rows || !p.scratch || !p.dist || !p.copy || !work) goto end;
  p.y = work, p.from = work + length, p.heap = work + 2 * length;
  p.place = work + 3 * length, p.seen = work + 4 * length, p.free = work + 5 * length;
  p.found = work + 6 * length;
  for (int64_t j = 0; j < m; j++) p.y[j] = p.place[j] = -1, p.dist[j] = INFINITY;
  for (int64_t i = 0; i < n; i++) x[i] = -1;

  double *high = p.dist, *odd = p.copy; /* largest |c|; 0, or NaN once an entry was not finite */
  for (int64_t j = 0; j < m; j++) high[j] = odd[j] = 0, p.scratch[j] = INFINITY;
  for (int64_t i = 0; i < n; i++) {
    const real *row = c + i * m;
    double low = row_least(row, m, sign);
    for (int64_t j = 0; j < m; j++) {
      double a = sign * (double)row[j], size = fabs(a);
      p.scratch[j] = a - low < p.scratch[j] ? a - low : p.scratch[j];
      high[j] = size > high[j] ? size : high[j];
      odd[j] += a - a;
    }
  }
  double scale = 0;
  for (int64_t j = 0; j < m; j++) {
    if (odd[j] != 0) {
      status = -3;
      goto end;
    }
    scale = high[j] > scale ? high[j] : scale;
  }
  for (int64_t j = 0; j < m; j++) p.dist[j] = INFINITY;
  p.eps = 16 * 2.3e-16 * scale;
  for (int64_t j = 0; j < m; j++) v[j] = wide ? 0 : warm ? warm[j] : p.scratch[j];

  for (int64_t i = 0; i < n; i++) {
    p.free[p.free_size++] = (int32_t)i;
    if (wide || m <= CAP ? whole_row(&p, i) : begin(&p, i) < 0) goto end;
  }
  row_reduction(&p, 2);
  for (;;) {
    if ((status = paths(&p))) goto end;
    int64_t bad = price(&p, u);
    if (bad < 0) {
      status = -1;
      goto end;
    }
    if (!bad) break;
  }
end:
  if (p.rows)
    for (int64_t i = 0; i < n; i++) free(p.rows[i].column), free(p.rows[i].cost);
  free(p.rows), free(p.scratch), free(p.dist), free(p.copy), free(work);
  return status;
}
