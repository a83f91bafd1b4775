// Protocol Buffers' wire format, read from and written to plain bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace headrace {

enum class WireType : uint8_t { varint = 0, fixed64 = 1, bytes = 2, start_group = 3, end_group = 4, fixed32 = 5 };

// A field's number and type as one number, to switch over.
constexpr uint32_t wire_key(uint32_t field, WireType type) { return field << 3 | static_cast<uint32_t>(type); }

// Whether bytes are UTF-8 as proto3 strings must be: no overlong forms, surrogates or code points above U+10FFFF.
bool is_utf8(std::string_view text);

// How often a message or string of that field number stands in a message, up to where it is malformed if it is.
size_t count_messages(std::string_view message, uint32_t field);

// Reads one message's fields in turn. Malformed input turns `ok` false and ends the message; nothing is read beyond it.
class WireReader {
  public:
    explicit WireReader(std::string_view message)
        : at_(reinterpret_cast<const uint8_t*>(message.data())), end_(at_ + message.size()) {}

    bool ok() const { return ok_; }
    uint32_t field() const { return field_; }
    WireType type() const { return type_; }
    uint32_t key() const { return wire_key(field_, type_); }

    // Goes to the next field; false at the end of the message and when it is malformed.
    bool next() {
        if (!ok_ || at_ == end_) return false;
        uint64_t tag = short_varint();
        field_ = static_cast<uint32_t>(tag >> 3);
        type_ = static_cast<WireType>(tag & 7);
        if (field_ == 0 || (tag & 7) > 5) ok_ = false;
        return ok_;
    }

    // At most ten bytes; bits beyond the 64th are dropped.
    uint64_t varint() { return varint_of(10); }

    uint64_t fixed64() { return fixed<uint64_t>(); }
    uint32_t fixed32() { return fixed<uint32_t>(); }

    std::string_view bytes() {
        uint64_t size = short_varint();
        if (!ok_ || size > static_cast<uint64_t>(end_ - at_)) {
            ok_ = false;
            return {};
        }
        std::string_view view(reinterpret_cast<const char*>(at_), size);
        at_ += size;
        return view;
    }

    // The bytes of a proto3 string: anything but UTF-8 is malformed.
    std::string_view text() {
        std::string_view view = bytes();
        if (ok_ && !is_utf8(view)) ok_ = false;
        return view;
    }

    // Passes over the present field, whatever it is.
    void skip() { skip(field_, type_, 0); }

  private:
    static constexpr int max_depth = 100;

    uint64_t varint_of(int max_bytes) {
        uint64_t value = 0;
        for (int i = 0; i < max_bytes && at_ != end_; ++i) {
            uint8_t byte = *at_++;
            value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
            if (byte < 0x80) return value;
        }
        ok_ = false;
        return 0;
    }

    // Tags and lengths: at most five bytes and 32 bits.
    uint64_t short_varint() {
        uint64_t value = varint_of(5);
        if (value > UINT32_MAX) ok_ = false;
        return value;
    }

    template <typename T>
    T fixed() {
        T value{};
        if (static_cast<size_t>(end_ - at_) < sizeof value) {
            ok_ = false;
            return value;
        }
        std::memcpy(&value, at_, sizeof value);  // little-endian, as the wire is
        at_ += sizeof value;
        return value;
    }

    void skip(uint32_t field, WireType type, int depth) {
        switch (type) {
            case WireType::varint: varint(); return;
            case WireType::fixed64: fixed64(); return;
            case WireType::bytes: bytes(); return;
            case WireType::fixed32: fixed32(); return;
            case WireType::start_group: skip_group(field, depth); return;
            case WireType::end_group: break;
        }
        ok_ = false;
    }

    void skip_group(uint32_t group, int depth) {
        if (depth == max_depth) ok_ = false;
        while (next()) {
            if (type_ == WireType::end_group) {
                if (field_ != group) ok_ = false;
                return;
            }
            skip(field_, type_, depth + 1);
        }
        ok_ = false;
    }

    const uint8_t* at_;
    const uint8_t* end_;
    uint32_t field_ = 0;
    WireType type_ = WireType::varint;
    bool ok_ = true;
};

inline size_t varint_size(uint64_t value) {
    size_t size = 1;
    for (; value >= 0x80; value >>= 7) ++size;
    return size;
}

// Appends fields to a message. Fields of value zero are left to the caller: proto3 omits them.
class WireWriter {
  public:
    explicit WireWriter(std::string& out) : out_(out) {}

    void varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
        out_.push_back(static_cast<char>(value));
    }
    void tag(uint32_t field, WireType type) { varint(static_cast<uint64_t>(field) << 3 | static_cast<uint8_t>(type)); }
    void number(uint32_t field, uint64_t value) {
        tag(field, WireType::varint);
        varint(value);
    }
    void text(uint32_t field, std::string_view value) {
        tag(field, WireType::bytes);
        varint(value.size());
        out_.append(value);
    }
    void float32(uint32_t field, float value) {
        tag(field, WireType::fixed32);
        out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    void float64(uint32_t field, double value) {
        tag(field, WireType::fixed64);
        out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }

  private:
    std::string& out_;
};

}  // namespace headrace
