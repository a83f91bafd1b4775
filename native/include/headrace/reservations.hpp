// Open reservations in a memory-mapped file of fixed slots, so that they outlive the process (not the machine).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace {

struct Slot {
    int64_t lease = 0;  // 0: free. Written last and cleared first, so that a killed process leaves no half slot
    int64_t cpm = 0;
    int64_t issued_ms = 0;
    uint64_t serial = 0;  // and above its 32 bits, 16 of the exchange
    uint64_t checksum = 0;

    uint32_t number() const { return static_cast<uint32_t>(serial); }
    uint16_t exchange() const { return static_cast<uint16_t>(serial >> 32); }
};
static_assert(sizeof(Slot) == 40, "the reservation file's format");

// Who wrote the file, and what the journal held at least when it did.
struct ReservationHeader {
    char magic[8] = {'H', 'R', 'R', 'E', 'S', 'V', '0', '1'};
    int64_t epoch = 0;
    uint64_t ledger = 0;
    uint64_t boot = 0;
    uint64_t checksum = 0;  // of the fields above
    int64_t sequence = 0;   // the newest journal row known to be committed; changes while in use
    int64_t capacity = 0;   // not trusted on reading: the file's size says it
};
static_assert(sizeof(ReservationHeader) == 56, "the reservation file's format");

struct ReservationImage {
    bool readable = false;  // a whole header and no torn slot
    ReservationHeader header;
    std::vector<Slot> open;
};

class ReservationFile {
   public:
    ReservationFile() = default;
    ~ReservationFile();
    ReservationFile(const ReservationFile&) = delete;
    ReservationFile& operator=(const ReservationFile&) = delete;

    // Reads a file left by an earlier owner; never throws for what the file holds.
    static ReservationImage read(const std::string& path);

    // Moves the slots, at their places, into a new file at `path` (written beside it, then renamed).
    void attach(const std::string& path, const ReservationHeader& header);
    void mark_committed(int64_t sequence);
    // Lets go of the file but keeps the slots readable in memory.
    void detach();

    // Index of the new slot, or -1 when the file cannot grow.
    int64_t put(int64_t lease, uint32_t serial, uint16_t exchange, int64_t cpm, int64_t issued_ms);
    void clear(uint32_t index);
    const Slot& at(uint32_t index) const { return slots_[index]; }
    size_t capacity() const { return capacity_; }
    size_t open() const { return next_ - free_.size(); }

   private:
    bool grow();
    bool map(int handle, size_t capacity);
    void unmap();

    int handle_ = -1;
    void* mapping_ = nullptr;
    size_t mapped_bytes_ = 0;
    Slot* slots_ = nullptr;
    size_t capacity_ = 0;
    size_t next_ = 0;
    std::vector<uint32_t> free_;
};

}  // namespace headrace
