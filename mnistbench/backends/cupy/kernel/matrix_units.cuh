// Matrix products in exact integer arithmetic on the matrix units (compute capability 8.0 and later), for float.
//
// Pixels are bytes. The other factor is rounded once, to a multiple of 2^-30 of a power of two: one above the largest
// weight that a block uses in a pass, and for dZ1 one above a bound for its unit. Values of 2^-7 of that power and more
// keep at least a float's precision, smaller ones lose bits. The integer is written as four signed bytes, digits to the
// base 256; the matrix units multiply bytes and add the products in 32 bits. A row's four sums, one per digit, are put
// together in float. No sum of products depends on its order or overflows: 32 bits hold 65,793 products of 255 and -128.
// With three DIGITS in place of four the multiple is one of 2^-23: fewer columns to multiply, but even the largest values
// have at least one bit less than a float.
//
// Terms of a sum come in octets: 8 pixels forward, 8 images backward. Arrays:
//
//   images   cells of 16 bytes, a pair of images by an octet of pixels: [tile of 32 images][pair][octet], a cell having
//            the words (image 0, quad 0), (1, 0), (0, 1), (1, 1). Pair 4 j + i of a tile is its images 8 i + 2 j and the
//            next, so that four lanes which load neighbouring pairs have eight successive images each. A pair has an
//            odd number of octets: see spread().
//   factors  lines of columns, [octet of terms][column]: the words of its first and of its last four terms. A column is a
//            digit of a unit: column_of().

static_assert(sizeof(real) == 4 && UNITS % 4 == 2, "four terms a float; an odd number of tiles in a line");
static_assert(DIGITS == 4 || (DIGITS == 3 && UNITS % 8 == 2), "eight units share a tile of third digits");

constexpr int AHEAD = 4;                  // instructions by which forward loads streamed images in advance
constexpr int OCTET_STEP = 4 * AHEAD;     // octets of weights are padded with zeros to a multiple
constexpr int SLACK = 2 * OCTET_STEP;     // cells behind the images, which are loaded and do not count
// Columns of an octet. With three digits the last are not multiplied: Z1 needs four words, and place_of() an odd number
// of tiles.
constexpr int LINE = 4 * UNITS;
constexpr int TILES = (DIGITS * UNITS + 7) / 8;                // tiles of 8 columns that are multiplied, a line's first
constexpr float RESOLUTION = DIGITS == 4 ? 0x1p30f : 0x1p23f;  // factors are rounded to multiples of scale / RESOLUTION

struct alignas(8) Words {
    unsigned at[2];
};

// A power of two greater than |largest|, at least 2^-60; infinite if `largest` is not finite. Three digits reach to 127.5
// of 128 parts of it: what is larger needs the next one.
__device__ __forceinline__ float scale_above(float largest) {
    if (DIGITS == 3) largest *= 129.0f / 128;
    const unsigned exponent = __float_as_uint(largest) & 0x7f800000u;
    return __uint_as_float(max(exponent, 0x21000000u)) * 2;
}

// Four values below `scale` as four words of digits: word t has digit t of each. With three digits, word 3 is 0.
__device__ __forceinline__ uint4 as_digits(const Quad& values, float scale) {
    unsigned word[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        // Adding 128 to each byte with carries, and subtracting it without, leaves digits from -128 to 127.
        const unsigned number = __float2int_rn(values.at[i] * (RESOLUTION / scale));
        word[i] = (number + 0x00808080u) ^ 0x00808080u;
    }
    return transposed(make_uint4(word[0], word[1], word[2], word[3]));
}

// Column of a unit's digit. A lane has the sums of two neighbouring columns, which are two digits of a unit; the other
// two are at the same place of the next tile. Of the last two units they are in the other half of the same tile.
//
// The last of three digits is at the same place of a tile that eight units share: in the first column there of one unit,
// in the second of the unit four further on. A fourth digit, 0, is multiplied for the last two units alone; the others'
// column is behind those that are multiplied, since Z1 needs one, in banks that the third digits leave free.
__device__ __forceinline__ int column_of(int unit, int digit) {
    const int upper = digit / 2, second = digit % 2;
    if (unit >= UNITS - 2) return 8 * TILES - 8 + 4 * upper + 2 * (unit % 2) + second;
    if (DIGITS == 4) return 16 * (unit / 4) + 8 * upper + 2 * (unit % 4) + second;
    const int place = 2 * (unit % 4), fours = unit / 4 % 2, eights = unit / 8;
    if (!upper) return 24 * eights + 8 * fours + place + second;
    return second ? 8 * (TILES + eights) + (place ^ 2) + fours : 24 * eights + 16 + place + fours;
}

