// Messages that came compressed. gRPC's core would inflate them without a bound, so it is told not to.
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <zlib.h>

#include <algorithm>

#include "headrace/door.hpp"

namespace headrace {
namespace {

constexpr int kGzip = 15 + 16;  // the largest window, in a gzip wrapper
constexpr size_t kPiece = 1 << 16;

// The inflated bytes; false when they are no whole gzip stream or more than `most`, and then `status` says which.
bool inflate_all(const grpc_slice_buffer& from, size_t most, std::string& to, grpc_status_code& status) {
    z_stream stream{};
    if (inflateInit2(&stream, kGzip) != Z_OK) return status = GRPC_STATUS_INTERNAL, false;
    int code = Z_OK;
    for (size_t i = 0; i < from.count && code == Z_OK; ++i) {
        stream.next_in = const_cast<Bytef*>(GRPC_SLICE_START_PTR(from.slices[i]));
        stream.avail_in = static_cast<uInt>(GRPC_SLICE_LENGTH(from.slices[i]));
        do {
            size_t have = to.size();
            to.resize(std::min(have + kPiece, most + 1));
            stream.next_out = reinterpret_cast<Bytef*>(&to[have]);
            stream.avail_out = static_cast<uInt>(to.size() - have);
            code = inflate(&stream, Z_NO_FLUSH);
            to.resize(to.size() - stream.avail_out);
        } while (code == Z_OK && to.size() <= most && stream.avail_out == 0);
        if (to.size() > most) break;
    }
    inflateEnd(&stream);
    status = to.size() > most ? GRPC_STATUS_RESOURCE_EXHAUSTED : GRPC_STATUS_INVALID_ARGUMENT;
    return to.size() <= most && code == Z_STREAM_END;
}

}  // namespace

grpc_byte_buffer* DoorCore::readable(grpc_byte_buffer* body, grpc_status_code& status) const {
    if (body->data.raw.compression == GRPC_COMPRESS_NONE) return body;
    std::string inflated;
    bool good = inflate_all(body->data.raw.slice_buffer, settings.max_message_bytes, inflated, status);
    grpc_byte_buffer_destroy(body);
    if (!good) return nullptr;
    grpc_slice slice = grpc_slice_from_copied_buffer(inflated.data(), inflated.size());
    grpc_byte_buffer* whole = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return whole;
}

}  // namespace headrace
