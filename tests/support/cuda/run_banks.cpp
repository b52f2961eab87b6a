// Runs gradient_descent, whose source is above, and counts conflicts of its loads from the 32 banks of shared memory.
#include <map>
#include <set>

// By bytes of a load: how many warps' loads there were, and the most words that one of them asked of a bank at once.
static std::map<size_t, std::pair<long long, int>> found;

// A warp's load of b bytes a lane is made for 128 / b lanes at a time. Lanes that read the same word share it.
static void look(const std::vector<emulation::Thread>& threads) {
    for (size_t first = 0; first < threads.size(); first += 32)
        for (size_t i = 0; i < threads[first].loads.size(); ++i) {
            const size_t bytes = threads[first].loads[i].bytes, lanes = 128 / bytes;
            auto& [count, worst] = found[bytes];
            ++count;
            for (size_t group = first; group < first + 32; group += lanes) {
                std::map<size_t, std::set<size_t>> words;
                for (size_t lane = group; lane < group + lanes; ++lane)
                    for (size_t word = 0; word < bytes / 4; ++word) {
                        const size_t place = threads[lane].loads.at(i).offset / 4 + word;
                        words[place % 32].insert(place);
                    }
                for (const auto& [bank, places] : words) worst = std::max(worst, int(places.size()));
            }
        }
}

extern "C" bool run(const char*, int blocks, size_t shared_bytes, void** values) {
    emulation::look_at_loads = look;
    emulation::launch(blocks, THREADS, shared_bytes, [&] { emulation::call(gradient_descent, values); });
    emulation::look_at_loads = nullptr;
    return true;
}

extern "C" int most_words_of_a_bank(int bytes) { return found[bytes].second; }
extern "C" long long loads(int bytes) { return found[bytes].first; }