// Place of an octet's column in an array of factors. Lanes read four octets of two half tiles at a time; a line is an odd
// number of halves of the 32 banks, and every third and fourth octet has its half tiles exchanged.
__device__ __forceinline__ int place_of(int octet, int column) { return octet * LINE + (column ^ (octet & 2) << 1); }

// Z1 of an image of a group and, in unit_errors, digit number `image` of its group's dZ1: both are 32 bits.
__device__ __forceinline__ unsigned& hidden_word(const Block& block, int unit, int group, int image) {
    Words* lines = (Words*)block.hidden + unit / UNITS * (block.chunk / 2 * LINE);
    return lines[place_of(group / 2, column_of(unit % UNITS, image))].at[group % 2];
}

__device__ __forceinline__ real hidden_at(const Block& block, int unit, int group, int image) {
    return __uint_as_float(hidden_word(block, unit, group, image));
}

// A unit's values for a group of the chunk.
struct HiddenGroup {
    unsigned* word[4];

    __device__ __forceinline__ HiddenGroup(const Block& block, int unit, int group) {
#pragma unroll
        for (int i = 0; i < 4; ++i) word[i] = &hidden_word(block, unit, group, i);
    }

    // Goes on to the group that comes GROUPS groups later.
    template <int GROUPS>
    __device__ __forceinline__ void skip() {
        static_assert(GROUPS % TILE_GROUPS == 0, "columns have the same places in every fourth octet");
#pragma unroll
        for (int i = 0; i < 4; ++i) word[i] += GROUPS * LINE;
    }

    // Z1 of its four images.
    __device__ __forceinline__ Quad values() const {
        return Quad{{__uint_as_float(*word[0]), __uint_as_float(*word[1]), __uint_as_float(*word[2]),
                     __uint_as_float(*word[3])}};
    }

    // Replaces Z1 by dZ1 as factors.
    __device__ __forceinline__ void replace(const Quad& errors, float scale) const {
        const uint4 digits = as_digits(errors, scale);
        *word[0] = digits.x, *word[1] = digits.y, *word[2] = digits.z, *word[3] = digits.w;
    }
};

__device__ __forceinline__ int padded_octets(int quads) {
    return (quads / 2 + OCTET_STEP - 1) / OCTET_STEP * OCTET_STEP;
}

// A pass's weights, [quad of pixels][unit] in global memory, as factors in shared memory. Returns their scale.
// `largest` has space for one number per warp. Between finding the scale and writing digits a thread keeps the weights of
// KEPT octets, and loads others again.
__device__ __forceinline__ float load_weights(const Block& block, const Published* source, unsigned* largest,
                                              unsigned epoch) {
    constexpr int KEPT = 3;
    const int octets = block.quads / 2, count = padded_octets(block.quads) * UNITS;
    // Both Quads of a unit in an octet: of number `begin`, and of others THREADS apart.
    auto load = [&](auto& found, int begin) {
        fetch<12>(found, epoch, [&](int k) {
            const int i = begin + k / 2 * THREADS, octet = i / UNITS;
            return weights_of(source, octet < octets ? block.places[2 * octet + k % 2] : -1, i % UNITS);
        });
    };
    unsigned bits = 0;  // bits of a magnitude: ordered like the numbers, with infinity and NaN above all
    auto look = [&](const Quad& found) {
#pragma unroll
        for (int k = 0; k < 4; ++k) bits = max(bits, __float_as_uint(found.at[k]) & 0x7fffffffu);
    };
    Quad kept[2 * KEPT], other[2];
    load(kept, thread());
#pragma unroll
    for (int k = 0; k < 2 * KEPT; ++k) look(kept[k]);
    for (int i = thread() + KEPT * THREADS; i < count; i += THREADS) load(other, i), look(other[0]), look(other[1]);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, distance));
    if (lane() == 0) largest[warp()] = bits;
    barrier<7>();
    for (int w = 0; w < WARPS; ++w) bits = max(bits, largest[w]);
    const float scale = scale_above(__uint_as_float(bits));
    auto store = [&](int i, const Quad& of_first, const Quad& of_last) {
        const uint4 first = as_digits(of_first, scale), last = as_digits(of_last, scale);
        const Words digits[4] = {{{first.x, last.x}}, {{first.y, last.y}}, {{first.z, last.z}}, {{first.w, last.w}}};
#pragma unroll
        for (int k = 0; k < 4; ++k)
            ((Words*)block.weights)[place_of(i / UNITS, column_of(i % UNITS, k))] = digits[k];
    };
#pragma unroll
    for (int k = 0; k < KEPT; ++k)
        if (thread() + k * THREADS < count) store(thread() + k * THREADS, kept[2 * k], kept[2 * k + 1]);
    for (int i = thread() + KEPT * THREADS; i < count; i += THREADS) load(other, i), store(i, other[0], other[1]);
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

