#include "headrace/hmac.hpp"

#include <cstring>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace headrace {
namespace {

constexpr size_t block_bytes = 64;
using State = std::array<uint32_t, 8>;

constexpr State initial = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
constexpr uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotated(uint32_t x, int by) { return x >> by | x << (32 - by); }

uint32_t load(const uint8_t* p) { return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3]; }

void store(uint32_t x, uint8_t* p) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(x >> (24 - 8 * i));
}

void compress_plainly(State& state, const uint8_t* block) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) w[i] = load(block + 4 * i);
    for (int i = 16; i < 64; ++i) {
        const uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
        const uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int i = 0; i < 64; ++i) {
        const uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
        const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + rounds[i] + w[i];
        const uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
        const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const State added = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += added[i];
}

#if defined(__x86_64__)

// The same with the processor's own instructions, four rounds at a time.
__attribute__((target("sha,sse4.1"))) void compress_by_instruction(State& state, const uint8_t* block) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    auto* words = reinterpret_cast<__m128i*>(state.data());
    const __m128i dcba = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xb1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1b);
    const __m128i abef_before = _mm_alignr_epi8(dcba, hgfe, 8), cdgh_before = _mm_blend_epi16(hgfe, dcba, 0xf0);
    __m128i abef = abef_before, cdgh = cdgh_before, w[4];
    for (int i = 0; i < 16; ++i) {
        __m128i& now = w[i % 4];
        if (i < 4) {
            now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), swap);
        } else {
            const __m128i last = w[(i + 3) % 4], between = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
            now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(now, w[(i + 1) % 4]), between), last);
        }
        const __m128i added = _mm_add_epi32(now, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rounds) + i));
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, added);
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(added, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before), cdgh = _mm_add_epi32(cdgh, cdgh_before);
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
}

bool has_instruction() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 19 & 1) != 0 && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
           (b >> 29 & 1) != 0;
}

const auto compress = has_instruction() ? compress_by_instruction : compress_plainly;

#else

const auto compress = compress_plainly;

#endif

// The digest of a message whose first block is in the state already.
Digest finished(State state, const uint8_t* data, size_t size) {
    const uint64_t bits = (block_bytes + size) * 8;
    for (; size >= block_bytes; size -= block_bytes, data += block_bytes) compress(state, data);
    uint8_t last[2 * block_bytes] = {};
    if (size > 0) std::memcpy(last, data, size);
    last[size] = 0x80;
    const size_t end = size + 9 > block_bytes ? 2 * block_bytes : block_bytes;
    for (size_t i = 0; i < 8; ++i) last[end - 1 - i] = static_cast<uint8_t>(bits >> (8 * i));
    for (size_t at = 0; at < end; at += block_bytes) compress(state, last + at);
    Digest digest;
    for (size_t i = 0; i < 8; ++i) store(state[i], digest.data() + 4 * i);
    return digest;
}

State keyed(std::string_view secret, uint8_t pad) {
    uint8_t block[block_bytes];
    std::memset(block, pad, block_bytes);
    for (size_t i = 0; i < secret.size(); ++i) block[i] ^= static_cast<uint8_t>(secret[i]);
    State state = initial;
    compress_plainly(state, block);  // so that each mac that is right proves both ways
    return state;
}

}  // namespace

HmacKey::HmacKey(std::string_view secret) {
    if (secret.size() > block_bytes) throw std::invalid_argument("a secret has at most 64 bytes");
    inner_ = keyed(secret, 0x36);
    outer_ = keyed(secret, 0x5c);
}

Digest HmacKey::mac(const uint8_t* data, size_t size) const {
    const Digest inner = finished(inner_, data, size);
    return finished(outer_, inner.data(), inner.size());
}

std::string sign(const HmacKey& key, const uint8_t* bodies, size_t n, size_t size, size_t mac_bytes) {
    static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (mac_bytes > Digest{}.size() || (size + mac_bytes) % 3 != 0) throw std::invalid_argument("a token fills no letters");
    std::string raw(size + mac_bytes, '\0'), text;
    text.reserve(n * raw.size() / 3 * 4);
    for (size_t row = 0; row < n; ++row) {
        const uint8_t* body = bodies + row * size;
        const Digest mac = key.mac(body, size);
        if (size > 0) std::memcpy(raw.data(), body, size);
        std::memcpy(raw.data() + size, mac.data(), mac_bytes);
        for (size_t at = 0; at < raw.size(); at += 3) {
            const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(raw[at + i])); };
            const uint32_t word = byte(0) << 16 | byte(1) << 8 | byte(2);
            for (int shift = 18; shift >= 0; shift -= 6) text.push_back(letters[word >> shift & 63]);
        }
    }
    return text;
}

}  // namespace headrace
