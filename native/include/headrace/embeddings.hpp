// People's factors, remembered by the history that they were folded in from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "headrace/foldin.hpp"

namespace headrace {

// Folds in each history once, whoever asks for it. The key is the very input of the fold-in, so what is remembered is
// never stale, and equal to the bit. Any thread may ask.
class Embeddings {
  public:
    // capacity : histories that are remembered; the least recently used give way.
    Embeddings(const FoldIn& model, size_t capacity) : model_(model), capacity_(capacity) {}

    // As fold_in for one person.
    void of(const int32_t* rows, const float* confidences, size_t n, float* out);
    size_t n_folded() const;

  private:
    struct Entry {
        std::string key;
        std::vector<float> factors;
    };
    bool find(std::string_view key, float* out);
    void remember(std::string key, const float* factors);

    const FoldIn model_;
    const size_t capacity_;
    mutable std::mutex lock_;
    std::list<Entry> entries_;  // the latest used in front
    std::unordered_map<std::string_view, std::list<Entry>::iterator> places_;
    size_t n_folded_ = 0;
};

}  // namespace headrace
