// The wire reader on any bytes: it ends, stays inside, and a field that it skips lies where it says.
#include "headrace/wire.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view message(reinterpret_cast<const char*>(data), size);
    headrace::WireReader reader(message);
    size_t n_fields = 0;
    while (reader.next()) {
        if (reader.type() == headrace::WireType::bytes) {
            headrace::is_utf8(reader.bytes());
        } else {
            reader.skip();
        }
        if (++n_fields > size) __builtin_trap();
    }
    if (headrace::count_messages(message, 1) > size) __builtin_trap();
    return 0;
}
