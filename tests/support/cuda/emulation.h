// The CUDA names that the kernel uses, for a host compiler (C++20). CUDA threads are coroutines of one host thread, which
// take turns where they wait, so that a barrier costs no time slice; under a sanitizer, which looks for races, each is a
// std::thread. Barriers are counters, shared memory is a vector a block. Included before the kernel's source.
//
// A race detector has nothing to say about relaxed accesses. So this checks what blocks exchange with epochs (exchange.cuh):
// that a value has the epoch for which a thread has waited when it is used, however slow blocks are and however late they
// see values (`seed`); that no thread waits for ever; and, for ThreadSanitizer, that the epochs which threads wait for keep
// those who read a value and who overwrites it apart (`ordered`).
#pragma once
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <ucontext.h>

#define EMULATED
#define LEFT_OUT emulation::left_out
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::abs, std::exp, std::log, std::max, std::min, std::sqrt, std::tanh;

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace emulation {

void yield();

// What a test sets.
inline int left_out = 0;      // the barrier, or the wait, to leave out
inline unsigned seed = 0;     // unless 0: blocks take random turns, and may see a value late; with coroutines only
inline bool ordered = false;  // an epoch that a thread waits for orders it after the one that has published the value

// What it finds.
inline std::atomic<const char*> fault = nullptr;  // the first
inline std::atomic<uint64_t> events = 0;  // arrivals at barriers and published values: without any, all wait for ever

inline void report(const char* found) {
    const char* none = nullptr;
    fault.compare_exchange_strong(none, found);
}

// Two counters, used in turn: a thread that still waits at one barrier never reads what others store at the next, and
// so is not ordered after it. One counter would hide races from ThreadSanitizer; so would std::barrier, whose waiting
// threads libstdc++ keeps in one pool for all barriers.
class Barrier {
public:
    explicit Barrier(uint64_t threads) : threads_(threads) {}
    // `passed` counts the calling thread's earlier visits.
    void wait(uint64_t& passed) {
        auto& arrivals = arrivals_[passed % 2];
        const uint64_t goal = (passed++ / 2 + 1) * threads_;
        arrivals.fetch_add(1, std::memory_order_acq_rel);
        events.fetch_add(1, std::memory_order_relaxed);
        while (arrivals.load(std::memory_order_acquire) < goal) yield();
    }

private:
    std::atomic<uint64_t> arrivals_[2] = {};
    const uint64_t threads_;
};

struct Warp {
    Barrier barrier{32};
    unsigned char exchanged[2][32][32];  // used in turn, so that one barrier an exchange is enough
};

struct Block {
    Barrier barrier;
    std::vector<uint4> memory;
    std::vector<std::unique_ptr<Warp>> warps;

    Block(int threads, size_t bytes) : barrier(threads), memory(bytes / sizeof(uint4)) {
        std::memset(static_cast<void*>(memory.data()), 0xcd, bytes);  // uninitialised, as on a GPU
        for (int i = 0; i < threads / 32; ++i) warps.push_back(std::make_unique<Warp>());
    }
};

struct Index {
    unsigned x = 0;
};

// A load from shared memory: its offset there and its size in bytes.
struct Load {
    size_t offset, bytes;
};

struct Thread {
    Index index, block_index, grid_size;
    Block* block;
    int turn = 0;
    uint64_t block_barriers = 0, warp_barriers = 0;
    std::vector<Load> loads;  // those that loaded() made
};

inline thread_local Thread* self = nullptr;
inline void (*look_at_loads)(const std::vector<Thread>&) = nullptr;  // called after a launch, if a test sets it

inline Warp& warp() { return *self->block->warps[self->index.x / 32]; }

// Exchanges a value among a warp's lanes: returns choose(of), where of(lane) is that lane's value.
template <typename Value, typename Choose>
auto exchange(const Value& value, Choose choose) {
    static_assert(sizeof(Value) <= sizeof Warp::exchanged[0][0]);
    auto& all = warp().exchanged[self->turn];
    self->turn ^= 1;
    std::memcpy(all[self->index.x % 32], &value, sizeof value);
    warp().barrier.wait(self->warp_barriers);
    return choose([&all](int lane) {
        Value other;
        std::memcpy(&other, all[lane], sizeof other);
        return other;
    });
}

// A value that was overwritten, which all but its successor's writer may see for a while.
struct Before {
    unsigned long long value;
    const Thread* writer;
};

inline std::map<const void*, Before> before;
inline std::minstd_rand chance;

// An array of values with epochs, and a word for each that is read and written when the value is. ThreadSanitizer looks
// at the words, since accesses to the values are atomic.
struct Exchanged {
    const unsigned long long* first;
    std::vector<uint64_t> words;
};

inline std::vector<Exchanged> exchanged;  // a test that sets `ordered` lists all arrays

inline volatile uint64_t& word_of(const unsigned long long* place) {
    for (auto& array : exchanged)
        if (place >= array.first && place < array.first + array.words.size()) return array.words[place - array.first];
    std::abort();
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)

inline void yield() { std::this_thread::yield(); }

inline void run(std::vector<Thread>& threads, const std::function<void()>& kernel) {
    std::vector<std::thread> running;
    for (auto& thread : threads)
        running.emplace_back([&] {
            self = &thread;
            kernel();
        });
    for (auto& thread : running) thread.join();
}

#else

struct Coroutine {
    static constexpr size_t STACK = 1 << 18;
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool done = false;
};

inline thread_local ucontext_t scheduler;
inline thread_local Coroutine* current = nullptr;
inline thread_local const std::function<void()>* body = nullptr;

inline void yield() { swapcontext(&current->context, &scheduler); }

inline void enter() {
    (*body)();
    current->done = true;
}

inline void run(std::vector<Thread>& threads, const std::function<void()>& kernel) {
    std::vector<Coroutine> all(threads.size());
    body = &kernel;
    for (auto& one : all) {
        getcontext(&one.context);
        one.context.uc_stack.ss_sp = one.stack.get();
        one.context.uc_stack.ss_size = Coroutine::STACK;
        one.context.uc_link = &scheduler;
        makecontext(&one.context, enter, 0);
    }
    uint64_t last = events, idle_rounds = 0;
    for (size_t left = all.size(); left > 0 && idle_rounds < 1000; ++idle_rounds) {
        const unsigned sleeping = seed ? chance() >> 8 : 0;  // a bit for each block
        for (size_t i = 0; i < all.size(); ++i) {
            if (all[i].done || sleeping >> threads[i].block_index.x % 16 & 1) continue;
            current = &all[i], self = &threads[i];
            swapcontext(&scheduler, &current->context);
            left -= current->done;
        }
        if (events != last) last = events, idle_rounds = 0;
        if (idle_rounds == 999) report("all threads wait for ever");
    }
}

#endif

// Runs `kernel` in every thread of every block, all at once, as a cooperative launch does. Returns whether it went right.
template <typename Kernel>
bool launch(int blocks, int threads, size_t shared_bytes, Kernel kernel) {
    std::vector<std::unique_ptr<Block>> memory;
    std::vector<Thread> all;
    for (unsigned b = 0; b < unsigned(blocks); ++b) {
        memory.push_back(std::make_unique<Block>(threads, shared_bytes));
        for (unsigned t = 0; t < unsigned(threads); ++t) all.push_back({{t}, {b}, {unsigned(blocks)}, memory[b].get()});
    }
    fault = nullptr, before.clear(), chance.seed(seed);
    run(all, kernel);
    if (look_at_loads) look_at_loads(all);
    return !fault;
}

// Runs the blocks of `kernel` one after the other, for kernels whose blocks are independent; without shared memory, the
// threads of a block too.
template <typename Kernel>
void launch_in_turn(int blocks, int threads, size_t shared_bytes, Kernel kernel) {
    fault = nullptr;
    for (unsigned b = 0; b < unsigned(blocks); ++b) {
        Block own(threads, shared_bytes);
        std::vector<Thread> all;
        for (unsigned t = 0; t < unsigned(threads); ++t) all.push_back({{t}, {b}, {unsigned(blocks)}, &own});
        if (shared_bytes > 0)
            run(all, kernel);
        else
            for (auto& thread : all) self = &thread, kernel();
    }
}

// Calls `kernel` with a pointer to each argument, as a GPU's driver does.
template <typename... Arguments>
void call(void (*kernel)(Arguments...), void** values) {
    [&]<size_t... i>(std::index_sequence<i...>) {
        kernel(*(Arguments*)values[i]...);
    }(std::index_sequence_for<Arguments...>());
}

}  // namespace emulation

