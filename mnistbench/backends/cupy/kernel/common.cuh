// Definitions shared by all parts of the kernel. Four files are compiled as one: this, exchange.cuh, then one of the two
// that multiply matrices (multiply_add.cuh, matrix_units.cuh), then gradient_descent.cu. The host defines these macros:
//
//   REAL      type of parameters, activations and gradients: float or double
//   UNITS     hidden units per pass over the images, an even number
//   PASSES    number of passes; units of UNITS * PASSES beyond the network's are padding and stay zero
//   CLASSES   number of outputs
//   THREADS   threads per block, a multiple of 32
//   DIGITS    bytes of a factor, 4 or 3; for matrix_units.cuh alone
//
// and may define
//
//   PROFILE   to see where an iteration's time goes: classic/profile.py
//   EPOCHS    with floats, to exchange data without grid barriers: exchange.cuh
//   CHECKED   to stop with an error on a GPU where a value of a wrong epoch is used; for tests
//
// No header is included, so the run-time compiler needs no include path.

typedef REAL real;

constexpr int HIDDEN = UNITS * PASSES;
constexpr int CLASS_QUADS = (CLASSES + 3) / 4;
constexpr int WARPS = THREADS / 32;

// Four consecutive values, loaded or stored by one or two 16-byte instructions.
struct alignas(16) Quad {
    real at[4];
};

// Images are counted in groups of four, pixels in quads, and stored in cells of 16 bytes, a group by a quad or as many
// bytes; how they lie there, and how the other factors of the two products do, is up to the file that multiplies.
constexpr int BLOCK = 4;
constexpr int TILE_GROUPS = 8;  // groups in a tile; blocks, their chunks and what is resident of them have whole tiles

// A block's images and shared memory.
struct Block {
    const uint4 *resident, *streamed;  // images: the first ones in shared memory, all in global memory
    int groups, resident_groups;       // groups of images: all, and those in shared memory
    int images;                        // without padding
    int quads;                         // quads of pixels that the block stores
    int* places;                       // their numbers among those of all pixels; negative for padding
    Quad* weights;                     // one pass's weights as factors; between the products, scratch space for sums
    Quad* hidden;                      // Z1, then dZ1 as factors; a Quad for each unit and group of the chunk
    Quad* errors;                      // [image in the chunk][4 classes]: dZ2
    Quad* output_weights;              // [unit or bias][4 classes]
    real* error_scales;                // scale of dZ1, per unit
    int chunk;                         // capacity of `hidden` and `errors`, in groups
};

__device__ __forceinline__ void add_to(Quad& sum, const Quad& value) {
#pragma unroll
    for (int k = 0; k < 4; ++k) sum.at[k] += value.at[k];
}

__device__ __forceinline__ int thread() { return threadIdx.x; }
__device__ __forceinline__ int warp() { return threadIdx.x / 32; }
__device__ __forceinline__ int lane() { return threadIdx.x % 32; }

// Test hook: leave out the barrier, or the wait, of this number, which the tests must then notice.
#ifndef LEFT_OUT
#define LEFT_OUT 0
#endif

template <int NUMBER>
__device__ __forceinline__ void barrier() {
    if (NUMBER != LEFT_OUT) __syncthreads();
}

// Only on a GPU; on a CPU, the tests' emulation has plain functions of the same names.
#ifndef EMULATED

__device__ __forceinline__ uint4* shared_memory() {
    extern __shared__ uint4 memory[];
    return memory;
}

// Release: a thread that acquires the new count sees all that this thread has written or seen.
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
