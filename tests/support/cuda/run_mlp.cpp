// How the tests start the general kernels, whose source is above: from Python, and one of them as a program for the
// sanitizers.
#include <cstdio>
#include <utility>

// As a GPU's driver does, with a pointer to each argument.
template <typename... Arguments>
void call(void (*kernel)(Arguments...), void** values) {
    [&]<size_t... i>(std::index_sequence<i...>) {
        kernel(*(Arguments*)values[i]...);
    }(std::index_sequence_for<Arguments...>());
}

// Returns whether there is a kernel of that name.
extern "C" bool run(const char* name, int blocks, size_t shared_bytes, void** values) {
    bool found = false;
    const auto offer = [&](const char* own, auto* kernel) {
        if (std::strcmp(name, own)) return;
        found = true;
        emulation::launch_in_turn(blocks, THREADS, shared_bytes, [&] { call(kernel, values); });
    };
    offer("gather", gather), offer("augment", augment);
    offer("activate", activate), offer("output_errors", output_errors);
    offer("gradients", gradients), offer("update", update);
    return found;
}

// The kernel with barriers, on three images of 5 x 7 pixels, turned, shifted and bent. Values do not matter to a race.
// The argument is by how many bytes there is too little shared memory.
int main(int, char** arguments) {
    constexpr int HEIGHT = 5, WIDTH = 7, PIXELS = HEIGHT * WIDTH;
    std::vector<real> X(3 * PIXELS);
    std::vector<unsigned char> images(3 * PIXELS, 200);
    std::vector<unsigned> order = {2, 0, 1};
    std::vector<int> turns(1024, 11585), rows(HEIGHT * HEIGHT, 9), columns(WIDTH * WIDTH, 9);
    emulation::launch_in_turn(3, THREADS, 16 * PIXELS - std::atoi(arguments[1]), [&] {
        augment(X.data(), images.data(), order.data(), HEIGHT, WIDTH, 1, 2, 3, 4, 3, 30000, turns.data(), turns.data(),
                rows.data(), columns.data());
    });
    std::printf("%g\n", (double)X[0]);
}
