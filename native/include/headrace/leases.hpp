// A lease: a slice of a line item's budget, granted durably, reserved inside in memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "headrace/money.hpp"

namespace headrace {

// What became of one token. Held states keep money; the others are settled. The numbers are part of the journal.
enum class State : uint8_t {
    kAbsent = 0,  // never seen singly
    kReserved = 1,
    kWon = 2,
    kDisputed = 3,  // held: a claim we may not accept waits for an operator or a right bill
    kBilled = 4,
    kLost = 5,
    kExpired = 6,
    kLate = 7,          // billed after its money had gone back
    kLostDisputed = 8,  // won after it was lost
};

inline bool is_held(State state) {
    return state == State::kReserved || state == State::kWon || state == State::kDisputed;
}

// A token's place in its lease: a settled state, or a held state with its slot in the reservation file.
class Entry {
   public:
    Entry() = default;
    static Entry settled(State state) { return Entry(static_cast<uint32_t>(state)); }
    static Entry held(State state, uint32_t slot) { return Entry(kHeld | slot << 2 | static_cast<uint32_t>(state)); }

    State state() const { return static_cast<State>((bits_ & kHeld) != 0 ? bits_ & 3u : bits_); }
    uint32_t slot() const { return (bits_ & ~kHeld) >> 2; }

   private:
    static constexpr uint32_t kHeld = 1u << 31;
    explicit Entry(uint32_t bits) : bits_(bits) {}
    uint32_t bits_ = 0;
};

// The entries of one lease, by serial: four bytes each while it is used, half a byte once all are settled. A server that
// bids 5,000 times a second keeps those of its last hour.
class Entries {
   public:
    size_t size() const { return packed_.empty() ? entries_.size() : size_; }
    Entry operator[](size_t serial) const {
        if (packed_.empty()) return entries_[serial];
        return Entry::settled(static_cast<State>(packed_[serial / 2] >> serial % 2 * 4 & 15u));
    }
    void push_back(Entry entry) {
        unpack();
        entries_.push_back(entry);
    }
    // Entries between the last and a serial beyond it are absent.
    void set(size_t serial, Entry entry) {
        unpack();
        if (serial >= entries_.size()) entries_.resize(serial + 1);
        entries_[serial] = entry;
    }
    // Nothing is done while one is held.
    void pack() {
        bool held = std::any_of(entries_.begin(), entries_.end(), [](Entry entry) { return is_held(entry.state()); });
        if (entries_.empty() || held) return;
        std::vector<uint8_t> packed((entries_.size() + 1) / 2);
        for (size_t serial = 0; serial < entries_.size(); ++serial) {
            packed[serial / 2] |= static_cast<uint8_t>(static_cast<unsigned>(entries_[serial].state()) << serial % 2 * 4);
        }
        size_ = entries_.size();
        packed_.swap(packed);
        std::vector<Entry>().swap(entries_);
    }
    bool packed() const { return !packed_.empty(); }

   private:
    void unpack() {
        if (packed_.empty()) return;
        std::vector<Entry> entries(size_);
        for (size_t serial = 0; serial < size_; ++serial) entries[serial] = (*this)[serial];
        entries_.swap(entries);
        std::vector<uint8_t>().swap(packed_);
    }

    std::vector<Entry> entries_;
    std::vector<uint8_t> packed_;
    size_t size_ = 0;  // of what is packed
};

enum class LeaseState : uint8_t {
    kPending,    // granted in memory, not yet in the journal: may not be used
    kActive,     // reserves inside it
    kClosed,     // takes no reservation; what is released goes back to the account
    kReplaying,  // open in the journal: what is released goes to its pool
};

// granted = unused + reserved + won + billed + pool + returned, always.
struct Lease {
    int64_t id = 0;
    int32_t account = -1;
    int32_t day = 0;
    LeaseState state = LeaseState::kPending;
    int64_t granted = 0;
    int64_t granted_ms = 0;
    int64_t unused = 0;
    int64_t reserved = 0;
    int64_t won = 0;
    int64_t billed_nanos = 0;
    int64_t returned = 0;
    int64_t pool = 0;  // held for reservations that are not known singly (after a power loss)
    int64_t pooled_ms = 0;   // when the pool replaced lost reservations; 0: it did not
    int64_t unconfirmed = 0;  // part of reserved: set free by records whose commit is not known yet
    uint32_t oldest = 0;  // every serial below has left the reserved state
    Entries entries;

    int64_t billed() const { return ceil_micros(billed_nanos); }
    Entry entry(uint32_t serial) const { return serial < entries.size() ? entries[serial] : Entry(); }
    void set(uint32_t serial, Entry entry) { entries.set(serial, entry); }
};

}  // namespace headrace
