// Work in fixed tiles, shared out among threads.
#pragma once

#include <cstddef>
#include <functional>

namespace headrace {

struct Crew {
    size_t n_threads = 1;         // at least 1: the caller works too
    std::function<void()> pause;  // called by the caller's thread between its tiles, every few milliseconds; may throw
};

// Calls work(tile) once for each of 0 ... n_tiles - 1, in no order. Returns when all are done. What a tile or `pause`
// throws stops the rest and is thrown here. Who works on a tile depends on chance, so results must not depend on it.
void for_tiles(size_t n_tiles, const Crew& crew, const std::function<void(size_t)>& work);

}  // namespace headrace
