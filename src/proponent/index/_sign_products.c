/* Products of vectors of few bits with signs, as counts of the bits in which they differ.

   A row is m signs, a bit each, and a scale.  A vector is `bits` times m signs and a step: its coordinates are the odd
   whole numbers Σ_k 2^k t_k, t_k = ±1, times the step.  With the count c = Σ_k 2^k |{ j : the row's sign j differs from
   t_k's }| their product is ((2^bits − 1) m − 2c) step scale: all that is summed is whole, so that its bytes depend on
   neither the instructions nor the division of the work. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#ifdef Py_GIL_DISABLED
#error "not written for an interpreter without its lock; proponent decodes signs without this module"
#endif
#include <stdint.h>
#include <string.h>

#define ROWS 4      /* rows that meet a vector at a time: its planes are loaded once for all */
#define MOST 8      /* planes */
#define VECTORS 8   /* that meet all rows before the next ones do: their planes stay in the second cache */

typedef struct {
    const uint64_t *planes;  /* [q, bits, words] */
    const uint64_t *codes;   /* [n, words] */
    const float *steps;      /* [q] */
    const float *scales;     /* [total] */
    float *made;             /* [q, total], of which the columns `at` to at + n are made */
    size_t q, n, bits, words, total, at;
} product;

/* Counts of count rows with one vector, from word `from` on.  Always inlined, so that `bits` and `count` are known
   where it matters and the loops over them are unrolled. */
