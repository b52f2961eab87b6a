// Runs gradient_descent, whose source is above: from Python, and as a program for the sanitizers.
#include <cstdio>

extern "C" bool run(const char*, int blocks, size_t shared_bytes, void** values) {
    return emulation::launch(blocks, THREADS, shared_bytes, [&] { emulation::call(gradient_descent, values); });
}

// Sets what the next runs leave out, and how their blocks take turns.
extern "C" void plant(int left_out, unsigned seed) { emulation::left_out = left_out, emulation::seed = seed; }

extern "C" const char* fault() { return emulation::fault; }

#ifdef EPOCHS
// Zeros of an epoch.
static Published of_epoch(unsigned epoch) {
    const auto one = with_epoch(0, epoch);
    return {{one, one, one, one}};
}
#endif

// Arguments: blocks, shared bytes, images, quads, resident cells, chunk, the number of a barrier or wait to leave out or 0,
// and whether epochs order what threads do. Blocks store all quads; with epochs, block b all but number b. A race does not
// depend on values.
int main(int, char** arguments) {
    int number[8];
    for (int i = 0; i < 8; ++i) number[i] = std::atoi(arguments[i + 1]);
    const auto [blocks, shared_bytes, image_count, quads, resident_cells, chunk, left_out, ordered] = number;
    const int weight_quads = quads * HIDDEN, output_quads = (HIDDEN + 1) * CLASS_QUADS;
    const int length = (weight_quads + output_quads + 1) / 2 * 2, tile = BLOCK * TILE_GROUPS;
    const int tiles = (image_count + tile - 1) / tile;
    std::vector<uint4> images(size_t(tiles) * TILE_GROUPS * quads + SLACK, uint4{1, 2, 3, 4});
    std::vector<Share> shares(blocks);
    std::vector<int> places(blocks * quads);
    for (int b = 0; b < blocks; ++b) {
        const int first = tiles * b / blocks, end = tiles * (b + 1) / blocks;
        shares[b] = {1LL * first * TILE_GROUPS * quads, first * tile, min(end * tile, image_count) - first * tile, quads};
        for (int i = 0; i < quads; ++i) places[b * quads + i] = HAS_EPOCHS && i == b && quads > 2 ? -1 : i;
    }
    std::vector<unsigned char> labels(image_count);
#ifdef EPOCHS
    std::vector<Published> parameters(length, of_epoch(UNFINISHED)), partials(size_t(blocks) * length, of_epoch(LASTING));
    for (int i = 0; i < length; ++i) publish(&parameters[i], Quad{{0.1f, 0.2f, 0.3f, 0.4f}}, 1);
    for (int b = 0; b < blocks; ++b) {
        Published* own = &partials[size_t(b) * length];
        for (int i = 0; i < weight_quads + output_quads; ++i)
            if (i >= weight_quads || places[b * quads + i / UNITS % quads] >= 0) own[i] = of_epoch(UNFINISHED);
    }
    for (const auto* array : {&parameters, &partials})
        emulation::exchanged.push_back({array->data()->at, std::vector<uint64_t>(4 * array->size())});
#else
    std::vector<Quad> parameters(length, Quad{{0.1f, 0.2f, 0.3f, 0.4f}}), partials(size_t(blocks) * length);
#endif
    std::vector<double> metrics(2 * blocks);
    unsigned arrivals = 0;
    emulation::left_out = left_out, emulation::ordered = ordered;
    const bool right = emulation::launch(blocks, THREADS, shared_bytes, [&] {
        gradient_descent(images.data(), labels.data(), shares.data(), places.data(), parameters.data(), nullptr,
                         partials.data(), metrics.data(), &arrivals, image_count, quads, quads, 2, 0.1, resident_cells,
                         chunk, 1);
    });
    std::printf("loss %g\n", metrics[0]);
    if (!right) std::fprintf(stderr, "%s\n", emulation::fault.load());
    return !right;
}
