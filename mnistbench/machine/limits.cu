// Kernels that measure a GPU's limits. The compiler's options define REAL and CHAINS.

// CHAINS independent multiply-adds per step, in registers. The stored result depends on all of them.
extern "C" __global__ void multiply_adds(REAL* results, REAL value, int steps) {
    REAL chains[CHAINS];
#pragma unroll
    for (int k = 0; k < CHAINS; ++k) chains[k] = value + k;
    for (int step = 0; step < steps; ++step) {
#pragma unroll
        for (int k = 0; k < CHAINS; ++k) chains[k] = chains[k] * value + value;
    }
    REAL total = 0;
#pragma unroll
    for (int k = 0; k < CHAINS; ++k) total += chains[k];
    results[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

// All threads together read `count` pairs of words, `passes` times. The loads bypass the L1 cache, which belongs to one
// multiprocessor. The sum of the results is `passes` times the sum of the words, modulo 2^64.
extern "C" __global__ void read_words(unsigned long long* results, const ulonglong2* words, long long count, int passes) {
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x, stride = (long long)gridDim.x * blockDim.x;
    unsigned long long total = 0;
    for (int pass = 0; pass < passes; ++pass) {
#pragma unroll 8
        for (long long i = first; i < count; i += stride) {
            const ulonglong2 pair = __ldcg(words + i);
            total += pair.x + pair.y;
        }
    }
    results[first] = total;
}

extern "C" __global__ void nothing() {}
