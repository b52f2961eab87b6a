// How blocks exchange data while the kernel runs: each parameter and each gradient sum is written by one block and read by
// others.
//
// Without EPOCHS, grid barriers keep writers and readers apart.
//
// With EPOCHS, each value lies beside its epoch, the number of the iteration that it is of, in 8 bytes that are loaded and
// stored whole. A thread that needs a value of some epoch loads it until it has that epoch or a later one, which never
// comes, and then has the right value whatever else memory holds: relaxed accesses are enough. Iteration n computes with
// parameters of epoch n, and its sums are of epoch n. Nothing is overwritten before all blocks that need it have read it,
// so that one copy of everything is enough:
//
//   - A block overwrites its sums of epoch n (with UNFINISHED or with n + 1) only after it has read every parameter of
//     epoch n + 1 that it uses; block barriers are in between. Each such parameter was computed from all blocks' sums of
//     epoch n at its place, so those sums have been read.
//   - A parameter of epoch n is overwritten with epoch n + 1, which is computed from the sums of epoch n of all blocks
//     that use the parameter. A block sends these sums after it has read the parameter, so all have read it. A block that
//     leaves a quad out does not use the quad's parameters and sends no sums of it: the host has given such sums the
//     value zero and the epoch LASTING.
//
// Each step depends on the one before by a value or a branch, for which a GPU needs no fence. Epochs count on from launch
// to launch, so that nothing left by an earlier one is taken for new.

constexpr unsigned UNFINISHED = 0;  // epoch of sums that nobody waits for: a block will add to them

#ifdef EPOCHS

constexpr bool HAS_EPOCHS = true;
constexpr unsigned LASTING = 0xffffffffu;  // epoch of what is zero and never written
static_assert(sizeof(real) == 4, "a value and its epoch have 8 bytes");

// A Quad as blocks exchange it.
struct alignas(16) Published {
    unsigned long long at[4];  // a value's bits, and above them its epoch
};

#else

constexpr bool HAS_EPOCHS = false;

typedef Quad Published;

#endif

// Where to read a Quad; one that does not exist is zero.
struct Source {
    const Published* place;
    bool exists;
};

// Where a unit's weights of a quad are, in [quad][unit]; those of padding, whose number is negative, do not exist.
__device__ __forceinline__ Source weights_of(const Published* weights, int quad, int unit) {
    return {weights + quad * UNITS + unit, quad >= 0};
}

#ifdef EPOCHS

// Only on a GPU, like those of common.cuh.
#ifndef EMULATED

__device__ __forceinline__ void load_relaxed(const unsigned long long* place, unsigned long long (&found)[4], bool wanted) {
    asm volatile(
        "{\n"
        "  .reg .pred wanted;\n"
        "  setp.ne.s32 wanted, %5, 0;\n"
        "  @wanted ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%4];\n"
        "  @wanted ld.relaxed.gpu.global.v2.b64 {%2, %3}, [%4 + 16];\n"
        "}"
        : "+l"(found[0]), "+l"(found[1]), "+l"(found[2]), "+l"(found[3])
        : "l"(place), "r"((int)wanted)
        : "memory");
}

__device__ __forceinline__ unsigned long long load_relaxed(const unsigned long long* place) {
    unsigned long long found;
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(found) : "l"(place) : "memory");
    return found;
}

__device__ __forceinline__ void store_relaxed(unsigned long long* place, const unsigned long long (&values)[4]) {
    asm volatile(
        "st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};\n"
        "st.relaxed.gpu.global.v2.b64 [%0 + 16], {%3, %4};" ::"l"(place),
        "l"(values[0]), "l"(values[1]), "l"(values[2]), "l"(values[3])
        : "memory");
}

__device__ __forceinline__ void store_relaxed(unsigned long long* place, unsigned long long value) {
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(place), "l"(value) : "memory");
}

// Checks of the tests: a thread loads again, and a thread uses what it has loaded.
__device__ __forceinline__ void wait_on(const unsigned long long*, unsigned) {}
__device__ __forceinline__ void use(const unsigned long long*, const unsigned long long (&found)[4], unsigned epoch) {
#ifdef CHECKED
    for (int k = 0; k < 4; ++k) {
        const unsigned own = (unsigned)(found[k] >> 32);
        if (own != epoch && own != LASTING) __trap();
    }
#endif
}

#endif

__device__ __forceinline__ unsigned long long with_epoch(real value, unsigned epoch) {
    return (unsigned long long)epoch << 32 | __float_as_uint(value);
}

__device__ __forceinline__ unsigned epoch_of(const Published& found) {
    unsigned oldest = LASTING;
#pragma unroll
    for (int k = 0; k < 4; ++k) oldest = min(oldest, (unsigned)(found.at[k] >> 32));
    return oldest;
}

__device__ __forceinline__ Quad values_of(const Published& found) {
    Quad values;
#pragma unroll
    for (int k = 0; k < 4; ++k) values.at[k] = __uint_as_float((unsigned)found.at[k]);
    return values;
}

// Reads COUNT Quads of an epoch, waiting for them; of(i) is the Source of number i. All loads are on their way before the
// first is looked at, and only what has not come is loaded again.
template <int NUMBER, int COUNT, typename Of>
__device__ __forceinline__ void fetch(Quad (&values)[COUNT], unsigned epoch, Of of) {
    Source sources[COUNT];
    Published found[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        sources[i] = of(i);
#pragma unroll
        for (int k = 0; k < 4; ++k) found[i].at[k] = with_epoch(0, sources[i].exists ? 0 : LASTING);
    }
    bool missing;
    do {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) load_relaxed(sources[i].place->at, found[i].at, epoch_of(found[i]) < epoch);
        missing = false;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (epoch_of(found[i]) < epoch && NUMBER != LEFT_OUT) missing = true, wait_on(sources[i].place->at, epoch);
    } while (missing);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        if (sources[i].exists) use(sources[i].place->at, found[i].at, epoch);
        values[i] = values_of(found[i]);
    }
}

// Reads what this thread was the last to write, or what was there before the launch; only lanes 0 and 1 use it in update.
__device__ __forceinline__ Quad own_of(const Published* place) {
    Published found = {};
    load_relaxed(place->at, found.at, true);
    return values_of(found);
}

__device__ __forceinline__ real own_of(const Published* place, int k) {
    return __uint_as_float((unsigned)load_relaxed(&place->at[k]));
}

__device__ __forceinline__ void publish(Published* place, const Quad& values, unsigned epoch) {
    Published whole;
#pragma unroll
    for (int k = 0; k < 4; ++k) whole.at[k] = with_epoch(values.at[k], epoch);
    store_relaxed(place->at, whole.at);
}

__device__ __forceinline__ void publish(Published* place, int k, real value, unsigned epoch) {
    store_relaxed(&place->at[k], with_epoch(value, epoch));
}

#else

template <int NUMBER, int COUNT, typename Of>
__device__ __forceinline__ void fetch(Quad (&values)[COUNT], unsigned, Of of) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const Source source = of(i);
        values[i] = source.exists ? *source.place : Quad{};
    }
}

__device__ __forceinline__ Quad own_of(const Published* place) { return *place; }
__device__ __forceinline__ real own_of(const Published* place, int k) { return place->at[k]; }
__device__ __forceinline__ void publish(Published* place, const Quad& values, unsigned) { *place = values; }
__device__ __forceinline__ void publish(Published* place, int k, real value, unsigned) { place->at[k] = value; }

#endif