static inline __attribute__((always_inline)) void meet(const uint64_t *planes, const uint64_t *const *rows, size_t words,
                                                       size_t from, size_t bits, size_t count, int64_t sums[ROWS])
{
    for (size_t w = from; w < words; w++)
        for (size_t r = 0; r < count; r++)
            for (size_t k = 0; k < bits; k++)
                sums[r] += (int64_t)__builtin_popcountll(rows[r][w] ^ planes[k * words + w]) << k;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx512f,avx512vpopcntdq")))
static int wide(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"); }
#define COUNTED __attribute__((target("popcnt")))
static int supported(void) { return __builtin_cpu_supports("popcnt"); }

/* The same, 512 bits at a time; what is left of the row is counted a word at a time. */
WIDE static inline __attribute__((always_inline)) void meet_wide(const uint64_t *planes, const uint64_t *const *rows,
                                                                 size_t words, size_t bits, size_t count,
                                                                 int64_t sums[ROWS])
{
    __m512i partial[ROWS][MOST];
    for (size_t r = 0; r < count; r++)
        for (size_t k = 0; k < bits; k++)
            partial[r][k] = _mm512_setzero_si512();
    size_t w = 0;
    for (; w + 8 <= words; w += 8) {
        __m512i row[ROWS];
        for (size_t r = 0; r < count; r++) {
            __builtin_prefetch(rows[r] + ROWS * words + w);  /* the next rows: a row is few pages */
            row[r] = _mm512_loadu_si512(rows[r] + w);
        }
        for (size_t k = 0; k < bits; k++) {
            __m512i plane = _mm512_loadu_si512(planes + k * words + w);
            for (size_t r = 0; r < count; r++)
                partial[r][k] = _mm512_add_epi64(partial[r][k], _mm512_popcnt_epi64(_mm512_xor_si512(row[r], plane)));
        }
    }
    for (size_t r = 0; r < count; r++)
        for (size_t k = 0; k < bits; k++)
            sums[r] += _mm512_reduce_add_epi64(partial[r][k]) << k;
    meet(planes, rows, words, w, bits, count, sums);
}

#define BY_BITS(N) case N: meet_wide(planes, rows, words, N, ROWS, sums); return;
WIDE static void strip_wide(const uint64_t *planes, const uint64_t *const *rows, size_t words, size_t bits,
                            int64_t sums[ROWS])
{
    switch (bits) { BY_BITS(1) BY_BITS(2) BY_BITS(3) BY_BITS(4) BY_BITS(5) BY_BITS(6) BY_BITS(7) BY_BITS(8) }
}
#else
#define COUNTED
static int wide(void) { return 0; }
static int supported(void) { return 1; }
static void strip_wide(const uint64_t *planes, const uint64_t *const *rows, size_t words, size_t bits,
                       int64_t sums[ROWS])
{
    meet(planes, rows, words, 0, bits, ROWS, sums);
}
#endif

COUNTED static void strip_narrow(const uint64_t *planes, const uint64_t *const *rows, size_t words, size_t bits,
                                 int64_t sums[ROWS])
{
    meet(planes, rows, words, 0, bits, ROWS, sums);
}

/* All rows, ROWS at a time, with vectors from..to.  Beyond the last row the last one is met again. */
static void strips(const product *p, size_t from, size_t to)
{
    int fast = wide();
    int64_t most = (((int64_t)1 << p->bits) - 1) * 64 * (int64_t)p->words;
    for (size_t first = 0; first < p->n; first += ROWS) {
        const uint64_t *rows[ROWS];
        for (size_t r = 0; r < ROWS; r++)
            rows[r] = p->codes + (first + r < p->n ? first + r : p->n - 1) * p->words;
        for (size_t q = from; q < to; q++) {
            int64_t sums[ROWS] = {0};
            const uint64_t *planes = p->planes + q * p->bits * p->words;
            (fast ? strip_wide : strip_narrow)(planes, rows, p->words, p->bits, sums);
            for (size_t r = 0; r < ROWS && first + r < p->n; r++) {
                size_t column = p->at + first + r;
                p->made[q * p->total + column] = (float)(most - 2 * sums[r]) * p->steps[q] * p->scales[column];
            }
        }
    }
}

static PyObject *multiply(PyObject *self, PyObject *args)
{
    Py_buffer planes, codes, steps, scales, made;
    Py_ssize_t bits, words, at;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*nnn", &planes, &codes, &steps, &scales, &made, &bits, &words, &at))
        return NULL;
    int fits = 0;
    /* 2^16 words have 2^22 bits, whose weights sum to less than 2^8: a count stays within 31 bits */
    if (0 < bits && bits <= MOST && 0 < words && words <= 1 << 16 && 0 <= at) {
        size_t row = words * sizeof(uint64_t), n = codes.len / row, q = planes.len / (row * bits);
        size_t total = scales.len / sizeof(float);
        fits = n * row == (size_t)codes.len && q * row * bits == (size_t)planes.len
            && q * sizeof(float) == (size_t)steps.len && total * sizeof(float) == (size_t)scales.len
            && (size_t)made.len == q * total * sizeof(float) && n <= total && (size_t)at <= total - n;
        if (fits) {
            product p = {planes.buf, codes.buf, steps.buf, scales.buf, made.buf, q, n, bits, words, total, at};
            Py_BEGIN_ALLOW_THREADS
            for (size_t from = 0; from < q; from += VECTORS)
                strips(&p, from, from + VECTORS < q ? from + VECTORS : q);
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&planes);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&steps);
    PyBuffer_Release(&scales);
    PyBuffer_Release(&made);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError,
                        "planes [q, bits, words], codes [n, words], steps [q], scales [total] or products [q, total] "
                        "do not fit");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"multiply", multiply, METH_VARARGS,
     "multiply(planes, codes, steps, scales, made, bits, words, at): columns at to at + n of made [q, total] float32 get\n"
     "the products of n rows of signs, codes [n, words] with scales [total], the first of them number at, and of vectors\n"
     "of planes [q, bits, words] with steps [q].  The interpreter's lock is released."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sign_products", NULL, -1, methods,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sign_products(void)
{
    if (!supported()) {
        PyErr_SetString(PyExc_ImportError, "this processor counts no bits");
        return NULL;
    }
    return PyModule_Create(&module);
}
