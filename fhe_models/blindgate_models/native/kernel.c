// Transforms, sums of products and what follows them, for `blindgate_models.native.kernel`, which checks sizes, types and bounds before it calls.
//
// What a matrix holds is secret: no branch and no address depends on a word or a coefficient, only on sizes. Nothing is allocated,
// nothing is kept between calls, no pointer is read from data, and nothing here draws, hashes or encrypts.
//
// A prime has at most 56 bits, and a polynomial as many words as a power of two from 16 to 8192. Words of matrices lie in tiles, so
// that a sum runs through memory from one end to the other:
//
//     matrix  [prime][tile][block][group][TILE]
//     vector  [group][2][prime][degree]   the two halves of ciphertexts, as they come
//     sums    [block][2][prime][degree]   likewise
//     roots   [prime][degree]             powers of SEAL's root of -1, in bit-reversed order

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#error "SOURCE_DIGEST is this file's SHA-256 in hex, in quotes: hatch_build.py gives it"
#endif

#define TILE 8
#define MOST_DEGREE 8192
#define AT_ONCE 128 // products of two words below 2^56 that are added up before they are reduced: below 2^119

#if defined(__x86_64__) && defined(__clang__)
#define EIGHT_WORDS_AT_ONCE __attribute__((target("avx512f,avx512dq")))
#elif defined(__x86_64__)
#define EIGHT_WORDS_AT_ONCE __attribute__((target("avx512f,avx512dq,prefer-vector-width=512")))
#endif

typedef unsigned __int128 wide;

// A number below a prime p, with what makes products with it quick: floor(number * 2^64 / p).
struct factor {
    uint64_t number, quotient;
};

// What is known of a prime p, and of the modulus t < p of coefficients.
struct modulus {
    uint64_t prime;
    struct factor one, shift, scale; // 1, 2^64 mod p, and 1 / degree
    uint64_t plain, half;     // t, and the least residue that stands for a negative number: (t + 1) / 2
};

const char *blindgate_kernel_digest(void) { return SOURCE_DIGEST; }

// number * other modulo p, below 2p, for any other (Shoup; Harvey, "Faster arithmetic for number-theoretic transforms", 2014).
static inline uint64_t times(struct factor by, uint64_t other, uint64_t prime) {
    return by.number * other - (uint64_t)(((wide)by.quotient * other) >> 64) * prime;
}

// All ones where a < b, which are below 2^63.
static inline uint64_t if_less(uint64_t a, uint64_t b) { return 0 - ((a - b) >> 63); }

// a mod limit, for a below 2 * limit.
static inline uint64_t below(uint64_t a, uint64_t limit) { return a - (limit & ~if_less(a, limit)); }

// A butterfly of the forward transform adds at most 4p to the largest number, so after all 13 layers numbers are below 53p < 2^62, and are
// reduced only then: Harvey's lazy butterflies, with room enough to leave out his subtractions.
#define FORWARD(TIMES)                                                                                                    \
    do {                                                                                                                  \
        const uint64_t a = upper[k], b = TIMES(root, lower[k], prime);                                                    \
        upper[k] = a + b;                                                                                                 \
        lower[k] = a + 4 * prime - b;                                                                                     \
    } while (0)

// One of the inverse transform keeps all numbers below 4p.
#define INVERSE(TIMES)                                                                                                    \
    do {                                                                                                                  \
        const uint64_t a = upper[k], b = lower[k];                                                                        \
        upper[k] = below(a + b, 4 * prime);                                                                               \
        lower[k] = TIMES(root, a + 4 * prime - b, prime);                                                                 \
    } while (0)

