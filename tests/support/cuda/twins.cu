// Calls each function that has a PTX and a C++ version, whose results must be the same bits. For one warp; appended to
// the kernel's source.

extern "C" __global__ void twins(const unsigned* words, const real* numbers, void* results) {
#ifdef DIGITS
    // Per lane: words of pixels and digits; results are four sums, and the digits of four numbers below 1.
    const unsigned* own = words + 6 * lane();
    unsigned* result = (unsigned*)results + 8 * lane();
    int sums[4] = {-1, 0, 1, 1 << 30};
    multiply_bytes(sums, own[0], own[1], own[2], own[3], own[4], own[5]);
    const real* values = numbers + 4 * lane();
    const uint4 digits = as_digits(Quad{{values[0], values[1], values[2], values[3]}}, 1);
    const unsigned words_of[4] = {digits.x, digits.y, digits.z, digits.w};
    for (int i = 0; i < 4; ++i) result[i] = sums[i], result[4 + i] = words_of[i];
#else
    // Per lane: a word of pixels, a sum and a factor; results are the sums after each pixel.
    real sum = numbers[2 * lane()];
    for (int byte = 0; byte < 4; ++byte) {
        multiply_add(sum, numbers[2 * lane() + 1], pixel(words[lane()], byte, real()));
        ((real*)results)[4 * lane() + byte] = sum;
    }
#endif
}

#ifdef EMULATED
extern "C" void run_twins(const void* words, const void* numbers, void* results) {
    emulation::launch(1, 32, 0, [=] { twins((const unsigned*)words, (const real*)numbers, results); });
}
#endif
