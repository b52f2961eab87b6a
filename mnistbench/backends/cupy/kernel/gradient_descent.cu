// Full-batch gradient descent in one launch: every iteration of
//
//   Z1 = W1 X + b1    A1 = ReLU(Z1)    Z2 = W2 A1 + b2    A2 = softmax(Z2)        and the gradients back to W1, b1,
//
// by one block per multiprocessor, all running at once from the first iteration to the last. A block owns a fixed share
// of the images, keeps as many as fit in shared memory, and streams the others (twice an iteration, the second time from
// the L2 cache). An iteration is:
//
//   forward      Z1 of the block's images                                      matrix product, images by pixels
//   output       Z2, softmax, dZ2 = A2 - Y                                     one thread per image
//   unit_errors  dW2, db2; dZ1 replaces Z1                                     one thread per hidden unit and slice
//   backward     dW1, db1 of the block's images                                matrix product, pixels by images
//   ------------ grid barrier: all gradient sums are in memory ------------
//   update       each block reduces its share of the gradients over all blocks, and updates those parameters
//   ------------ grid barrier: all parameters are updated ------------
//
// All sums have a fixed order, so launches on the same number of blocks repeat bit for bit.
//
// Arrays, in Quads or blocks of 16 bytes (layout.py makes them):
//
//   images      [group of 4 images][quad of 4 pixels]: word a, byte b is pixel b of image a. The last pixel is
//               followed by one of 255, that is 1, in every image: its weights are b1, and db1 needs no code.
//   parameters  W1 and b1 as [pass][quad of 4 pixels][unit], then W2 and b2 as [unit, at the end bias][4 classes].
//               Padding is zero and stays zero.
//   partials    each block's gradient sums, in the order of the parameters.
//   metrics     each block's sum of losses and number of correct predictions.

// A block's images and shared memory.
struct Block {
    const uint4 *resident, *streamed;  // images: the first ones in shared memory, all in global memory
    int groups, resident_groups;       // groups of images: all, and those in shared memory
    int images;                        // without padding
    int quads;                         // quads of pixels
    Quad* weights;                     // one pass's weights as factors; between the products, scratch space for sums
    Quad* hidden;                      // [pass][group in the chunk][unit]: Z1, then dZ1 as factors, for 4 images
    Quad* errors;                      // [image in the chunk][4 classes]: dZ2
    Quad* output_weights;              // [unit or bias][4 classes]
    real* error_scales;                // scale of dZ1, per unit
    int chunk;                         // capacity of `hidden` and `errors`, in groups
};

// A unit's values for a group of the chunk.
__device__ __forceinline__ Quad& hidden_at(const Block& block, int unit, int group) {
    return block.hidden[(unit / UNITS * block.chunk + group) * UNITS + unit % UNITS];
}

// Not fmax: NaN stays NaN, so that a run that diverges shows it.
__device__ __forceinline__ real relu(real z) { return z < 0 ? 0 : z; }

__device__ __forceinline__ void add_to(Quad& sum, const Quad& value) {
#pragma unroll
    for (int k = 0; k < 4; ++k) sum.at[k] += value.at[k];
}

// Z1 of one pass's units for the groups [begin, end).
__device__ __forceinline__ void forward(const Block& block, int pass, int begin, int end, real scale) {
    using Images = Tile<false>;
    for (int first = begin + warp() * Images::BLOCKS; first < end; first += WARPS * Images::BLOCKS) {
        Images tile(first);
        // The number of resident groups is a multiple of a tile's, unless all are resident.
        if (first < block.resident_groups)
            tile.add(block.resident, block.quads, end, 1, block.weights, 0, block.quads);
        else
            tile.add(block.streamed, block.quads, end, 1, block.weights, 0, block.quads);
        tile.finish([&](int group, int unit, int image, real sum) {
            if (group < end) hidden_at(block, pass * UNITS + unit, group - begin).at[image] = sum * scale;
        });
    }
}