// The layers of a transform, in place, from the gap `gap` on, and while gaps are at least `least` and below `end`. roots[m + i] belongs to
// the i-th of m pieces.
#define LAYERS(BUTTERFLY, TIMES, NEXT)                                                                                    \
    for (; gap >= least && gap < end; NEXT)                                                                               \
        for (size_t i = 0; i < degree / 2 / gap; i++) {                                                                   \
            const struct factor root = roots[degree / 2 / gap + i];                                                       \
            uint64_t *restrict upper = x + 2 * gap * i, *restrict lower = upper + gap;                                    \
            for (size_t k = 0; k < gap; k++)                                                                              \
                BUTTERFLY(TIMES);                                                                                         \
        }

static void forward(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime, size_t least, size_t end) {
    size_t gap = end / 2;
    LAYERS(FORWARD, times, gap /= 2)
}

static void inverse(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime, size_t least, size_t end) {
    size_t gap = least;
    LAYERS(INVERSE, times, gap *= 2)
}

#ifdef EIGHT_WORDS_AT_ONCE
// `times` in steps that vectors have. The quotient is put together from products of 32 bits, without what the lowest two carry: at most two
// less than the other, so the result is below 4p.
EIGHT_WORDS_AT_ONCE static inline uint64_t roughly(struct factor by, uint64_t other, uint64_t prime) {
    const uint64_t high = by.quotient >> 32, low = by.quotient & UINT32_MAX;
    const uint64_t other_high = other >> 32, other_low = other & UINT32_MAX;
    const uint64_t quotient = high * other_high + (high * other_low >> 32) + (low * other_high >> 32);
    return by.number * other - quotient * prime;
}

EIGHT_WORDS_AT_ONCE static void wide_forward(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime) {
    size_t gap = degree / 2, least = TILE, end = degree;
    LAYERS(FORWARD, roughly, gap /= 2)
}

EIGHT_WORDS_AT_ONCE static void wide_inverse(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime) {
    size_t gap = TILE, least = TILE, end = degree;
    LAYERS(INVERSE, roughly, gap *= 2)
}

static int has_wide(void) { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); }
#else
#define wide_forward(x, degree, roots, prime) forward(x, degree, roots, prime, TILE, degree)
#define wide_inverse(x, degree, roots, prime) inverse(x, degree, roots, prime, TILE, degree)

static int has_wide(void) { return 0; }
#endif

// Transform `count` polynomials of coefficients between -t and t, each taken for the residue of its class nearest to 0, into tiles:
// word k of polynomial i modulo prime r goes to words[((r * degree + k) / TILE * room + i) * TILE + k % TILE].
void blindgate_kernel_transform(const int64_t *coefficients, uint64_t *words, size_t count, size_t primes, size_t degree,
                                const struct modulus *moduli, const struct factor *roots, size_t room) {
    const int wide = has_wide();
    uint64_t x[MOST_DEGREE];
    for (size_t r = 0; r < primes; r++)
        for (size_t i = 0; i < count; i++) {
            const struct modulus *modulus = moduli + r;
            const uint64_t prime = modulus->prime;
            for (size_t k = 0; k < degree; k++) {
                const uint64_t given = (uint64_t)coefficients[i * degree + k];
                const uint64_t residue = given + (modulus->plain & (0 - (given >> 63)));
                x[k] = residue + ((prime - modulus->plain) & ~if_less(residue, modulus->half));
            }
            if (wide)
                wide_forward(x, degree, roots + r * degree, prime);
            else
                forward(x, degree, roots + r * degree, prime, TILE, degree);
            forward(x, degree, roots + r * degree, prime, 1, TILE);
            for (size_t tile = 0; tile < degree / TILE; tile++)
                for (size_t k = 0; k < TILE; k++)
                    words[((r * (degree / TILE) + tile) * room + i) * TILE + k] =
                        below(times(modulus->one, x[tile * TILE + k], prime), prime);
        }
}

// sum + total modulo p, for a sum below p and any total.
static inline uint64_t folded(wide total, uint64_t sum, const struct modulus *modulus) {
    const uint64_t prime = modulus->prime;
    const uint64_t high = times(modulus->shift, (uint64_t)(total >> 64), prime);
    const uint64_t rest = high + times(modulus->one, (uint64_t)total, prime);
    return below(below(below(rest, 2 * prime), prime) + sum, prime);
}

