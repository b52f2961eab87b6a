// Kernels of any multilayer perceptron besides matrix products and reductions: inputs, random words, elementwise
// operations and optimizers. The equations are those of mnistbench/reference/mlp.py; random words (counter.py) and
// augmentation (augmentation.py) are the reference's bit for bit. The host defines these macros:
//
//   REAL        type of parameters, activations and gradients: float or double
//   THREADS     threads per block
//   ACTIVATION  RELU, LEAKY_RELU, TANH or SIGMOID; LEAK is LEAKY_RELU's slope below 0
//   OPTIMIZER   GD, MOMENTUM, NESTEROV, RMSPROP, ADAM or ADAMW
//
// Images are rows: X (images, pixels), Z and A (images, units). For each image of an epoch, in the order in which its
// batches take them, `places` has its index in the training set, and `held` its index among the images that are held. What
// changes from one iteration to the next is read from a `Step`, so that a captured launch fits all iterations. No header is
// included, so the run-time compiler needs no include path.

typedef REAL real;

enum { RELU, LEAKY_RELU, TANH, SIGMOID };
enum { GD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW };

#ifndef EMULATED
__device__ __forceinline__ uint4* shared_memory() {
    extern __shared__ uint4 memory[];
    return memory;
}
#endif

// Index of the thread's element, in kernels with one thread per element.
__device__ __forceinline__ long long element() { return (long long)blockIdx.x * THREADS + threadIdx.x; }

// Random words: Threefry-2x32 with 20 rounds

struct Words {
    unsigned first, second;
};

__device__ __forceinline__ unsigned rotated(unsigned word, int bits) { return word << bits | word >> (32 - bits); }

__device__ __forceinline__ Words threefry(Words key, unsigned x, unsigned y) {
    constexpr int ROTATIONS[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const unsigned schedule[3] = {key.first, key.second, key.first ^ key.second ^ 0x1BD11BDAu};
    x += schedule[0], y += schedule[1];
#pragma unroll
    for (int group = 0; group < 5; ++group) {
#pragma unroll
        for (int round = 0; round < 4; ++round) {
            x += y;
            y = rotated(y, ROTATIONS[group % 2][round]) ^ x;
        }
        x += schedule[(group + 1) % 3];
        y += schedule[(group + 2) % 3] + group + 1;
    }
    return {x, y};
}

// Iterations

// An iteration's constants: those of the optimizer, explained there, and the index in `places` and `held` of its batch's
// first image. The keys of its random words follow.
struct Step {
    real penalty, rate, keep, take, keep_square, take_square, correction, epsilon, shrink;
    unsigned first;
};

// Positions among a step's keys, as flat.packed_steps writes them. Dropout of hidden layer l, counted from 0, has
// DROPOUT_KEY + l.
enum { PLACE_KEY, ELASTIC_KEY, DROPOUT_KEY };

__device__ __forceinline__ Words key(const Step* step, int position) { return ((const Words*)(step + 1))[position]; }

// Copies the next of `steps` to `current`, both in words. Each thread counts the steps for itself, so none waits for another.
extern "C" __global__ void __launch_bounds__(THREADS)
take_step(unsigned* current, const unsigned* steps, unsigned* counts, int words) {
    const long long i = element();
    if (i < words) current[i] = steps[(long long)counts[i]++ * words + i];
}

// Inputs

// X of the images without augmentation: one block per image.
extern "C" __global__ void __launch_bounds__(THREADS)
gather(real* X, const unsigned char* images, const unsigned* held, const Step* step, int pixels) {
    const unsigned char* image = images + (long long)held[step->first + blockIdx.x] * pixels;
    for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS)
        X[(long long)blockIdx.x * pixels + pixel] = (real)image[pixel] / 255;
}

// A position in an image, or a displacement, in 1/256 pixel.
struct Position {
    int row, column;
};

// Source position of a pixel when the image is rotated around its centre and shifted; `words` are the image's.
__device__ __forceinline__ Position turned(int row, int column, int height, int width, Words words, int shift,
                                           const int* cosines, const int* sines) {
    const unsigned choices = 2 * shift + 1;
    const int down = (int)((words.first >> 16) * choices >> 16) - shift;
    const int right = (int)((words.first & 0xFFFF) * choices >> 16) - shift;
    const int cosine = cosines[words.second >> 22], sine = sines[words.second >> 22];
    // Twice the distance from the centre is an integer.
    const int y = 2 * row - (height - 1), x = 2 * column - (width - 1);
    return {((cosine * y - sine * x + 64) >> 7) + 128 * (height - 1) + 256 * down,
            ((sine * y + cosine * x + 64) >> 7) + 128 * (width - 1) + 256 * right};
}

