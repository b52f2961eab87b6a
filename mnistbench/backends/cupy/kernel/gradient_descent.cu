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
// With EPOCHS both barriers are gone, and reading parameters and gradient sums waits for each of them: exchange.cuh.
//
// All sums have a fixed order, so launches on the same number of blocks repeat bit for bit.
//
// Arrays, in Quads or cells of 16 bytes (layout.py makes them):
//
//   images      block after block, each in the order of the file that multiplies. A block leaves out quads of pixels that
//               are zero in all of its images. The last pixel is followed by one of 255, that is 1, in every image: its
//               weights are b1, and db1 needs no code.
//   shares      each block's part of the images.
//   places      [block][quad that it stores]: number among all quads, or negative for padding, whose pixels are zero.
//   parameters  W1 and b1 as [pass][quad of 4 pixels][unit], then W2 and b2 as [unit, at the end bias][4 classes].
//               Padding, a Quad at the end if their number is odd included, is zero and stays zero.
//   partials    each block's gradient sums, in the order of the parameters; zero for quads that it leaves out, and padding.
//   metrics     each block's sum of losses and number of correct predictions.

struct Share {
    long long first_cell;  // of 16 bytes, in `images`
    int first_image, images, quads;
};

// Not fmax: NaN stays NaN, so that a run that diverges shows it.
__device__ __forceinline__ real relu(real z) { return z < 0 ? 0 : z; }

