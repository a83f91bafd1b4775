// A lease: a slice of a line item's budget, granted durably, reserved inside in memory.
#pragma once

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
    std::vector<Entry> entries;  // by serial

    int64_t billed() const { return ceil_micros(billed_nanos); }
    Entry entry(uint32_t serial) const { return serial < entries.size() ? entries[serial] : Entry(); }
    void set(uint32_t serial, Entry entry) {
        if (serial >= entries.size()) entries.resize(static_cast<size_t>(serial) + 1);
        entries[serial] = entry;
    }
};

}  // namespace headrace
