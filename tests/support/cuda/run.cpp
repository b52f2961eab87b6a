// Runs gradient_descent, whose source is above: from Python, and as a program for the sanitizers.
#include <cstdio>

extern "C" bool run(const char*, int blocks, size_t shared_bytes, void** values) {
    emulation::launch(blocks, THREADS, shared_bytes, [&] { emulation::call(gradient_descent, values); });
    return true;
}

// Arguments: blocks, shared bytes, images, quads, resident cells, chunk, and the number of a barrier to leave out or 0.
// Blocks store all quads. A race does not depend on values.
int main(int, char** arguments) {
    int number[7];
    for (int i = 0; i < 7; ++i) number[i] = std::atoi(arguments[i + 1]);
    const auto [blocks, shared_bytes, image_count, quads, resident_cells, chunk, left_out] = number;
    emulation::left_out = left_out;
    const int length = (quads * HIDDEN + (HIDDEN + 1) * CLASS_QUADS + 1) / 2 * 2, tile = BLOCK * TILE_GROUPS;
    const int tiles = (image_count + tile - 1) / tile;
    std::vector<uint4> images(size_t(tiles) * TILE_GROUPS * quads + SLACK, uint4{1, 2, 3, 4});
    std::vector<Share> shares(blocks);
    std::vector<int> places(blocks * quads);
    for (int b = 0; b < blocks; ++b) {
        const int first = tiles * b / blocks, end = tiles * (b + 1) / blocks;
        shares[b] = {1LL * first * TILE_GROUPS * quads, first * tile, min(end * tile, image_count) - first * tile, quads};
        for (int i = 0; i < quads; ++i) places[b * quads + i] = i;
    }
    std::vector<unsigned char> labels(image_count);
    std::vector<Quad> parameters(length, Quad{{0.1f, 0.2f, 0.3f, 0.4f}}), partials(size_t(blocks) * length);
    std::vector<double> metrics(2 * blocks);
    unsigned arrivals = 0;
    emulation::launch(blocks, THREADS, shared_bytes, [&] {
        gradient_descent(images.data(), labels.data(), shares.data(), places.data(), parameters.data(), nullptr,
                         partials.data(), metrics.data(), &arrivals, image_count, quads, quads, 2, 0.1, resident_cells,
                         chunk);
    });
    std::printf("loss %g\n", metrics[0]);
}