// dZ2 of the groups [begin, end), zero for padding; with `measure`, adds to the block's metrics.
__device__ __forceinline__ void output(const Block& block, const unsigned char* labels, int begin, int end,
                                       bool measure, double& loss, int& hits) {
    const int padded = (end - begin + TERM_STEP - 1) / TERM_STEP * TERM_STEP * BLOCK;
    for (int image = thread(); image < padded; image += THREADS) {
        Quad z[CLASS_QUADS] = {};
        if (BLOCK * begin + image < min(block.images, BLOCK * end)) {
#pragma unroll
            for (int c = 0; c < CLASS_QUADS; ++c) z[c] = block.output_weights[HIDDEN * CLASS_QUADS + c];
#pragma unroll 10
            for (int unit = 0; unit < HIDDEN; ++unit) {
                const real a = relu(hidden_at(block, unit, image / BLOCK).at[image % BLOCK]);
#pragma unroll
                for (int c = 0; c < CLASS_QUADS; ++c) {
                    const Quad weight = block.output_weights[unit * CLASS_QUADS + c];
#pragma unroll
                    for (int k = 0; k < 4; ++k) z[c].at[k] += weight.at[k] * a;
                }
            }
            const int label = labels[BLOCK * begin + image];
            int best = 0;
            real largest = z[0].at[0], of_label = 0, sum = 0;
#pragma unroll
            for (int c = 0; c < CLASSES; ++c) {
                const real value = z[c / 4].at[c % 4];
                if (value > largest) largest = value, best = c;  // of equal values, the first
                if (c == label) of_label = value;
            }
#pragma unroll
            for (int c = 0; c < CLASSES; ++c) sum += z[c / 4].at[c % 4] = exp(z[c / 4].at[c % 4] - largest);
#pragma unroll
            for (int c = 0; c < CLASSES; ++c) {
                const real probability = z[c / 4].at[c % 4] / sum;
                z[c / 4].at[c % 4] = c == label ? probability - 1 : probability;
            }
#pragma unroll
            for (int c = CLASSES; c < 4 * CLASS_QUADS; ++c) z[c / 4].at[c % 4] = 0;
            if (measure) loss += (double)log(sum) - ((double)of_label - (double)largest), hits += best == label;
        }
#pragma unroll
        for (int c = 0; c < CLASS_QUADS; ++c) block.errors[image * CLASS_QUADS + c] = z[c];
    }
}

// Threads of this phase: one per unit, and one for the bias, for each slice of the groups.
constexpr int SLICES = THREADS / (HIDDEN + 1);
static_assert(SLICES > 0, "more hidden units than threads");

// For one unit: dW2 += dZ2 A1 (for the bias, db2 += dZ2), and dZ1 = W2 dZ2 where Z1 > 0, which replaces Z1.
__device__ __forceinline__ void unit_errors(const Block& block, int groups, Quad (&sums)[CLASS_QUADS]) {
    const int unit = thread() % (HIDDEN + 1), slice = thread() / (HIDDEN + 1);
    const int padded = (groups + TERM_STEP - 1) / TERM_STEP * TERM_STEP;
    if (slice >= SLICES) return;
    Quad weight[CLASS_QUADS];
    real largest = 0;
#pragma unroll
    for (int c = 0; c < CLASS_QUADS; ++c) {
        weight[c] = block.output_weights[unit * CLASS_QUADS + c];
#pragma unroll
        for (int k = 0; k < 4; ++k) largest = max(largest, abs(weight[c].at[k]));
    }
    // The sum of |dZ2| over an image's classes is at most 2, so |dZ1| is at most twice the unit's largest weight.
    const real scale = scale_above(2 * largest);
    if (slice == 0 && unit < HIDDEN) block.error_scales[unit] = scale;
    for (int group = slice; group < padded; group += SLICES) {
        Quad z = {{1, 1, 1, 1}}, error;  // the bias is a weight on 1
        if (unit < HIDDEN) z = group < groups ? hidden_at(block, unit, group) : Quad{};
#pragma unroll
        for (int image = 0; image < BLOCK; ++image) {
            const real a = relu(z.at[image]);
            real back = 0;
#pragma unroll
            for (int c = 0; c < CLASS_QUADS; ++c) {
                const Quad d = block.errors[(BLOCK * group + image) * CLASS_QUADS + c];
#pragma unroll
                for (int k = 0; k < 4; ++k) sums[c].at[k] += d.at[k] * a, back += d.at[k] * weight[c].at[k];
            }
            error.at[image] = z.at[image] > 0 ? back : 0;
        }
        if (unit < HIDDEN) hidden_at(block, unit, group) = as_factor(error, scale);
    }
}

