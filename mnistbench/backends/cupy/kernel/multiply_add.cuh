// Matrix products by ordinary multiply-adds, in float or double, on any GPU.
//
// Images are stored as [group of 4 images][quad of 4 pixels]: word a, byte b is pixel b of image a. In a product, such a block
// of 16 bytes holds 4 rows by 4 terms of its sums, whether rows are images or pixels. The other factor has one Quad per
// unit for each block of terms.
//
// A lane keeps the sums of 8 rows (float) or 4 rows (double) by UNITS units in registers, over a slice of the terms: one
// of every SLICES blocks of terms. At the end the warp's lanes reduce over their slices.

constexpr int LANE_BLOCKS = sizeof(real) == 4 ? 2 : 1;  // row blocks per lane, limited by registers
constexpr int SLACK = 0;                                // no image is read behind the last

// Quads from one block of weights to the next. Odd, so that lanes reading neighbouring blocks use different banks.
constexpr int WEIGHT_STRIDE = UNITS | 1;

// A pixel is converted in one instruction: the float with the bits byte << 16 is byte * 2^-133, subnormal or one of the
// smallest normal numbers, which have equal steps. In a double's upper word, byte << 8 is byte * 2^-1034. The other
// factor is scaled by most of the inverse power of two, so that sums are in the ordinary range; the result by the rest.
constexpr double RAISE = sizeof(real) == 4 ? 0x1p64 : 0x1p500;
constexpr double RESULT = sizeof(real) == 4 ? 0x1p69 / 255 : 0x1p534 / 255;

__device__ __forceinline__ float pixel(unsigned word, int byte, float) {
    return __uint_as_float(__byte_perm(word, 0, 0x4044u | byte << 8));
}

__device__ __forceinline__ double pixel(unsigned word, int byte, double) {
    return __hiloint2double((int)__byte_perm(word, 0, 0x4404u | byte << 4), 0);
}

#ifndef EMULATED

// A multiply-add that keeps subnormal numbers: CuPy's options make the compiler emit fma.ftz, of the same speed.
__device__ __forceinline__ void multiply_add(float& sum, float a, float b) {
    asm("fma.rn.f32 %0, %1, %2, %0;" : "+f"(sum) : "f"(a), "f"(b));
}

__device__ __forceinline__ void multiply_add(double& sum, double a, double b) { sum = fma(a, b, sum); }

#endif

// Values as the second factor of a product. Floating-point factors have the scale 1.
__device__ __forceinline__ Quad as_factor(Quad values, real) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values.at[i] *= (real)RAISE;
    return values;
}

__device__ __forceinline__ real scale_above(real) { return 1; }

__device__ __forceinline__ Quad& hidden_of(const Block& block, int unit, int group) {
    return block.hidden[(unit / UNITS * block.chunk + group) * UNITS + unit % UNITS];
}

__device__ __forceinline__ real hidden_at(const Block& block, int unit, int group, int image) {
    return hidden_of(block, unit, group).at[image];
}

// A unit's values for a group of the chunk.
struct HiddenGroup {
    Quad* place;

    __device__ __forceinline__ HiddenGroup(const Block& block, int unit, int group)
        : place(&hidden_of(block, unit, group)) {}

    // Goes on to the group that comes GROUPS groups later.
    template <int GROUPS>
    __device__ __forceinline__ void skip() {
        place += GROUPS * UNITS;
    }

    // Z1 of its four images.
    __device__ __forceinline__ Quad values() const { return *place; }

    // Replaces Z1 by dZ1 as factors.
    __device__ __forceinline__ void replace(const Quad& errors, real scale) const { *place = as_factor(errors, scale); }
};

// A pass's weights, [quad of pixels][unit] in global memory, as factors in shared memory. Returns their scale.
__device__ __forceinline__ real load_weights(const Block& block, const Published* source, unsigned*, unsigned epoch) {
    constexpr int AT_ONCE = HAS_EPOCHS ? 4 : 1;  // so that several loads are on their way
    const int count = block.quads * UNITS;
    if constexpr (HAS_EPOCHS) barrier<7>();  // the last iteration's sums, which were in the same place, are read
    for (int first = thread(); first < count; first += AT_ONCE * THREADS) {
        Quad weights[AT_ONCE];
        fetch<12>(weights, epoch, [&](int k) {
            const int i = first + k * THREADS;
            return weights_of(source, i < count ? block.places[i / UNITS] : -1, i % UNITS);
        });
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int i = first + k * THREADS;
            if (i < count) block.weights[i / UNITS * WEIGHT_STRIDE + i % UNITS] = as_factor(weights[k], 1);
        }
    }
    return 1;
}

// Reduces COUNT values over LANES neighbouring lanes. In each step a lane exchanges half of its sums with a partner, so
// that lane s of them ends with COUNT / LANES sums from number s * COUNT / LANES on.
template <int COUNT, int LANES>
__device__ __forceinline__ void add_lanes(real* sums) {
    if constexpr (LANES > 1) {
        static_assert(COUNT % 2 == 0, "sums that cannot be halved");
        constexpr int HALF = COUNT / 2;
        const bool upper = lane() & LANES / 2;
#pragma unroll
        for (int i = 0; i < HALF; ++i) {
            const real give = upper ? sums[i] : sums[HALF + i];
            const real keep = upper ? sums[HALF + i] : sums[i];
            sums[i] = keep + __shfl_xor_sync(0xffffffffu, give, LANES / 2);
        }
        add_lanes<HALF, LANES / 2>(sums);
    }
}

