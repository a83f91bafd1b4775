#include "headrace/reservations.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace headrace {

namespace {

constexpr size_t kFirstCapacity = 4096;

uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ull;
    return hash ^ (hash >> 29);
}

uint64_t checksum_of(const Slot& slot) {
    uint64_t hash = mix(0x48524C45ull, static_cast<uint64_t>(slot.lease));
    hash = mix(hash, static_cast<uint64_t>(slot.cpm));
    hash = mix(hash, static_cast<uint64_t>(slot.issued_ms));
    return mix(hash, slot.serial);
}

uint64_t checksum_of(const ReservationHeader& header) {
    uint64_t hash = mix(0x48524C46ull, static_cast<uint64_t>(header.epoch));
    return mix(mix(hash, header.ledger), header.boot);
}

size_t bytes_for(size_t capacity) { return sizeof(ReservationHeader) + capacity * sizeof(Slot); }

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

// Takes the blocks now: a store into a hole of a mapped file on a full disk would kill the process.
bool allocate(int handle, size_t bytes) {
    int error = posix_fallocate(handle, 0, static_cast<off_t>(bytes));
    if (error != 0) errno = error;
    return error == 0;
}

std::vector<char> read_all(int handle) {
    struct stat status {};
    if (fstat(handle, &status) != 0 || status.st_size < 0) return {};
    std::vector<char> bytes(static_cast<size_t>(status.st_size));
    size_t done = 0;
    while (done < bytes.size()) {
        ssize_t got = ::read(handle, bytes.data() + done, bytes.size() - done);
        if (got <= 0) return {};
        done += static_cast<size_t>(got);
    }
    return bytes;
}

}  // namespace

ReservationFile::~ReservationFile() { unmap(); }

ReservationImage ReservationFile::read(const std::string& path) {
    ReservationImage image;
    int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (handle < 0) return image;
    std::vector<char> bytes = read_all(handle);
    ::close(handle);
    if (bytes.size() < sizeof(ReservationHeader)) return image;
    std::memcpy(&image.header, bytes.data(), sizeof(ReservationHeader));
    const ReservationHeader expected;
    if (std::memcmp(image.header.magic, expected.magic, sizeof expected.magic) != 0) return image;
    if (image.header.checksum != checksum_of(image.header)) return image;
    size_t capacity = (bytes.size() - sizeof(ReservationHeader)) / sizeof(Slot);
    for (size_t i = 0; i < capacity; ++i) {
        Slot slot;
        std::memcpy(&slot, bytes.data() + sizeof(ReservationHeader) + i * sizeof(Slot), sizeof(Slot));
        if (slot.lease == 0) continue;
        if (slot.checksum != checksum_of(slot)) return image;
        image.open.push_back(slot);
    }
    image.readable = true;
    return image;
}

void ReservationFile::attach(const std::string& path, const ReservationHeader& header) {
    std::string fresh = path + ".new";
    int handle = ::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (handle < 0) fail(fresh);
    size_t capacity = capacity_ == 0 ? kFirstCapacity : capacity_;
    std::vector<Slot> kept(slots_, slots_ + next_);
    if (!allocate(handle, bytes_for(capacity))) {
        int error = errno;
        ::close(handle);
        ::unlink(fresh.c_str());
        errno = error;
        fail(fresh);
    }
    unmap();
    if (!map(handle, capacity)) fail(fresh);
    handle_ = handle;
    if (!kept.empty()) std::memcpy(slots_, kept.data(), kept.size() * sizeof(Slot));
    ReservationHeader own = header;
    own.capacity = static_cast<int64_t>(capacity);
    own.checksum = checksum_of(own);
    std::memcpy(mapping_, &own, sizeof own);
    if (std::rename(fresh.c_str(), path.c_str()) != 0) fail(path);
}

void ReservationFile::mark_committed(int64_t sequence) {
    if (handle_ >= 0) static_cast<ReservationHeader*>(mapping_)->sequence = sequence;
}

void ReservationFile::detach() {
    if (handle_ < 0) return;
    std::vector<Slot> kept(slots_, slots_ + next_);
    size_t capacity = capacity_;
    unmap();
    if (!map(-1, capacity)) fail("reservations");
    if (!kept.empty()) std::memcpy(slots_, kept.data(), kept.size() * sizeof(Slot));
}

int64_t ReservationFile::put(int64_t lease, uint32_t serial, uint16_t exchange, int64_t cpm, int64_t issued_ms) {
    if (free_.empty() && next_ == capacity_ && !grow()) return -1;
    uint32_t index;
    if (!free_.empty()) {
        index = free_.back();
        free_.pop_back();
    } else {
        index = static_cast<uint32_t>(next_++);
    }
    Slot& slot = slots_[index];
    Slot filled{lease, cpm, issued_ms, static_cast<uint64_t>(exchange) << 32 | serial, 0};
    slot.cpm = cpm;
    slot.issued_ms = issued_ms;
    slot.serial = filled.serial;
    slot.checksum = checksum_of(filled);
    std::atomic_signal_fence(std::memory_order_release);
    *const_cast<volatile int64_t*>(&slot.lease) = lease;
    return index;
}

void ReservationFile::clear(uint32_t index) {
    *const_cast<volatile int64_t*>(&slots_[index].lease) = 0;
    std::atomic_signal_fence(std::memory_order_release);
    free_.push_back(index);
}

bool ReservationFile::grow() {
    size_t capacity = capacity_ == 0 ? kFirstCapacity : capacity_ * 2;
    if (handle_ >= 0 && !allocate(handle_, bytes_for(capacity))) return false;
    size_t bytes = bytes_for(capacity);
    void* moved;
    if (mapping_ == nullptr) {
        moved = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else {
        moved = mremap(mapping_, mapped_bytes_, bytes, MREMAP_MAYMOVE);
    }
    if (moved == MAP_FAILED) return false;
    mapping_ = moved;
    mapped_bytes_ = bytes;
    slots_ = reinterpret_cast<Slot*>(static_cast<char*>(mapping_) + sizeof(ReservationHeader));
    capacity_ = capacity;
    return true;
}

bool ReservationFile::map(int handle, size_t capacity) {
    int flags = handle >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    size_t bytes = bytes_for(capacity);
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, handle, 0);
    if (mapped == MAP_FAILED) return false;
    mapping_ = mapped;
    mapped_bytes_ = bytes;
    slots_ = reinterpret_cast<Slot*>(static_cast<char*>(mapping_) + sizeof(ReservationHeader));
    capacity_ = capacity;
    return true;
}

void ReservationFile::unmap() {
    if (mapping_ != nullptr) munmap(mapping_, mapped_bytes_);
    if (handle_ >= 0) ::close(handle_);
    mapping_ = nullptr;
    handle_ = -1;
    slots_ = nullptr;
    capacity_ = 0;
}

}  // namespace headrace
