// HMAC-SHA256 (FIPS 180-4, RFC 2104) for the tokens of bids.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

using Digest = std::array<uint8_t, 32>;

// One key with both halves of its HMAC prepared.
class HmacKey {
   public:
    // The secret is at most one block of 64 bytes; throws std::invalid_argument.
    explicit HmacKey(std::string_view secret);
    Digest mac(const uint8_t* data, size_t size) const;

   private:
    std::array<uint32_t, 8> inner_, outer_;
};

// n bodies of `size` bytes in a row, each followed by the first `mac_bytes` of its HMAC, as URL-safe base64 without an
// end between them. size + mac_bytes is a multiple of 3, so that each takes a whole number of letters.
std::string sign(const HmacKey& key, const uint8_t* bodies, size_t n, size_t size, size_t mac_bytes);

}  // namespace headrace
