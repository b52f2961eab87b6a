// Matrix products in exact integer arithmetic on the matrix units (compute capability 8.0 and later), for float.
//
// Pixels are bytes. The other factor is rounded once, to a multiple of 2^-30 of a power of two above the largest value:
// to at least a float's precision unless it is far smaller than the largest. The integer is written as four signed
// bytes, digits to the base 256; the matrix units multiply bytes and add the products in 32 bits. A row's four sums,
// one per digit, are combined in 64 bits. Only the rounding before and the one to a float after lose anything, and no
// sum depends on its order. No sum overflows: 32 bits hold 65,793 products of 255 and -128.

static_assert(sizeof(real) == 4 && UNITS % 4 == 2, "four terms a float; no two lanes of a warp read the same bank");

constexpr int TERM_STEP = 8;  // blocks of terms per instruction; factors are padded with zeros to a multiple
constexpr float DIGITS = 0x1p30f;

// A power of two greater than |largest|, at least 2^-60; infinite if `largest` is not finite.
__device__ __forceinline__ float scale_above(float largest) {
    const unsigned exponent = __float_as_uint(largest) & 0x7f800000u;
    return __uint_as_float(max(exponent, 0x21000000u)) * 2;
}

// Four values below `scale` as four words of digits: word t has digit t of each.
__device__ __forceinline__ Quad as_factor(Quad values, float scale) {
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        // Adding 128 to each byte with carries, and subtracting it without, leaves digits from -128 to 127.
        const unsigned number = __float2int_rn(values.at[i] * (DIGITS / scale));
        word[i] = (number + 0x00808080u) ^ 0x00808080u;
    }
    const uint4 digits = transposed(make_uint4(word[0], word[1], word[2], word[3]));
    return Quad{{__uint_as_float(digits.x), __uint_as_float(digits.y), __uint_as_float(digits.z),
                 __uint_as_float(digits.w)}};
}

// A pass's weights, [quad of pixels][unit] in global memory, as factors in shared memory. Returns their scale.
// `largest` has space for one number per warp.
__device__ __forceinline__ float load_weights(const Quad* source, int quads, Quad* weights, unsigned* largest) {
    const int count = quads * UNITS, padded = (quads + TERM_STEP - 1) / TERM_STEP * TERM_STEP * UNITS;
    unsigned bits = 0;  // bits of a magnitude: ordered like the numbers, with infinity and NaN above all
    for (int i = thread(); i < padded; i += THREADS) {
        const Quad values = i < count ? source[i] : Quad{};
#pragma unroll
        for (int k = 0; k < 4; ++k) bits = max(bits, __float_as_uint(values.at[k]) & 0x7fffffffu);
        weights[i] = values;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, distance));
    if (lane() == 0) largest[warp()] = bits;
    barrier<8>();
    for (int other = 0; other < WARPS; ++other) bits = max(bits, largest[other]);
    const float scale = scale_above(__uint_as_float(bits));
    for (int i = thread(); i < padded; i += THREADS) weights[i] = as_factor(weights[i], scale);
    return scale;
}

#ifndef EMULATED

// The warp's sums (16 rows x 8 columns) += unsigned bytes (16 rows x 32 terms) * signed ones (32 terms x 8 columns).
// Lane 4r + q holds rows r and r + 8: terms 4q to 4q + 3 in a0, a1 and 16 more of them in a2, a3; column r, of the
// same terms, in b0 and b1; and the sums of columns 2q and 2q + 1.
__device__ __forceinline__ void multiply_bytes(int (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                               unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#endif

// A warp's tile of a product, as in multiply_add.cuh. Lane 4r + q loads row block r of 8, for the blocks q and q + 4 of
// every 8 blocks of terms. Two rows of each block make the instruction's 16 rows, so it is issued twice; its 8 columns
// are the digits of two units.
template <bool PIXEL_ROWS>
struct Tile {
    static constexpr int BLOCKS = 8;
    static constexpr int PAIRS = UNITS / 2;

    int sums[2][PAIRS][4];
    int first, r, q;

    __device__ __forceinline__ explicit Tile(int first_row) : first(first_row), r(lane() / 4), q(lane() % 4) {
#pragma unroll
        for (int i = 0; i < 8 * PAIRS; ++i) sums[i / 4 / PAIRS][i / 4 % PAIRS][i % 4] = 0;
    }

    // Adds the terms [begin, end), counted in blocks. Beyond the last row or term, that one is loaded instead: such
    // rows are not stored, and such terms have zero factors.
    __device__ __forceinline__ void add(const uint4* images, int row_stride, int row_end, int term_stride,
                                        const Quad* factors, int begin, int end) {
        if (begin >= end) return;
        const uint4* row = images + (long long)min(first + r, row_end - 1) * row_stride;
        const unsigned* column = (const unsigned*)factors + r;
        auto load = [&](int term) {
            const uint4 block = row[(long long)min(term, end - 1) * term_stride];
            return PIXEL_ROWS ? transposed(block) : block;
        };
        uint4 near = load(begin + q), far = load(begin + q + 4);
#pragma unroll 2
        for (int term = begin + q; term < end + q; term += TERM_STEP) {
            const uint4 next_near = load(term + TERM_STEP), next_far = load(term + TERM_STEP + 4);
#pragma unroll
            for (int pair = 0; pair < PAIRS; ++pair) {
                const unsigned b0 = column[term * 4 * UNITS + 8 * pair], b1 = column[(term + 4) * 4 * UNITS + 8 * pair];
                multiply_bytes(sums[0][pair], near.x, near.y, far.x, far.y, b0, b1);
                multiply_bytes(sums[1][pair], near.z, near.w, far.z, far.w, b0, b1);
            }
            near = next_near, far = next_far;
        }
    }

    // Calls store(row block, unit, row in the block, result) for this lane's results, which the caller multiplies by the
    // factors' scale. Lanes with an even q hold the lower two digits of their unit, the next lane the upper two, both
    // for two rows. They exchange halves, so that the first lane has the first row and the second lane the second.
    template <typename Store>
    __device__ __forceinline__ void finish(Store store) {
        const bool odd = q & 1;
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int pair = 0; pair < PAIRS; ++pair) {
                const int(&sum)[4] = sums[half][pair];
                const long long one = sum[0] + 256LL * sum[1], other = sum[2] + 256LL * sum[3];
                const long long keep = odd ? other : one;
                const long long got = __shfl_xor_sync(0xffffffffu, odd ? one : other, 1);
                const long long total = odd ? got + 65536 * keep : keep + 65536 * got;
                store(first + r, 2 * pair + q / 2, 2 * half + odd, (float)total * (1 / DIGITS / 255));
            }
    }
};