// dZ2 of the groups [begin, end), zero for padding; with `measure`, adds to the block's metrics.
__device__ __forceinline__ void output(const Block& block, const unsigned char* labels, int begin, int end,
                                       bool measure, double& loss, int& hits) {
    for (int image = thread(); image < BLOCK * (end - begin); image += THREADS) {
        Quad z[CLASS_QUADS] = {};
        if (BLOCK * begin + image < block.images) {
#pragma unroll
            for (int c = 0; c < CLASS_QUADS; ++c) z[c] = block.output_weights[HIDDEN * CLASS_QUADS + c];
#pragma unroll 10
            for (int unit = 0; unit < HIDDEN; ++unit) {
                const real a = relu(hidden_at(block, unit, image / BLOCK, image % BLOCK));
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
            const real inverse = 1 / sum;
#pragma unroll
            for (int c = 0; c < CLASSES; ++c) {
                const real probability = z[c / 4].at[c % 4] * inverse;
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

// Threads of this phase: one per unit, and one for the bias, for each slice of the groups; if possible whole tiles apart.
constexpr int MOST_SLICES = THREADS / (HIDDEN + 1);
constexpr int SLICES = MOST_SLICES < TILE_GROUPS ? MOST_SLICES : MOST_SLICES / TILE_GROUPS * TILE_GROUPS;
static_assert(SLICES > 0, "more hidden units than threads");

// For one unit: dW2 += dZ2 A1 (for the bias, db2 += dZ2), and dZ1 = W2 dZ2 where Z1 > 0, which replaces Z1.
__device__ __forceinline__ void unit_errors(const Block& block, int groups, Quad (&sums)[CLASS_QUADS]) {
    const int unit = thread() % (HIDDEN + 1), slice = thread() / (HIDDEN + 1);
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
    HiddenGroup own(block, min(unit, HIDDEN - 1), slice);
    for (int group = slice; group < groups; group += SLICES) {
        Quad z = {{1, 1, 1, 1}}, error;  // the bias is a weight on 1
        if (unit < HIDDEN) z = own.values();
#pragma unroll
        for (int image = 0; image < BLOCK; ++image) {
            const real a = relu(z.at[image]);
            real back = 0;
#pragma unroll
            for (int c = 0; c < CLASS_QUADS; ++c) {
                const Quad d = block.errors[(BLOCK * group + image) * CLASS_QUADS + c];
#pragma unroll
                for (int k = 0; k < min(4, CLASSES - 4 * c); ++k)
                    sums[c].at[k] += d.at[k] * a, back += d.at[k] * weight[c].at[k];
            }
            error.at[image] = z.at[image] > 0 ? back : 0;
        }
        if (unit < HIDDEN) own.replace(error, scale);
        if constexpr (SLICES % TILE_GROUPS == 0)
            own.skip<SLICES>();
        else
            own = HiddenGroup(block, min(unit, HIDDEN - 1), group + SLICES);
    }
}

// Hands dW2 and db2 of a slice over to those who reduce them. Backward, which follows, needs no weights.
__device__ __forceinline__ void share_output_sums(const Block& block, const Quad (&sums)[CLASS_QUADS]) {
    if (thread() >= SLICES * (HIDDEN + 1)) return;
#pragma unroll
    for (int c = 0; c < CLASS_QUADS; ++c) block.weights[thread() * CLASS_QUADS + c] = sums[c];
}

// Reduces a block's dW2 and db2 over its slices, by the last threads, which have least to do in backward.
__device__ __forceinline__ void store_output_sums(const Block& block, Published* total, unsigned epoch) {
    constexpr int COUNT = (HIDDEN + 1) * CLASS_QUADS;
    for (int i = THREADS - 1 - thread(); i < COUNT; i += THREADS) {
        Quad sum = {};
        for (int slice = 0; slice < SLICES; ++slice) add_to(sum, block.weights[slice * COUNT + i]);
        publish(total + i, sum, epoch);
    }
}

// Reduces the block's loss and hits by two of its threads, once per launch.
__device__ __forceinline__ void store_metrics(const Block& block, double loss, int hits, double* metrics) {
    double* scratch = (double*)block.weights;
    barrier<5>();  // the scratch space is free
    scratch[2 * thread()] = loss, scratch[2 * thread() + 1] = hits;
    barrier<6>();
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

// Lanes of a warp that reduce one Quad of the gradients, and blocks whose sums each of them loads at a time.
constexpr int REDUCING = 16;
constexpr int AT_A_TIME = 9;

// Reduces this block's share of the gradients over all blocks, and updates those parameters. A warp reduces two
// neighbouring Quads, in float the 32 bytes that a load fetches: each of its lanes adds the sums of every 16th block, and
// then lanes add each other's. With `gradients`, stores them and leaves the parameters unchanged. `length` is even.
__device__ __forceinline__ void update(const Published* partials, int length, Published* parameters, Quad* gradients,
                                       real inverse_count, real learning_rate, unsigned epoch) {
    const int blocks = gridDim.x, share = (length / 2 + blocks - 1) / blocks * 2;
    const int begin = blockIdx.x * share, end = min(begin + share, length);
    for (int base = begin + 2 * warp(); base < end; base += 2 * WARPS) {
        const int place = base + lane() % 2;
        Quad parameter = own_of(parameters + place);  // for the two lanes that write it
        Quad sum = {};
        for (int first = lane() / 2; first < blocks; first += REDUCING * AT_A_TIME) {
            Quad values[AT_A_TIME];
            fetch<13>(values, epoch, [&](int i) {
                const int other = first + i * REDUCING;
                return Source{partials + (long long)other * length + place, other < blocks};
            });
#pragma unroll
            for (int i = 0; i < AT_A_TIME; ++i) add_to(sum, values[i]);
        }
        __syncwarp();  // lanes may have left the loop at different times
#pragma unroll
        for (int distance = 16; distance > 1; distance /= 2)
#pragma unroll
            for (int k = 0; k < 4; ++k) sum.at[k] += __shfl_xor_sync(0xffffffffu, sum.at[k], distance);
        if (lane() >= 2) continue;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            sum.at[k] *= inverse_count;
            if (!HAS_EPOCHS || !gradients) parameter.at[k] -= learning_rate * sum.at[k];
        }
        if (gradients) gradients[place] = sum;
        if (HAS_EPOCHS || !gradients) publish(parameters + place, parameter, epoch + 1);
    }
    if constexpr (HAS_EPOCHS) __syncwarp();  // before any lane waits for what another one publishes here
}

// With PROFILE, each block notes the clock at the ends of an iteration's phases, when its last warp has come there; of
// the last iteration in the end.
#ifdef PROFILE
constexpr int NOTES = 10, MOST_BLOCKS = 1024;
__device__ long long phase_clocks[MOST_BLOCKS][NOTES];
#endif

template <int PHASE>
__device__ __forceinline__ void note() {
#ifdef PROFILE
    __syncthreads();
    if (threadIdx.x == 0 && blockIdx.x < MOST_BLOCKS) phase_clocks[blockIdx.x][PHASE] = clock64();
#endif
}

// Runs `iterations` iterations. With `gradients`, writes the last one's there and updates no parameters. The launch must be
// cooperative: blocks that do not all run at once wait for ever. Without EPOCHS, `arrivals` is 0 at the launch. With EPOCHS,
// the parameters are of `first_epoch`, which is above that of all sums but those that last.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
gradient_descent(const uint4* images, const unsigned char* labels, const Share* shares, const int* places,
                 Published* parameters, Quad* gradients, Published* all_partials, double* metrics, unsigned* arrivals,
                 int image_count, int all_quads, int most_quads, int iterations, real learning_rate,
                 int resident_cells, int chunk, unsigned first_epoch) {
    const int weight_quads = PASSES * all_quads * UNITS, output_quads = (HIDDEN + 1) * CLASS_QUADS;
    const int length = (weight_quads + output_quads + 1) / 2 * 2;
    const Share own = shares[blockIdx.x];
    const real inverse_count = 1 / (real)image_count;

    Block block;
    block.quads = own.quads, block.images = own.images, block.chunk = chunk;
    block.groups = (own.images + BLOCK * TILE_GROUPS - 1) / (BLOCK * TILE_GROUPS) * TILE_GROUPS;
    block.resident_groups = min(block.groups, resident_cells / own.quads / TILE_GROUPS * TILE_GROUPS);
    block.streamed = images + own.first_cell;
    labels += own.first_image;
    Published* partials = all_partials + (long long)blockIdx.x * length;

    uint4* memory = shared_memory();
    block.resident = memory;
    block.hidden = (Quad*)(memory + resident_cells + SLACK);
    block.errors = block.hidden + chunk * HIDDEN;
    block.output_weights = block.errors + chunk * BLOCK * CLASS_QUADS;
    block.error_scales = (real*)(block.output_weights + output_quads);
    block.places = (int*)(block.output_weights + output_quads + (HIDDEN + 3) / 4);
    block.weights = (Quad*)block.places + (most_quads * sizeof(int) + sizeof(Quad) - 1) / sizeof(Quad);
    for (int i = thread(); i < own.quads; i += THREADS) block.places[i] = places[blockIdx.x * most_quads + i];
    for (int i = thread(); i < block.resident_groups * own.quads + SLACK; i += THREADS) memory[i] = block.streamed[i];
    barrier<10>();

    unsigned expected = 0;
    for (int iteration = 0; iteration < iterations; ++iteration) {
        const bool last = iteration == iterations - 1;
        const unsigned epoch = first_epoch + iteration;
        note<0>();
        for (int i = thread(); i < output_quads; i += THREADS) {
            Quad weight[1];
            fetch<11>(weight, epoch, [&](int) { return Source{parameters + weight_quads + i, true}; });
            block.output_weights[i] = weight[0];
        }
        Quad output_sums[CLASS_QUADS] = {};
        double loss = 0;
        int hits = 0;
        real scale = 1;
        for (int begin = 0; begin < block.groups; begin += chunk) {
            const int end = min(begin + chunk, block.groups);
            for (int pass = 0; pass < PASSES; ++pass) {
                if (PASSES > 1 || begin == 0) {  // else the last chunk's weights are still there
                    unsigned* free = (unsigned*)block.errors;
                    scale = load_weights(block, parameters + pass * all_quads * UNITS, free, epoch);
                }
                barrier<1>();
                note<1>();
                forward(block, pass, begin, end, scale);
                barrier<2>();
            }
            note<2>();
            output(block, labels, begin, end, last, loss, hits);
            barrier<3>();
            note<3>();
            unit_errors(block, end - begin, output_sums);
            const bool all = end == block.groups;
            if (all) share_output_sums(block, output_sums);
            barrier<4>();
            note<4>();
            const unsigned sums_epoch = all ? epoch : UNFINISHED;
            if (all) store_output_sums(block, partials + weight_quads, epoch);
            for (int pass = 0; pass < PASSES; ++pass)
                backward(block, pass, begin, end, partials + pass * all_quads * UNITS, sums_epoch);
            // Barrier 1 separates this from the next chunk's forward, which overwrites what backward reads. With EPOCHS,
            // barriers 1 and 7 also separate iterations.
        }
        note<5>();
        if (last) store_metrics(block, loss, hits, metrics);
        note<6>();
        if constexpr (!HAS_EPOCHS) grid_barrier<8>(arrivals, expected);
        note<7>();
        update(all_partials, length, parameters, gradients, inverse_count, learning_rate, epoch);
        note<8>();
        if constexpr (!HAS_EPOCHS) grid_barrier<9>(arrivals, expected);
        note<9>();
    }
}