// Add to `sums`, which are below their primes, the products of all groups.
void blindgate_kernel_add_products(const uint64_t *matrix, const uint64_t *vector, uint64_t *sums, size_t blocks,
                                   size_t groups, size_t primes, size_t degree, const struct modulus *moduli) {
    uint64_t column[AT_ONCE][2][TILE]; // a tile of the vector lies at a stride that caches do not like
    for (size_t tile = 0; tile < primes * degree / TILE; tile++)
        for (size_t start = 0; start < groups; start += AT_ONCE) {
            const size_t some = groups - start < AT_ONCE ? groups - start : AT_ONCE;
            for (size_t j = 0; j < 2 * some; j++)
                memcpy(column[j / 2][j % 2], vector + (2 * start + j) * primes * degree + tile * TILE, sizeof column[0][0]);
            for (size_t block = 0; block < blocks; block++) {
                const struct modulus *modulus = moduli + tile * TILE / degree;
                const uint64_t *row = matrix + ((tile * blocks + block) * groups + start) * TILE;
                uint64_t *first = sums + 2 * block * primes * degree + tile * TILE, *second = first + primes * degree;
                for (size_t k = 0; k < TILE; k++) {
                    wide one = 0, two = 0;
                    for (size_t j = 0; j < some; j++) {
                        one += (wide)row[j * TILE + k] * column[j][0][k];
                        two += (wide)row[j * TILE + k] * column[j][1][k];
                    }
                    first[k] = folded(one, first[k], modulus);
                    second[k] = folded(two, second[k], modulus);
                }
            }
        }
}

// Divide x, `[prime][degree]`, by its last prime and round: to the nearest, as SEAL switches moduli. `by[i]` is 1 / last modulo prime i.
static void drop_last(uint64_t *x, size_t last, size_t degree, const struct modulus *moduli, const struct factor *by) {
    const uint64_t half = moduli[last].prime / 2;
    for (size_t i = 0; i < last; i++) {
        const uint64_t prime = moduli[i].prime, shift = below(times(moduli[i].one, half, prime), prime);
        for (size_t k = 0; k < degree; k++) {
            const uint64_t raised = below(x[last * degree + k] + half, moduli[last].prime);
            const uint64_t rest = below(times(moduli[i].one, raised, prime), prime);
            x[i * degree + k] = below(times(by[i], x[i * degree + k] + prime - rest + shift, prime), prime);
        }
    }
}

// Turn `count` polynomials `[prime][degree]` in NTT form, in place, into coefficients, add `added`, which are below their primes, and
// switch to the first prime. `inverses[last][i]` is 1 / prime `last` modulo prime i.
void blindgate_kernel_finish(uint64_t *sums, const uint64_t *added, size_t count, size_t primes, size_t degree,
                             const struct modulus *moduli, const struct factor *inverse_roots,
                             const struct factor *inverses) {
    const int wide = has_wide();
    for (size_t i = 0; i < count; i++) {
        uint64_t *whole = sums + i * primes * degree;
        for (size_t r = 0; r < primes; r++) {
            const uint64_t prime = moduli[r].prime, *more = added + (i * primes + r) * degree;
            const struct factor *roots = inverse_roots + r * degree;
            uint64_t *x = whole + r * degree;
            inverse(x, degree, roots, prime, 1, TILE);
            if (wide)
                wide_inverse(x, degree, roots, prime);
            else
                inverse(x, degree, roots, prime, TILE, degree);
            for (size_t k = 0; k < degree; k++)
                x[k] = below(below(times(moduli[r].scale, x[k], prime), prime) + more[k], prime);
        }
        for (size_t last = primes - 1; last > 0; last--)
            drop_last(whole, last, degree, moduli, inverses + last * primes);
    }
}
