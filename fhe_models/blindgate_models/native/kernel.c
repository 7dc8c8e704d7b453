// Transforms and sums of products for `blindgate_models.native.kernel`, which checks sizes, types and bounds before it calls.
//
// What a matrix holds is secret: no branch and no address depends on a word or a coefficient, only on sizes. Nothing is allocated,
// nothing is kept between calls, no pointer is read from data, and nothing here draws, hashes or encrypts.
//
// A prime has at most 56 bits, and a polynomial as many words as a power of two from 16 to 8192. Words of matrices lie in tiles, so
// that a sum runs through memory from one end to the other:
//
//     matrix  [tile][block][group][TILE]
//     vector  [group][2][...][degree]     the two halves of ciphertexts, as they come
//     sums    [block][2][...][degree]     likewise

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
    struct factor one, shift; // 1 and 2^64 mod p
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

// The layers of a forward transform from gaps of `widest` on, in place. roots[m + i] belongs to the i-th of m pieces, as in SEAL.
//
// A butterfly adds at most 4p to the largest number, so after all 13 layers numbers are below 53p < 2^62, and reduced only then: Harvey's
// lazy butterflies, with room enough to leave out his subtractions.
static void layers(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime, size_t widest) {
    for (size_t gap = widest, pieces = degree / 2 / widest; gap > 0; pieces *= 2, gap /= 2)
        for (size_t i = 0; i < pieces; i++) {
            const struct factor root = roots[pieces + i];
            uint64_t *upper = x + 2 * gap * i, *lower = upper + gap;
            for (size_t k = 0; k < gap; k++) {
                const uint64_t a = upper[k], b = times(root, lower[k], prime);
                upper[k] = a + b;
                lower[k] = a + 4 * prime - b;
            }
        }
}

#ifdef EIGHT_WORDS_AT_ONCE
// The layers whose gaps hold whole vectors. The quotient is put together from products of 32 bits, without what the lowest two carry:
// at most two less than the true one, so b is below 4p.
EIGHT_WORDS_AT_ONCE static void wide_layers(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime) {
    for (size_t pieces = 1, gap = degree / 2; gap >= 8; pieces *= 2, gap /= 2)
        for (size_t i = 0; i < pieces; i++) {
            const struct factor root = roots[pieces + i];
            const uint64_t high = root.quotient >> 32, low = root.quotient & UINT32_MAX;
            uint64_t *restrict upper = x + 2 * gap * i, *restrict lower = upper + gap;
            for (size_t k = 0; k < gap; k++) {
                const uint64_t a = upper[k], y = lower[k], y_high = y >> 32, y_low = y & UINT32_MAX;
                const uint64_t quotient = high * y_high + (high * y_low >> 32) + (low * y_high >> 32);
                const uint64_t b = root.number * y - quotient * prime;
                upper[k] = a + b;
                lower[k] = a + 4 * prime - b;
            }
        }
}
#endif

static void transform(uint64_t *x, size_t degree, const struct factor *roots, uint64_t prime) {
#ifdef EIGHT_WORDS_AT_ONCE
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
        wide_layers(x, degree, roots, prime);
        layers(x, degree, roots, prime, 4);
        return;
    }
#endif
    layers(x, degree, roots, prime, degree / 2);
}

// Transform `count` polynomials of coefficients between -t and t, each taken for the residue of its class nearest to 0:
// word k of polynomial i goes to words[k / TILE * tiles_apart + i * TILE + k % TILE].
void blindgate_kernel_transform(const int64_t *coefficients, uint64_t *words, size_t count, size_t degree,
                                const struct factor *roots, const struct modulus *modulus, size_t tiles_apart) {
    const uint64_t prime = modulus->prime;
    uint64_t x[MOST_DEGREE];
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < degree; k++) {
            const uint64_t given = (uint64_t)coefficients[i * degree + k];
            const uint64_t residue = given + (modulus->plain & (0 - (given >> 63)));
            x[k] = residue + ((prime - modulus->plain) & ~if_less(residue, modulus->half));
        }
        transform(x, degree, roots, prime);
        for (size_t tile = 0; tile < degree / TILE; tile++)
            for (size_t k = 0; k < TILE; k++)
                words[tile * tiles_apart + i * TILE + k] = below(times(modulus->one, x[tile * TILE + k], prime), prime);
    }
}

// sum + total modulo p, for a sum below p and any total.
static inline uint64_t folded(wide total, uint64_t sum, const struct modulus *modulus) {
    const uint64_t prime = modulus->prime;
    const uint64_t rest = times(modulus->shift, (uint64_t)(total >> 64), prime) + times(modulus->one, (uint64_t)total, prime);
    return below(below(below(rest, 2 * prime), prime) + sum, prime);
}

// Add to `sums`, which are below p, the products of all groups, for one prime. `halves_apart`: from one half of a ciphertext to the
// other, for vector and sums alike.
void blindgate_kernel_add_products(const uint64_t *matrix, const uint64_t *vector, uint64_t *sums, size_t blocks,
                                   size_t groups, size_t degree, const struct modulus *modulus, size_t halves_apart) {
    uint64_t column[AT_ONCE][2][TILE]; // a tile of the vector lies at a stride that caches do not like
    for (size_t tile = 0; tile < degree / TILE; tile++)
        for (size_t start = 0; start < groups; start += AT_ONCE) {
            const size_t some = groups - start < AT_ONCE ? groups - start : AT_ONCE;
            for (size_t j = 0; j < 2 * some; j++)
                memcpy(column[j / 2][j % 2], vector + (2 * start + j) * halves_apart + tile * TILE, sizeof column[0][0]);
            for (size_t block = 0; block < blocks; block++) {
                const uint64_t *row = matrix + ((tile * blocks + block) * groups + start) * TILE;
                uint64_t *first = sums + 2 * block * halves_apart + tile * TILE, *second = first + halves_apart;
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
