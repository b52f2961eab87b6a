// Runs the kernels of mlp.cu, whose source is above: from Python, and one of them as a program for the sanitizers.
#include <cstdio>

// Returns whether there is a kernel of that name, and it went right.
extern "C" bool run(const char* name, int blocks, size_t shared_bytes, void** values) {
    bool found = false;
    const auto offer = [&](const char* own, auto* kernel) {
        if (std::strcmp(name, own)) return;
        found = true;
        emulation::launch_in_turn(blocks, THREADS, shared_bytes, [&] { emulation::call(kernel, values); });
    };
    offer("gather", gather), offer("augment", augment);
    offer("activate", activate), offer("output_errors", output_errors);
    offer("gradients", gradients), offer("update", update);
    offer("take_step", take_step);
    return found && !emulation::fault;
}

// Runs the kernel with barriers on three images of 5 x 7 pixels: rotation, shift and elastic distortion. The argument is
// the number of bytes that shared memory is too small by. A race does not depend on values.
int main(int, char** arguments) {
    constexpr int HEIGHT = 5, WIDTH = 7, PIXELS = HEIGHT * WIDTH;
    std::vector<real> X(3 * PIXELS);
    std::vector<unsigned char> images(3 * PIXELS, 200);
    std::vector<unsigned> places = {2, 0, 1};
    std::vector<int> turns(1024, 11585), rows(HEIGHT * HEIGHT, 9), columns(WIDTH * WIDTH, 9);
    struct {
        Step step;
        Words keys[2];
    } own = {{}, {{1, 2}, {3, 4}}};
    emulation::launch_in_turn(3, THREADS, 16 * PIXELS - std::atoi(arguments[1]), [&] {
        augment(X.data(), images.data(), places.data(), &own.step, 0, HEIGHT, WIDTH, 3, 30000, turns.data(), turns.data(),
                rows.data(), columns.data());
    });
    std::printf("%g\n", (double)X[0]);
}