// A load of the products' inner loops; the tests' emulation looks at its address.
template <typename Value>
__device__ __forceinline__ Value loaded(const Value* place) {
    return *place;
}

#endif

// A lane's part of an instruction is row r, here a row of cells or a column of factors, and of every 4 octets number q.
__device__ __forceinline__ int row() { return lane() / 4; }
__device__ __forceinline__ int octet_of_four() { return lane() % 4; }

// Which of 8 neighbouring rows or octets of cells a lane loads for row r. Eight lanes load 16 bytes at a time, two rows
// by four octets forward, two octets by four pairs backward. Pairs are an odd number of cells apart, so that four by
// four apart no two of the eight are in the same of the 8 banks of 16 bytes.
__device__ __forceinline__ int spread(int r) { return r / 2 + 4 * (r % 2); }

// Sums of one row and two columns, which are two digits of a factor.
__device__ __forceinline__ float half_of(const int (&sums)[4], int upper_row) {
    return (float)sums[2 * upper_row] + 256.0f * (float)sums[2 * upper_row + 1];
}

__device__ __forceinline__ float whole_of(float low, float high) { return low + 65536.0f * high; }

// A row's number of the unit 4 `four` + q, of all of whose digits this lane has the sums.
__device__ __forceinline__ float number_of(const int (&sums)[TILES][4], int four, int upper_row) {
    const int low = column_of(4 * four, 0), high = column_of(4 * four, 2);
    const auto& upper = sums[high / 8];
    return whole_of(half_of(sums[low / 8], upper_row),
                    DIGITS == 4 ? half_of(upper, upper_row) : (float)upper[2 * upper_row + high % 2]);
}

// A number of the last two units, of whose sums this lane has two digits in `mine` and `yours`: the lower ones if q < 2.
// It keeps `mine`, gives `yours` to the lane q ^ 2, and gets the other two digits of `mine`.
__device__ __forceinline__ float exchanged(float mine, float yours) {
    const float got = __shfl_xor_sync(0xffffffffu, yours, 2);
    return octet_of_four() < 2 ? whole_of(mine, got) : whole_of(got, mine);
}

// Adds 32 images by all pixels. `cells` is the lane's first: row spread(r), octet q; 8 pairs below it is another row.
template <int STEPS>
__device__ __forceinline__ void add_images(const uint4* cells, int octets, const Words* factors, int (&sums)[2][TILES][4]) {
    const uint4* below = cells + 8 * octets;
    uint4 upper[STEPS], lower[STEPS];
#pragma unroll
    for (int s = 0; s < STEPS; ++s) upper[s] = loaded(cells + 4 * s), lower[s] = loaded(below + 4 * s);
    const Words* column = factors + place_of(octet_of_four(), row());
#pragma unroll 1
    for (int octet = 0; octet < octets; octet += 4 * STEPS) {
        cells += 4 * STEPS, below += 4 * STEPS;
#pragma unroll
        for (int s = 0; s < STEPS; ++s) {
#pragma unroll
            for (int tile = 0; tile < TILES; ++tile) {
                const Words b = loaded(column + 4 * s * LINE + 8 * tile);
                multiply_bytes(sums[0][tile], upper[s].x, upper[s].y, upper[s].z, upper[s].w, b.at[0], b.at[1]);
                multiply_bytes(sums[1][tile], lower[s].x, lower[s].y, lower[s].z, lower[s].w, b.at[0], b.at[1]);
            }
            upper[s] = loaded(cells + 4 * s), lower[s] = loaded(below + 4 * s);
        }
        column += 4 * STEPS * LINE;
    }
}

// Z1 of one pass's units for the groups [begin, end). A warp computes tiles of 32 images: a lane's two rows of cells are
// two pairs, of which it ends with two images of two successive groups, the same two of both.
__device__ __forceinline__ void forward(const Block& block, int pass, int begin, int end, float scale) {
    const int r = row(), q = octet_of_four(), octets = block.quads / 2;
    const int cell = spread(r) * octets + q;
    const Words* factors = (const Words*)block.weights;
    scale *= 1 / RESOLUTION / 255;
    for (int first = begin + warp() * TILE_GROUPS; first < end; first += WARPS * TILE_GROUPS) {
        int sums[2][TILES][4] = {};
        if (first < block.resident_groups)
            add_images<2>(block.resident + first * block.quads + cell, octets, factors, sums);
        else
            add_images<AHEAD>(block.streamed + (long long)first * block.quads + cell, octets, factors, sums);
        const int group = first - begin + r / 2 * 2, image = r % 2 * 2;
        auto store = [&](int unit, int which, float of_group, float of_next) {
            Words& place = *(Words*)&hidden_word(block, pass * UNITS + unit, group, image + which);
            place = {{__float_as_uint(of_group * scale), __float_as_uint(of_next * scale)}};
        };
#pragma unroll
        for (int which = 0; which < 2; ++which)
#pragma unroll
            for (int four = 0; four < UNITS / 4; ++four)
                store(4 * four + q, which, number_of(sums[0], four, which), number_of(sums[1], four, which));
        float found[2];
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            const float one = half_of(sums[s][TILES - 1], 0), other = half_of(sums[s][TILES - 1], 1);
            found[s] = exchanged(q < 2 ? one : other, q < 2 ? other : one);
        }
        store(UNITS - 2 + q % 2, q / 2, found[0], found[1]);
    }
}

