#include "headrace/wire.hpp"

namespace headrace {
namespace {

bool follows(uint8_t byte) { return (byte & 0xc0) == 0x80; }

// Bytes of the well-formed sequence that starts at `at`, not ASCII; 0 when there is none (Unicode 15, table 3-7).
size_t sequence_size(const uint8_t* at, size_t left) {
    uint8_t first = at[0];
    if (first >= 0xc2 && first <= 0xdf) return left > 1 && follows(at[1]) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        if (left < 3 || !follows(at[1]) || !follows(at[2])) return 0;
        bool overlong = first == 0xe0 && at[1] < 0xa0, surrogate = first == 0xed && at[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (left < 4 || !follows(at[1]) || !follows(at[2]) || !follows(at[3])) return 0;
        bool overlong = first == 0xf0 && at[1] < 0x90, beyond = first == 0xf4 && at[1] > 0x8f;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
    const uint8_t* at = reinterpret_cast<const uint8_t*>(text.data());
    size_t left = text.size();
    while (left) {
        uint64_t eight;
        if (left >= 8 && (std::memcpy(&eight, at, 8), (eight & 0x8080808080808080u) == 0)) {
            at += 8, left -= 8;
            continue;
        }
        size_t size = *at < 0x80 ? 1 : sequence_size(at, left);
        if (!size) return false;
        at += size, left -= size;
    }
    return true;
}

size_t count_messages(std::string_view message, uint32_t field) {
    WireReader reader(message);
    size_t count = 0;
    while (reader.next()) {
        bool found = reader.key() == wire_key(field, WireType::bytes);
        reader.skip();
        count += found && reader.ok();
    }
    return count;
}

}  // namespace headrace
