// The Python face of signing tokens.
#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "headrace/hmac.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

nb::list signed_tokens(const HmacKey& key, nb::bytes bodies, size_t size, size_t mac_bytes) {
    if (size == 0 || bodies.size() % size != 0) throw std::invalid_argument("bodies of one size each");
    const size_t n = bodies.size() / size;
    const auto* first = reinterpret_cast<const uint8_t*>(bodies.c_str());
    std::string text;
    {
        nb::gil_scoped_release unlocked;
        text = sign(key, first, n, size, mac_bytes);
    }
    nb::list tokens;
    const size_t length = n ? text.size() / n : 0;
    for (size_t row = 0; row < n; ++row) tokens.append(nb::str(text.data() + row * length, length));
    return tokens;
}

}  // namespace

void bind_hmac(nb::module_& m) {
    nb::class_<HmacKey>(m, "HmacKey")
        .def("__init__", [](HmacKey* self, nb::bytes secret) { new (self) HmacKey({secret.c_str(), secret.size()}); }, "secret"_a)
        .def("mac", [](const HmacKey& key, nb::bytes data) {
            const Digest digest = key.mac(reinterpret_cast<const uint8_t*>(data.c_str()), data.size());
            return nb::bytes(reinterpret_cast<const char*>(digest.data()), digest.size());
        }, "data"_a)
        .def("sign", &signed_tokens, "bodies"_a, "size"_a, "mac_bytes"_a);
}

}  // namespace headrace
