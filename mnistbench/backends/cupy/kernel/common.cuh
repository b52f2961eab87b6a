// What every part of the kernel shares. Three files are compiled as one: this, then one of the two that multiply
// matrices (multiply_add.cuh, matrix_units.cuh), then gradient_descent.cu. The host defines, as macros:
//
//   REAL      float or double: of parameters, activations and gradients
//   UNITS     hidden units that one pass over the images computes, an even number
//   PASSES    passes; the hidden layer has UNITS * PASSES units, those beyond the network's are zero throughout
//   CLASSES   outputs
//   THREADS   of a block, a multiple of 32
//
// No header is included, so the run-time compiler needs no include path.

typedef REAL real;

constexpr int HIDDEN = UNITS * PASSES;
constexpr int CLASS_QUADS = (CLASSES + 3) / 4;
constexpr int WARPS = THREADS / 32;

// Four consecutive values, which one or two 16-byte instructions load or store.
struct alignas(16) Quad {
    real at[4];
};

// The images are stored as blocks of 16 bytes: a group of 4 images by a quad of 4 pixels, one word an image. Rows of
// a matrix product come four to a block, and so do the terms that each of its sums runs over, whichever of the two
// the images are. What the blocks are multiplied with has, for each block of terms, one Quad a unit.
constexpr int BLOCK = 4;

__device__ __forceinline__ int thread() { return threadIdx.x; }
__device__ __forceinline__ int warp() { return threadIdx.x / 32; }
__device__ __forceinline__ int lane() { return threadIdx.x % 32; }

// Test hook: the barrier of this number is left out, which a race detector must then notice.
#ifndef LEFT_OUT
#define LEFT_OUT 0
#endif

template <int NUMBER>
__device__ __forceinline__ void barrier() {
    if (NUMBER != LEFT_OUT) __syncthreads();
}

// What only a GPU has; on a CPU, the tests' emulation has plain functions of the same names.
#ifndef EMULATED

__device__ __forceinline__ uint4* shared_memory() {
    extern __shared__ uint4 memory[];
    return memory;
}

// Everything this thread has written or seen is visible to who loads the new count.
__device__ __forceinline__ void add_release(unsigned* count) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(count) : "memory");
}

__device__ __forceinline__ unsigned load_acquire(unsigned* count) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(count) : "memory");
    return value;
}

#endif

// 4 x 4 bytes with rows and columns exchanged: byte i of word k becomes byte k of word i.
__device__ __forceinline__ uint4 transposed(uint4 v) {
    const unsigned xy01 = __byte_perm(v.x, v.y, 0x5140), xy23 = __byte_perm(v.x, v.y, 0x7362);
    const unsigned zw01 = __byte_perm(v.z, v.w, 0x5140), zw23 = __byte_perm(v.z, v.w, 0x7362);
    return make_uint4(__byte_perm(xy01, zw01, 0x5410), __byte_perm(xy01, zw01, 0x7632),
                      __byte_perm(xy23, zw23, 0x5410), __byte_perm(xy23, zw23, 0x7632));
}
