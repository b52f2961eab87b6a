// How the tests start the kernel, whose source is above: from Python, and as a program for ThreadSanitizer.
#include <cstdio>

extern "C" void run(int blocks, size_t shared_bytes, const void* images, const void* labels, void* parameters, void* gradients,
                    void* partials, void* metrics, int image_count, int quads, int iterations, double learning_rate,
                    int resident_groups, int chunk) {
    unsigned arrivals = 0;
    emulation::launch(blocks, THREADS, shared_bytes, [&] {
        gradient_descent((const uint4*)images, (const unsigned char*)labels, (Quad*)parameters, (Quad*)gradients,
                         (Quad*)partials, (double*)metrics, &arrivals, image_count, quads, iterations, (real)learning_rate,
                         resident_groups, chunk);
    });
}

// Arguments: blocks, shared bytes, images, quads, resident groups, chunk; and the number of a barrier to leave out, or
// 0. Values do not matter to a race.
int main(int, char** arguments) {
    int number[7];
    for (int i = 0; i < 7; ++i) number[i] = std::atoi(arguments[i + 1]);
    emulation::left_out = number[6];
    const int groups = (number[2] + 3) / 4, length = number[3] * HIDDEN + (HIDDEN + 1) * CLASS_QUADS;
    std::vector<uint4> images(size_t(groups) * number[3], uint4{1, 2, 3, 4});
    std::vector<unsigned char> labels(number[2]);
    std::vector<Quad> parameters(length, Quad{{0.1f, 0.2f, 0.3f, 0.4f}}), partials(size_t(number[0]) * length);
    std::vector<double> metrics(2 * number[0]);
    run(number[0], number[1], images.data(), labels.data(), parameters.data(), nullptr, partials.data(), metrics.data(),
        number[2], number[3], 2, 0.1, number[4], number[5]);
    std::printf("loss %g\n", metrics[0]);
}