// dW1 and db1 of one pass's units over the groups [begin, end), added to `sums` of earlier chunks.
__device__ __forceinline__ void backward(const Block& block, int pass, int begin, int end, Quad* sums) {
    using Pixels = Tile<true>;
    const Quad* factors = block.hidden + (pass * block.chunk - begin) * UNITS;
    const int middle = max(begin, min(end, block.resident_groups));
    for (int first = warp() * Pixels::BLOCKS; first < block.quads; first += WARPS * Pixels::BLOCKS) {
        Pixels tile(first);
        tile.add(block.resident, 1, block.quads, block.quads, factors, begin, middle);
        tile.add(block.streamed, 1, block.quads, block.quads, factors, middle, end);
        tile.finish([&](int quad, int unit, int pixel, real sum) {
            if (quad >= block.quads) return;
            real& place = sums[quad * UNITS + unit].at[pixel];
            sum *= block.error_scales[pass * UNITS + unit];
            place = begin > 0 ? place + sum : sum;
        });
    }
}

// Reduces a block's dW2 and db2 over its slices.
__device__ __forceinline__ void store_output_sums(const Block& block, const Quad (&sums)[CLASS_QUADS], Quad* total) {
    constexpr int COUNT = (HIDDEN + 1) * CLASS_QUADS;
    Quad* scratch = block.weights;
    if (thread() < SLICES * (HIDDEN + 1))
#pragma unroll
        for (int c = 0; c < CLASS_QUADS; ++c) scratch[thread() * CLASS_QUADS + c] = sums[c];
    barrier<5>();
    for (int i = thread(); i < COUNT; i += THREADS) {
        Quad sum = {};
        for (int slice = 0; slice < SLICES; ++slice) add_to(sum, scratch[slice * COUNT + i]);
        total[i] = sum;
    }
}

// Reduces the block's loss and hits by two of its threads, once per launch.
__device__ __forceinline__ void store_metrics(const Block& block, double loss, int hits, double* metrics) {
    double* scratch = (double*)block.weights;
    barrier<6>();  // the scratch space is free
    scratch[2 * thread()] = loss, scratch[2 * thread() + 1] = hits;
    barrier<7>();
    if (thread() < 2) {
        double sum = 0;
        for (int other = 0; other < THREADS; ++other) sum += scratch[2 * other + thread()];
        metrics[2 * blockIdx.x + thread()] = sum;
    }
}

// Grid barrier; afterwards all blocks' writes are visible. `arrivals` counts since the launch and may wrap around.
template <int NUMBER>
__device__ __forceinline__ void grid_barrier(unsigned* arrivals, unsigned& expected) {
    if (NUMBER == LEFT_OUT) return;
    __syncthreads();
    expected += gridDim.x;
    if (threadIdx.x == 0) {
        add_release(arrivals);
        while ((int)(load_acquire(arrivals) - expected) < 0) {
        }
    }
    __syncthreads();
}

// Reduces this block's share of the gradients over all blocks, and updates those parameters. The threads of a column
// add the sums of every `slices`-th block; then one of them adds the results.
__device__ __forceinline__ void update(const Block& block, const Quad* partials, int length, Quad* parameters,
                                       Quad* gradients, int image_count, real learning_rate) {
    const int blocks = gridDim.x, share = (length + blocks - 1) / blocks;
    const int begin = blockIdx.x * share, end = min(begin + share, length);
    const int width = min(share, THREADS), slices = THREADS / width;
    const int column = thread() % width, slice = thread() / width;
    Quad* scratch = block.weights;
    for (int base = begin; base < end; base += width) {
        const int place = base + column;
        if (slice < slices && place < end) {
            Quad sum = {};
#pragma unroll 4
            for (int other = slice; other < blocks; other += slices)
                add_to(sum, partials[(long long)other * length + place]);
            scratch[thread()] = sum;
        }
        barrier<9>();
        if (slice == 0 && place < end) {
            Quad sum = scratch[column];
            for (int other = 1; other < slices; ++other) add_to(sum, scratch[other * width + column]);
            Quad parameter = parameters[place];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                sum.at[k] /= image_count;
                parameter.at[k] -= learning_rate * sum.at[k];
            }
            if (gradients)
                gradients[place] = sum;
            else
                parameters[place] = parameter;
        }
        // The next columns need no barrier: if there are any, each thread has a column of its own.
    }
}

