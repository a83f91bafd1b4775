#include "headrace/embeddings.hpp"

#include <algorithm>
#include <utility>

namespace headrace {

void Embeddings::of(const int32_t* rows, const float* confidences, size_t n, float* out) {
    std::string key(n * (sizeof *rows + sizeof *confidences), '\0');
    std::copy_n(reinterpret_cast<const char*>(rows), n * sizeof *rows, &key[0]);
    std::copy_n(reinterpret_cast<const char*>(confidences), n * sizeof *confidences, &key[n * sizeof *rows]);
    if (find(key, out)) return;
    fold_in(model_, rows, confidences, n, out);
    remember(std::move(key), out);
}

size_t Embeddings::n_folded() const {
    std::lock_guard<std::mutex> locked(lock_);
    return n_folded_;
}

bool Embeddings::find(std::string_view key, float* out) {
    std::lock_guard<std::mutex> locked(lock_);
    auto place = places_.find(key);
    if (place == places_.end()) return false;
    entries_.splice(entries_.begin(), entries_, place->second);
    std::copy(place->second->factors.begin(), place->second->factors.end(), out);
    return true;
}

void Embeddings::remember(std::string key, const float* factors) {
    std::lock_guard<std::mutex> locked(lock_);
    ++n_folded_;
    if (!capacity_ || places_.count(key)) return;
    if (entries_.size() == capacity_) {
        places_.erase(entries_.back().key);
        entries_.pop_back();
    }
    entries_.push_front({std::move(key), {factors, factors + model_.width}});
    places_.emplace(entries_.front().key, entries_.begin());
}

}  // namespace headrace
