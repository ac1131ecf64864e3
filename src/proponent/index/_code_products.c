/* Products of float32 vectors with float16 codes as they lie in memory, read once.

   Torch's own float16 product widens the vector anew for every row, and takes one row at a time: it is bound
   by arithmetic at two thirds of what memory gives.  Here four rows at a time meet two vectors, so that every
   number that is loaded or widened is used more than once, and memory has several streams to fetch ahead.
   A last vector without another is met alone.

   A row's sum does not depend on the rows beside it: any division of the work gives the same bytes. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#ifdef Py_GIL_DISABLED
#error "not written for an interpreter without its lock; proponent decodes codes without this module"
#endif
#include <stdint.h>
#include <string.h>

#define LANES 8
#define ROWS 4
#define VECTORS 2
#define SPAN 4096   /* coordinates met at a time: so much of four rows stays in the nearest cache for all vectors */
#define AHEAD 256   /* coordinates: how far ahead of its use a row is fetched */
#define LINE 32     /* coordinates in a cache line */
_Static_assert(VECTORS == 2, "strip() meets vectors in pairs and a last one alone");

typedef float lanes __attribute__((vector_size(4 * LANES)));

#if defined(__x86_64__)
#include <immintrin.h>
#define FAST static inline __attribute__((target("avx2,fma,f16c")))
FAST lanes widen(const uint16_t *codes)
{
    return (lanes)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)codes));
}
static int supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#elif defined(__aarch64__)
#define FAST static inline
typedef __fp16 halves __attribute__((vector_size(2 * LANES)));
FAST lanes widen(const uint16_t *codes)
{
    halves loaded;
    memcpy(&loaded, codes, sizeof loaded);
    return __builtin_convertvector(loaded, lanes);
}
static int supported(void) { return 1; }
#else
#error "no instructions known here that widen float16; proponent decodes codes without this module"
#endif

typedef struct {
    const float *vectors;   /* [q, d] */
    const uint16_t *codes;  /* [n, d] */
    float *made;            /* [q, n] */
    size_t q, n, d;
} product;

/* Sums over whole lanes of coordinates from..to of count vectors with ROWS rows, added to sums. */
FAST __attribute__((always_inline)) void meet(const float *const *vectors, const uint16_t *const *rows, size_t from,
                                              size_t to, int count, float sums[VECTORS][ROWS])
{
    lanes partial[VECTORS][ROWS] = {0};
    for (size_t i = from; i + LANES <= to; i += LANES)
        for (int r = 0; r < ROWS; r++) {
            if (i % LINE == 0)
                __builtin_prefetch(rows[r] + i + AHEAD);
            lanes wide = widen(rows[r] + i);
            for (int v = 0; v < count; v++) {
                lanes vector;
                memcpy(&vector, vectors[v] + i, sizeof vector);
                partial[v][r] += vector * wide;
            }
        }
    for (int v = 0; v < count; v++)
        for (int r = 0; r < ROWS; r++)
            for (int lane = 0; lane < LANES; lane++)
                sums[v][r] += partial[v][r][lane];
}

/* The same over all coordinates from..to. */
FAST __attribute__((always_inline)) void tile(const float *const *vectors, const uint16_t *const *rows, size_t from,
                                              size_t to, int count, float sums[VECTORS][ROWS])
{
    meet(vectors, rows, from, to, count, sums);
    size_t whole = from + (to - from) / LANES * LANES;
    if (whole < to) {  /* fewer coordinates than lanes: they meet with zeros behind them */
        float vector_ends[VECTORS][LANES] = {{0}};
        uint16_t row_ends[ROWS][LANES] = {{0}};
        const float *end_vectors[VECTORS];
        const uint16_t *end_rows[ROWS];
        for (int v = 0; v < count; v++)
            end_vectors[v] = memcpy(vector_ends[v], vectors[v] + whole, (to - whole) * sizeof(float));
        for (int r = 0; r < ROWS; r++)
            end_rows[r] = memcpy(row_ends[r], rows[r] + whole, (to - whole) * sizeof(uint16_t));
        meet(end_vectors, end_rows, 0, LANES, count, sums);
    }
}

/* Rows first..first+ROWS of the product.  Beyond the last row the last one is met again. */
FAST void strip(const product *p, size_t first)
{
    const uint16_t *rows[ROWS];
    const float *vectors[VECTORS];
    for (size_t r = 0; r < ROWS; r++)
        rows[r] = p->codes + (first + r < p->n ? first + r : p->n - 1) * p->d;
    for (size_t from = 0; from < p->d; from += SPAN)
        for (size_t q = 0; q < p->q; q += VECTORS) {
            float sums[VECTORS][ROWS] = {{0}};
            size_t to = from + SPAN < p->d ? from + SPAN : p->d, count = p->q - q < VECTORS ? p->q - q : VECTORS;
            for (size_t v = 0; v < count; v++)
                vectors[v] = p->vectors + (q + v) * p->d;
            if (count == VECTORS)  /* loops of a known length */
                tile(vectors, rows, from, to, VECTORS, sums);
            else
                tile(vectors, rows, from, to, 1, sums);
            for (size_t v = 0; v < count; v++)
                for (size_t r = 0; r < ROWS && first + r < p->n; r++)
                    p->made[(q + v) * p->n + first + r] += sums[v][r];
        }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma,f16c")))
#endif
static void strips(const product *p, size_t first, size_t stop)
{
    for (; first < stop; first += ROWS)
        strip(p, first);
}

static PyObject *add_products(PyObject *self, PyObject *args)
{
    Py_buffer vectors, codes, made;
    Py_ssize_t d, first, stop;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*nnn", &vectors, &codes, &made, &d, &first, &stop))
        return NULL;
    int fits = 0;
    if (d > 0 && d <= PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(float)) {
        size_t q = vectors.len / (d * sizeof(float)), n = codes.len / (d * sizeof(uint16_t));
        fits = q * d * sizeof(float) == (size_t)vectors.len && n * d * sizeof(uint16_t) == (size_t)codes.len
            && (n == 0 ? made.len == 0 : made.len % (n * sizeof(float)) == 0 && made.len / (n * sizeof(float)) == q)
            && 0 <= first && first % ROWS == 0 && first <= stop
            && ((size_t)stop == n || (stop % ROWS == 0 && (size_t)stop < n));
        if (fits) {
            product p = {vectors.buf, codes.buf, made.buf, q, n, d};
            Py_BEGIN_ALLOW_THREADS
            strips(&p, first, stop);
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&vectors);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&made);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "vectors [q, d], codes [n, d], products [q, n] or rows do not fit");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"add_products", add_products, METH_VARARGS,
     "add_products(vectors, codes, made, d, first, stop): made [q, n] += vectors [q, d] . codes [n, d]^T\n"
     "in rows first to stop of the codes; first is a multiple of ROWS, and so is stop, unless it is n.\n"
     "The interpreter's lock is released."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_code_products", NULL, -1, methods,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__code_products(void)
{
    if (!supported()) {
        PyErr_SetString(PyExc_ImportError, "this processor has no AVX2");
        return NULL;
    }
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddIntConstant(made, "ROWS", ROWS) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
