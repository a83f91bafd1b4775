// The journal's records: 48 bytes each, little-endian, self-contained. What the fields hold depends on the kind.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace headrace {

enum class RecordKind : uint8_t {
    kGrant = 1,   // lease, account, day; a: micros granted; time: when
    kClose = 2,   // lease; a: micros given back
    kSettle = 3,  // lease, serial, account, day, state, exchange; a: reserved CPM; b: price CPM (-1: not known); time: when
    kOpen = 4,    // lease, serial, exchange; a: reserved CPM; time: when issued. Makes a pooled reservation known singly
    kLease = 5,   // lease, account, day, state (1: open); a: micros granted; b: micros given back; time: when granted
    kMoney = 6,   // of a kLease: a: billed nanos; b: micros in the pool
    kStates = 7,  // lease, serial of the first; 24 bytes: one settled state each, 0 where none
    kBase = 8,    // account, day: what leases no longer in memory left; a: billed; b: late; time: disputed micros
    kLimits = 9,  // account: what binds it from here on; a: lifetime limit or balance, the lesser; b: daily limit; -1: none
};

struct Record {
    RecordKind kind;
    uint8_t state = 0;
    uint16_t exchange = 0;  // a short hash of its name; 0: not known
    int32_t account = -1;
    int64_t lease = 0;
    uint32_t serial = 0;
    int32_t day = 0;
    int64_t a = 0;
    int64_t b = 0;
    int64_t time_ms = 0;
};
static_assert(sizeof(Record) == 48, "the journal's format");

class RecordLog {
   public:
    void add(const Record& record) { bytes_.append(reinterpret_cast<const char*>(&record), sizeof(Record)); }
    std::string take() {
        std::string taken;
        taken.swap(bytes_);
        return taken;
    }
    bool empty() const { return bytes_.empty(); }

   private:
    std::string bytes_;
};

}  // namespace headrace