// Adds `images` images, a multiple of 32, to 8 octets of pixels. `cells` is the lane's first: octet spread(r), pair q.
__device__ __forceinline__ void add_pixels(const uint4* cells, int octets, const Words* factors, int images,
                                           int (&sums)[4][TILES][4]) {
    if (images <= 0) return;
    const Words* column = factors + place_of(octet_of_four(), row());
    uint4 pair[4];  // of images
#pragma unroll
    for (int i = 0; i < 4; ++i) pair[i] = loaded(cells + 4 * i * octets);
#pragma unroll 1
    for (int image = 0; image < images; image += 32) {
        uint4 first[2], last[2];  // by quads: of pixels 0 to 3 the first and the last four images
        first[0] = transposed(make_uint4(pair[0].x, pair[0].y, pair[1].x, pair[1].y));
        last[0] = transposed(make_uint4(pair[2].x, pair[2].y, pair[3].x, pair[3].y));
        first[1] = transposed(make_uint4(pair[0].z, pair[0].w, pair[1].z, pair[1].w));
        last[1] = transposed(make_uint4(pair[2].z, pair[2].w, pair[3].z, pair[3].w));
        if (image + 32 < images) cells += 16 * octets;
#pragma unroll
        for (int i = 0; i < 4; ++i) pair[i] = loaded(cells + 4 * i * octets);
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            const Words b = loaded(column + 8 * tile);
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                multiply_bytes(sums[2 * h][tile], first[h].x, first[h].y, last[h].x, last[h].y, b.at[0], b.at[1]);
                multiply_bytes(sums[2 * h + 1][tile], first[h].z, first[h].w, last[h].z, last[h].w, b.at[0], b.at[1]);
            }
        }
        column += 4 * LINE;
    }
}

// dW1 and db1 of one pass's units over the groups [begin, end), added to `totals` of earlier chunks, with an epoch. A warp
// computes tiles of 8 octets of pixels: a lane ends with the two quads of one of them.
__device__ __forceinline__ void backward(const Block& block, int pass, int begin, int end, Published* totals,
                                         unsigned epoch) {
    const int r = row(), q = octet_of_four(), octets = block.quads / 2;
    const int middle = max(begin, min(end, block.resident_groups));
    const Words* factors = (const Words*)block.hidden + pass * (block.chunk / 2 * LINE);
    for (int first = 8 * warp(); first < octets; first += 8 * WARPS) {
        const int octet = first + spread(r), cell = q * octets + octet;
        int sums[4][TILES][4] = {};
        add_pixels(block.resident + begin * block.quads + cell, octets, factors, BLOCK * (middle - begin), sums);
        add_pixels(block.streamed + (long long)middle * block.quads + cell, octets,
                   factors + (middle - begin) / 2 * LINE, BLOCK * (end - middle), sums);
        auto store = [&](int unit, int quad, Quad sum) {
            const int number = octet < octets ? block.places[2 * octet + quad] : -1;
            if (number < 0) return;
            const float scale = block.error_scales[pass * UNITS + unit] * (1 / RESOLUTION / 255);
            Published* place = totals + number * UNITS + unit;
#pragma unroll
            for (int k = 0; k < 4; ++k) sum.at[k] *= scale;
            if (begin > 0) add_to(sum, own_of(place));
            publish(place, sum, epoch);
        };
#pragma unroll
        for (int quad = 0; quad < 2; ++quad)
#pragma unroll
            for (int four = 0; four < UNITS / 4; ++four) {
                Quad found;
#pragma unroll
                for (int k = 0; k < 4; ++k) found.at[k] = number_of(sums[2 * quad + k / 2], four, k % 2);
                store(4 * four + q, quad, found);
            }
        Quad found;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float one = half_of(sums[k / 2][TILES - 1], k % 2), other = half_of(sums[2 + k / 2][TILES - 1], k % 2);
            found.at[k] = exchanged(q < 2 ? one : other, q < 2 ? other : one);
        }
        store(UNITS - 2 + q % 2, q / 2, found);
    }
}