#define threadIdx emulation::self->index
#define blockIdx emulation::self->block_index
#define gridDim emulation::self->grid_size

inline void __syncthreads() { emulation::self->block->barrier.wait(emulation::self->block_barriers); }
inline void __syncwarp() { emulation::warp().barrier.wait(emulation::self->warp_barriers); }

template <typename Value>
Value __shfl_xor_sync(unsigned, Value value, int mask) {
    return emulation::exchange(value, [mask](auto of) { return of(threadIdx.x % 32 ^ mask); });
}

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline double __hiloint2double(int high, int low) {
    const uint64_t bits = uint64_t(unsigned(high)) << 32 | unsigned(low);
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline long long clock64() { return 0; }

inline int __float2int_rn(float value) {
    if (std::isnan(value)) return 0;
    if (std::abs(value) >= 0x1p31f) return value > 0 ? INT32_MAX : INT32_MIN;
    return int(std::lrint(value));
}

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selectors) {
    const uint64_t bytes = uint64_t(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> 8 * (selectors >> 4 * i & 7) & 255) << 8 * i;
    return result;
}

// CPU versions of the functions that the kernel writes in PTX.

inline uint4* shared_memory() { return emulation::self->block->memory.data(); }

inline void add_release(unsigned* count) {
    std::atomic_ref(*count).fetch_add(1, std::memory_order_release);
    emulation::events.fetch_add(1, std::memory_order_relaxed);
}

