// What waits for a worker: earliest deadline first, in order of arrival among equals.
#pragma once

#include <time.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace headrace {

// Seconds on the clock of Python's time.monotonic().
inline double monotonic_s() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// A queue for many threads on both ends; push, take and remove cost O(log n) a piece.
//
// T has double deadline, uint64_t order, size_t place, T* before, T* after and owner(), which has T* waiting: the head
// of the list of what waits of one owner, so that all of it can be taken out at once. These fields belong to the inbox
// while the piece waits; the rest of the piece is the caller's, who keeps it alive.
template <typename T>
class Inbox {
   public:
    void push(T* piece) {
        bool first;
        {
            std::lock_guard lock(mutex_);
            first = heap_.empty();
            piece->order = next_order_++;
            link(piece);
            heap_.push_back(piece);
            rise(heap_.size() - 1);
        }
        // one wake-up for a burst: whoever wakes takes all of it, and passes on what is beyond its limit
        if (first) filled_.notify_one();
    }

    // Waits until something waits or the inbox is closed, then takes at most `limit` pieces. What is past its deadline
    // goes to `late` and does not count. Both stay empty only when the inbox is closed.
    void take(size_t limit, std::vector<T*>& taken, std::vector<T*>& late) {
        bool more;
        {
            std::unique_lock lock(mutex_);
            filled_.wait(lock, [&] { return !heap_.empty() || closed_; });
            double now = monotonic_s();
            while (!heap_.empty() && taken.size() < limit) {
                T* piece = heap_.front();
                erase(0);
                (piece->deadline > now ? taken : late).push_back(piece);
            }
            more = !heap_.empty();
        }
        if (more) filled_.notify_one();
    }

    // Takes out all that waits of one owner.
    template <typename Owner>
    void remove_all(Owner& owner, std::vector<T*>& removed) {
        std::lock_guard lock(mutex_);
        while (owner.waiting != nullptr) {
            removed.push_back(owner.waiting);
            erase(owner.waiting->place);
        }
    }

    // Lets every take return, now and later, once nothing waits.
    void close() {
        {
            std::lock_guard lock(mutex_);
            closed_ = true;
        }
        filled_.notify_all();
    }

    bool closed() const {
        std::lock_guard lock(mutex_);
        return closed_;
    }

    size_t size() const {
        std::lock_guard lock(mutex_);
        return heap_.size();
    }

   private:
    static bool sooner(const T* a, const T* b) {
        return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
    }

    void put(T* piece, size_t place) {
        heap_[place] = piece;
        piece->place = place;
    }

    void rise(size_t place) {
        T* piece = heap_[place];
        while (place > 0 && sooner(piece, heap_[(place - 1) / 2])) {
            put(heap_[(place - 1) / 2], place);
            place = (place - 1) / 2;
        }
        put(piece, place);
    }

    void sink(size_t place) {
        T* piece = heap_[place];
        for (size_t child; (child = 2 * place + 1) < heap_.size(); place = child) {
            if (child + 1 < heap_.size() && sooner(heap_[child + 1], heap_[child])) ++child;
            if (!sooner(heap_[child], piece)) break;
            put(heap_[child], place);
        }
        put(piece, place);
    }

    void erase(size_t place) {
        unlink(heap_[place]);
        T* last = heap_.back();
        heap_.pop_back();
        if (place == heap_.size()) return;
        put(last, place);
        rise(place);
        sink(last->place);
    }

    void link(T* piece) {
        T*& head = piece->owner().waiting;
        piece->before = nullptr;
        piece->after = head;
        if (head != nullptr) head->before = piece;
        head = piece;
    }

    void unlink(T* piece) {
        (piece->before != nullptr ? piece->before->after : piece->owner().waiting) = piece->after;
        if (piece->after != nullptr) piece->after->before = piece->before;
    }

    mutable std::mutex mutex_;
    std::condition_variable filled_;
    std::vector<T*> heap_;
    uint64_t next_order_ = 0;
    bool closed_ = false;
};

}  // namespace headrace