// A pixel of an image (height, width); 0 outside.
__device__ __forceinline__ int value_at(const unsigned char* image, int row, int column, int height, int width) {
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    return inside ? image[row * width + column] : 0;
}

__device__ __forceinline__ int interpolated(const unsigned char* image, Position at, int height, int width) {
    const int top = at.row >> 8, left = at.column >> 8, down = at.row & 255, right = at.column & 255;
    const int upper = value_at(image, top, left, height, width) * (256 - right) +
                      value_at(image, top, left + 1, height, width) * right;
    const int lower = value_at(image, top + 1, left, height, width) * (256 - right) +
                      value_at(image, top + 1, left + 1, height, width) * right;
    return (upper * (256 - down) + lower * down + (1 << 15)) >> 16;
}

// Fills `field` with the random displacements of an image's pixels, [row or column direction][pixel], and `smoothed`
// with the field smoothed along the columns.
__device__ __forceinline__ void smooth_field(int* field, int* smoothed, unsigned place, Words key, int height, int width,
                                             const int* smooth_rows) {
    const int pixels = height * width;
    for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS) {
        const Words words = threefry(key, place, pixel);
        field[pixel] = 2 * (int)(words.first >> 24) - 255;
        field[pixels + pixel] = 2 * (int)(words.second >> 24) - 255;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * pixels; i += THREADS) {
        const int row = i % pixels / width;
        const int* column = field + (i - row * width);  // in this direction's first row
        int sum = 0;
        for (int k = 0; k < height; ++k) sum += smooth_rows[row * height + k] * column[k * width];
        smoothed[i] = sum;
    }
    __syncthreads();
}

// A pixel's displacement, from its row of `smoothed`.
__device__ __forceinline__ int displacement(const int* row, int column, int width, const int* smooth_columns, int bend) {
    int sum = 0;
    for (int k = 0; k < width; ++k) sum += row[k] * smooth_columns[k * width + column];
    return (sum >> 8) * bend >> 14;
}

// X of augmented images, one block per image. `first_held` is the index in the training set of the first image that is
// held. Unless `bend` is 0, it needs four ints of shared memory per pixel.
extern "C" __global__ void __launch_bounds__(THREADS)
augment(real* X, const unsigned char* images, const unsigned* places, const Step* step, unsigned first_held, int height,
        int width, int shift, int bend, const int* cosines, const int* sines, const int* smooth_rows,
        const int* smooth_columns) {
    const int pixels = height * width;
    const unsigned place = places[step->first + blockIdx.x];
    const unsigned char* image = images + (long long)(place - first_held) * pixels;
    int* field = (int*)shared_memory();
    int* smoothed = field + 2 * pixels;
    if (bend) smooth_field(field, smoothed, place, key(step, ELASTIC_KEY), height, width, smooth_rows);
    const Words words = threefry(key(step, PLACE_KEY), place, 0);
    for (int pixel = threadIdx.x; pixel < pixels; pixel += THREADS) {
        const int row = pixel / width, column = pixel % width;
        Position at = turned(row, column, height, width, words, shift, cosines, sines);
        if (bend) {
            at.row += displacement(smoothed + row * width, column, width, smooth_columns, bend);
            at.column += displacement(smoothed + pixels + row * width, column, width, smooth_columns, bend);
        }
        X[(long long)blockIdx.x * pixels + pixel] = (real)interpolated(image, at, height, width) / 255;
    }
}

// Layers

// f(z). Not fmax: NaN stays NaN, so that a run that diverges shows it.
__device__ __forceinline__ real activation(real z) {
    if (ACTIVATION == RELU) return z < 0 ? 0 : z;
    if (ACTIVATION == LEAKY_RELU) return z > 0 ? z : (real)LEAK * z;
    if (ACTIVATION == TANH) return tanh(z);
    const real e = exp(-abs(z));  // without overflow
    return (z < 0 ? e : 1) / (1 + e);
}

// f'(z), where a is f(z).
__device__ __forceinline__ real slope(real z, real a) {
    if (ACTIVATION == RELU) return z > 0 ? 1 : 0;
    if (ACTIVATION == LEAKY_RELU) return z > 0 ? 1 : (real)LEAK;
    return ACTIVATION == TANH ? 1 - a * a : a * (1 - a);
}