inline unsigned load_acquire(unsigned* count) {
    const unsigned value = std::atomic_ref(*count).load(std::memory_order_acquire);
    emulation::yield();  // only called while waiting
    return value;
}

inline unsigned long long load_relaxed(const unsigned long long* place) {
    const auto found = std::atomic_ref(const_cast<unsigned long long&>(*place)).load(std::memory_order_relaxed);
    if (!emulation::seed || emulation::chance() % 4) return found;
    const auto older = emulation::before.find(place);
    return older == emulation::before.end() || older->second.writer == emulation::self ? found : older->second.value;
}

inline void load_relaxed(const unsigned long long* place, unsigned long long (&found)[4], bool wanted) {
    if (wanted)
        for (int k = 0; k < 4; ++k) found[k] = load_relaxed(place + k);
}

inline void store_relaxed(unsigned long long* place, unsigned long long value) {
    if (emulation::seed) emulation::before[place] = {*place, emulation::self};
    if (emulation::ordered) emulation::word_of(place) = 1;
    std::atomic_ref stored(*place);
    const unsigned epoch = value >> 32, last = stored.load(std::memory_order_relaxed) >> 32;
    if (epoch > 0 && epoch <= last) emulation::report("a value of an epoch is published twice");
    emulation::ordered ? stored.store(value, std::memory_order_release) : stored.store(value, std::memory_order_relaxed);
    emulation::events.fetch_add(1, std::memory_order_relaxed);
}

inline void store_relaxed(unsigned long long* place, const unsigned long long (&values)[4]) {
    for (int k = 0; k < 4; ++k) store_relaxed(place + k, values[k]);
}

inline void wait_on(const unsigned long long*, unsigned) { emulation::yield(); }

inline void use(const unsigned long long* place, const unsigned long long (&found)[4], unsigned epoch) {
    for (int k = 0; k < 4; ++k) {
        const unsigned own = found[k] >> 32;
        if (own != epoch && own != ~0u) emulation::report("a value of another epoch is used");
        if (!emulation::ordered) continue;
        std::atomic_ref(const_cast<unsigned long long&>(place[k])).load(std::memory_order_acquire);
        [[maybe_unused]] const uint64_t word = emulation::word_of(place + k);  // volatile
    }
}

inline void multiply_add(float& sum, float a, float b) { sum = std::fma(a, b, sum); }
inline void multiply_add(double& sum, double a, double b) { sum = std::fma(a, b, sum); }

template <typename Value>
Value loaded(const Value* place) {
    const auto& memory = emulation::self->block->memory;
    auto& loads = emulation::self->loads;
    const size_t offset = (const char*)place - (const char*)memory.data();
    if (emulation::look_at_loads && offset < memory.size() * sizeof(uint4)) loads.push_back({offset, sizeof(Value)});
    return *place;
}

inline void multiply_bytes(int (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    struct Operands {
        uint8_t a[4][4];
        int8_t b[2][4];
    } own;
    const unsigned words[6] = {a0, a1, a2, a3, b0, b1};
    std::memcpy(&own, words, sizeof own);
    emulation::exchange(own, [&sums](auto of) {
        const int lane = threadIdx.x % 32;
        for (int i = 0; i < 4; ++i)
            for (int q = 0; q < 4; ++q) {
                const Operands row = of(lane / 4 * 4 + q), column = of((lane % 4 * 2 + i % 2) * 4 + q);
                for (int k = 0; k < 8; ++k) sums[i] += row.a[i / 2 + k / 4 * 2][k % 4] * column.b[k / 4][k % 4];
            }
        return 0;
    });
}