// A warp's part of a product: result[row][unit] = sum over terms of pixel[row][term] / 255 * factor[term][unit].
// PIXEL_ROWS: rows are pixels and terms are images (backward); else rows are images and terms pixels (forward).
template <bool PIXEL_ROWS>
struct Tile {
    static constexpr int ROWS = BLOCK * LANE_BLOCKS;
    static constexpr int SLICES = PIXEL_ROWS ? 4 : 2 * ROWS;       // few images a block, many pixels
    static constexpr int BLOCKS = 32 / SLICES * LANE_BLOCKS;       // row blocks of the warp
    static constexpr int FACTOR_STRIDE = PIXEL_ROWS ? UNITS : WEIGHT_STRIDE;

    real sums[ROWS * UNITS];
    int first;

    __device__ __forceinline__ explicit Tile(int first_row) : first(first_row) {
#pragma unroll
        for (int i = 0; i < ROWS * UNITS; ++i) sums[i] = 0;
    }

    // Adds the terms [begin, end), counted in blocks as all rows and terms are. Rows at `row_end` and beyond do not
    // exist; their lanes repeat the last one that does.
    __device__ __forceinline__ void add(const uint4* images, int row_stride, int row_end, int term_stride,
                                        const Quad* factors, int begin, int end) {
        const uint4* rows[LANE_BLOCKS];
        uint4 block[LANE_BLOCKS];
        int term = begin + lane() % SLICES;
        if (term >= end) return;
#pragma unroll
        for (int b = 0; b < LANE_BLOCKS; ++b) {
            const int row = first + lane() / SLICES * LANE_BLOCKS + b;
            rows[b] = images + (long long)min(row, row_end - 1) * row_stride;
            block[b] = rows[b][(long long)term * term_stride];
        }
#pragma unroll 1
        for (; term < end; term += SLICES) {
            uint4 next[LANE_BLOCKS];  // loaded one step ahead, which hides the way from global memory
#pragma unroll
            for (int b = 0; b < LANE_BLOCKS; ++b)
                next[b] = rows[b][(long long)min(term + SLICES, end - 1) * term_stride];
            multiply(block, factors + term * FACTOR_STRIDE);
#pragma unroll
            for (int b = 0; b < LANE_BLOCKS; ++b) block[b] = next[b];
        }
    }

    __device__ __forceinline__ void multiply(const uint4 (&block)[LANE_BLOCKS], const Quad* factors) {
        real x[BLOCK][ROWS];
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            const uint4 v = block[row / BLOCK];
            const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int term = 0; term < BLOCK; ++term)
                x[term][row] = PIXEL_ROWS ? pixel(words[term], row % BLOCK, real())
                                          : pixel(words[row % BLOCK], term, real());
        }
#pragma unroll
        for (int unit = 0; unit < UNITS; ++unit) {
            const Quad factor = factors[unit];
#pragma unroll
            for (int term = 0; term < BLOCK; ++term)
#pragma unroll
                for (int row = 0; row < ROWS; ++row)
                    multiply_add(sums[row * UNITS + unit], factor.at[term], x[term][row]);
        }
    }

    // Calls store(row block, unit, row in the block, result) for the results that this lane ends up with.
    template <typename Store>
    __device__ __forceinline__ void finish(Store store) {
        constexpr int KEPT = ROWS * UNITS / SLICES;
        static_assert(KEPT % UNITS == 0 || UNITS % KEPT == 0, "a lane ends with whole rows, or with part of one");
        __syncwarp();  // lanes may have left the loop at different times
        add_lanes<ROWS * UNITS, SLICES>(sums);
        const int number = lane() % SLICES * KEPT, row = lane() / SLICES * ROWS + number / UNITS;
#pragma unroll
        for (int i = 0; i < KEPT; ++i)
            store(first + (row + i / UNITS) / BLOCK, number % UNITS + i % UNITS, (row + i / UNITS) % BLOCK,
                  sums[i] * (real)RESULT);
    }
};

// Z1 of one pass's units for the groups [begin, end).
__device__ __forceinline__ void forward(const Block& block, int pass, int begin, int end, real) {
    using Images = Tile<false>;
    for (int first = begin + warp() * Images::BLOCKS; first < end; first += WARPS * Images::BLOCKS) {
        Images tile(first);
        if (first < block.resident_groups)
            tile.add(block.resident, block.quads, end, 1, block.weights, 0, block.quads);
        else
            tile.add(block.streamed, block.quads, end, 1, block.weights, 0, block.quads);
        tile.finish([&](int group, int unit, int image, real sum) {
            hidden_of(block, pass * UNITS + unit, group - begin).at[image] = sum;
        });
    }
}

// dW1 and db1 of one pass's units over the groups [begin, end), added to `totals` of earlier chunks, with an epoch.
__device__ __forceinline__ void backward(const Block& block, int pass, int begin, int end, Published* totals,
                                         unsigned epoch) {
    using Pixels = Tile<true>;
    const Quad* factors = block.hidden + (pass * block.chunk - begin) * UNITS;
    const int middle = max(begin, min(end, block.resident_groups));
    for (int first = warp() * Pixels::BLOCKS; first < block.quads; first += WARPS * Pixels::BLOCKS) {
        Pixels tile(first);
        tile.add(block.resident, 1, block.quads, block.quads, factors, begin, middle);
        tile.add(block.streamed, 1, block.quads, block.quads, factors, middle, end);
        tile.finish([&](int quad, int unit, int pixel, real sum) {
            const int number = quad < block.quads ? block.places[quad] : -1;
            if (number < 0) return;
            Published* place = totals + number * UNITS + unit;
            publish(place, pixel, begin > 0 ? own_of(place, pixel) + sum : sum, epoch);
        });
    }
}