// Runs `iterations` iterations. With `gradients`, writes the last one's there and updates no parameters. `arrivals` is 0
// at the launch, which must be cooperative: unless all blocks run at once, the grid barrier deadlocks.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
gradient_descent(const uint4* images, const unsigned char* labels, Quad* parameters, Quad* gradients,
                 Quad* all_partials, double* metrics, unsigned* arrivals, int image_count, int quads, int iterations,
                 real learning_rate, int resident_groups, int chunk) {
    const int weight_quads = PASSES * quads * UNITS, output_quads = (HIDDEN + 1) * CLASS_QUADS;
    const int length = weight_quads + output_quads;
    const int all_groups = (image_count + BLOCK - 1) / BLOCK;
    const int first = (int)((long long)all_groups * blockIdx.x / gridDim.x);

    Block block;
    block.quads = quads, block.chunk = chunk;
    block.groups = (int)((long long)all_groups * (blockIdx.x + 1) / gridDim.x) - first;
    block.resident_groups = min(resident_groups, block.groups);
    block.images = min(image_count - BLOCK * first, BLOCK * block.groups);
    block.streamed = images + (long long)first * quads;
    labels += BLOCK * first;
    Quad* partials = all_partials + (long long)blockIdx.x * length;

    uint4* memory = shared_memory();
    block.resident = memory;
    block.hidden = (Quad*)(memory + resident_groups * quads);
    block.errors = block.hidden + chunk * HIDDEN;
    block.output_weights = block.errors + chunk * BLOCK * CLASS_QUADS;
    block.error_scales = (real*)(block.output_weights + output_quads);
    block.weights = block.output_weights + output_quads + (HIDDEN + 3) / 4;
    for (int i = thread(); i < block.resident_groups * quads; i += THREADS) memory[i] = block.streamed[i];

    unsigned expected = 0;
    for (int iteration = 0; iteration < iterations; ++iteration) {
        const bool last = iteration == iterations - 1;
        for (int i = thread(); i < output_quads; i += THREADS) block.output_weights[i] = parameters[weight_quads + i];
        Quad output_sums[CLASS_QUADS] = {};
        double loss = 0;
        int hits = 0;
        real scale = 1;
        for (int begin = 0; begin < block.groups; begin += chunk) {
            const int end = min(begin + chunk, block.groups);
            for (int pass = 0; pass < PASSES; ++pass) {
                if (PASSES > 1 || begin == 0) {  // else the last chunk's weights are still there
                    unsigned* free = (unsigned*)block.errors;
                    scale = load_weights(parameters + pass * quads * UNITS, quads, block.weights, free);
                }
                barrier<1>();
                forward(block, pass, begin, end, scale);
                barrier<2>();
            }
            output(block, labels, begin, end, last, loss, hits);
            barrier<3>();
            unit_errors(block, end - begin, output_sums);
            barrier<4>();
            for (int pass = 0; pass < PASSES; ++pass)
                backward(block, pass, begin, end, partials + pass * quads * UNITS);
            // Barrier 1 separates this from the next chunk's forward, which overwrites what backward reads.
        }
        store_output_sums(block, output_sums, partials + weight_quads);
        if (last) store_metrics(block, loss, hits, metrics);
        grid_barrier<10>(arrivals, expected);
        update(block, all_partials, length, parameters, gradients, image_count, learning_rate);
        grid_barrier<11>(arrivals, expected);
    }
}
