#include "headrace/tiles.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace headrace {
namespace {

constexpr auto pause_every = std::chrono::milliseconds(20);

struct Shared {
    std::atomic<size_t> next{0};
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::exception_ptr failure;

    void fail() {
        std::lock_guard<std::mutex> locked(mutex);
        if (!failure) failure = std::current_exception();
        stop = true;
    }
};

void take_tiles(Shared& shared, size_t n_tiles, const std::function<void(size_t)>& work,
                const std::function<void()>& between) {
    try {
        for (size_t tile; !shared.stop && (tile = shared.next++) < n_tiles;) {
            work(tile);
            if (between) between();
        }
    } catch (...) {
        shared.fail();
    }
}

}  // namespace

void for_tiles(size_t n_tiles, const Crew& crew, const std::function<void(size_t)>& work) {
    Shared shared;
    std::vector<std::thread> others;
    const size_t n_others = std::min(std::max<size_t>(crew.n_threads, 1), n_tiles) - (n_tiles ? 1 : 0);
    try {
        for (size_t i = 0; i < n_others; ++i)
            others.emplace_back([&] { take_tiles(shared, n_tiles, work, nullptr); });
    } catch (...) {
        shared.fail();
    }
    auto last = std::chrono::steady_clock::now();
    take_tiles(shared, n_tiles, work, [&] {
        auto now = std::chrono::steady_clock::now();
        if (!crew.pause || now - last < pause_every) return;
        last = now;
        crew.pause();
    });
    for (std::thread& other : others) other.join();
    if (shared.failure) std::rethrow_exception(shared.failure);
}

}  // namespace headrace