// A hidden layer after its product Z: A = f(Z + b) * M, and Z becomes the backward pass's factor f'(Z + b) * M. The
// mask M is 0 where a unit's word is less than `below`, else `scale`. A thread computes two units, which share a
// counter. Without dropout, `below` is 0, no words are drawn, and `scale` is 1.
extern "C" __global__ void __launch_bounds__(THREADS)
activate(real* Z, real* A, const real* bias, const unsigned* places, const Step* step, int layer, int images, int units,
         unsigned long long below, real scale) {
    const int pairs = (units + 1) / 2;
    const long long i = element();
    if (i >= (long long)images * pairs) return;
    const int image = i / pairs, pair = i % pairs;
    Words words = {0, 0};
    if (below) words = threefry(key(step, DROPOUT_KEY + layer), places[step->first + image], pair);
    for (int k = 0; k < 2; ++k) {
        const int unit = 2 * pair + k;
        if (unit >= units) return;
        const long long at = (long long)image * units + unit;
        const real mask = (k ? words.second : words.first) >= below ? scale : 0;
        const real z = Z[at] + bias[unit], a = activation(z);
        A[at] = a * mask;
        Z[at] = slope(z, a) * mask;
    }
}

// The last layer after its product: Z becomes softmax(Z + b) - Y; metrics [loss or hit][image] has each image's loss and
// whether its label is the most probable class.
extern "C" __global__ void __launch_bounds__(THREADS)
output_errors(real* Z, const real* bias, const int* labels, const unsigned* held, const Step* step, double* metrics,
              int images, int classes) {
    const long long image = element();
    if (image >= images) return;
    real* z = Z + image * classes;
    int best = 0;
    for (int c = 0; c < classes; ++c) {
        z[c] += bias[c];
        if (z[c] > z[best]) best = c;  // of equal values, the first
    }
    const int label = labels[held[step->first + image]];
    const real largest = z[best], of_label = z[label];
    real sum = 0;
    for (int c = 0; c < classes; ++c) sum += z[c] = exp(z[c] - largest);
    for (int c = 0; c < classes; ++c) z[c] = z[c] / sum - (c == label ? 1 : 0);
    metrics[image] = (double)log(sum) - ((double)of_label - (double)largest);
    metrics[images + image] = best == label;
}

// Optimizers. Parameters, `sums` and each moment are flat arrays, all weights first.

// The mean gradient over the batch, plus `penalty` (lambda / n) times a weight.
__device__ __forceinline__ real gradient(const real* sums, const real* values, int i, int weights, int images,
                                         real penalty) {
    const real mean = sums[i] / images;
    return i < weights ? mean + penalty * values[i] : mean;
}

// Replaces the sums by the gradients.
extern "C" __global__ void __launch_bounds__(THREADS)
gradients(real* sums, const real* values, int length, int weights, int images, real penalty) {
    const long long i = element();
    if (i < length) sums[i] = gradient(sums, values, i, weights, images, penalty);
}

// `keep` and `keep_square` are the decay rates of the moments, `take` and `take_square` the weights of new values. For
// adam and adamw, `rate` and `correction` include the bias corrections; adamw multiplies its weights by `shrink`.
extern "C" __global__ void __launch_bounds__(THREADS)
update(real* values, const real* sums, real* moments, const Step* step, int length, int weights, int images) {
    const long long i = element();
    if (i >= length) return;
    const Step own = *step;
    const real g = gradient(sums, values, i, weights, images, own.penalty);
    real p = values[i];
    if (OPTIMIZER == GD) p -= own.rate * g;
    if (OPTIMIZER == MOMENTUM || OPTIMIZER == NESTEROV) {
        const real v = moments[i] = own.keep * moments[i] + g;
        p -= own.rate * (OPTIMIZER == MOMENTUM ? v : g + own.keep * v);
    }
    if (OPTIMIZER == RMSPROP) {
        const real s = moments[i] = own.keep_square * moments[i] + own.take_square * (g * g);
        p -= own.rate * g / (sqrt(s) + own.epsilon);
    }
    if (OPTIMIZER == ADAM || OPTIMIZER == ADAMW) {
        real &mean = moments[i], &square = moments[length + i];
        if (OPTIMIZER == ADAMW && i < weights) p *= own.shrink;
        mean = own.keep * mean + own.take * g;
        square = own.keep_square * square + own.take_square * (g * g);
        p -= own.rate * mean / (sqrt(square) * own.correction + own.epsilon);
    }
    values[i] = p;
}
