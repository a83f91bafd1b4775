// The recommendation codec on any bytes: it ends, stays inside the message, and what it writes it can read.
#include "headrace/slate_codec.hpp"

using namespace headrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view message(reinterpret_cast<const char*>(data), size);
    SlateRequest request;
    bool good = read_slate_request(message, request);
    ItemRows items;
    for (const auto* ids : {&request.exclude_item_ids, &request.session_item_ids})
        for (std::string_view id : *ids)
            if (good && items.find(id) < 0) items.add(id);
    for (size_t row = 0; row < items.size(); ++row)
        if (items.find(items.id(row)) != static_cast<int32_t>(row)) __builtin_trap();
    if (good && within_limits(request, {256, 64, 10'000, 100, 1000, 3}) &&
        (request.user_id.size() > 256 || request.session_item_ids.size() > 100))
        __builtin_trap();
    std::vector<int32_t> rows(items.size());
    std::vector<float> scores(items.size(), 0.5f);
    for (size_t row = 0; row < rows.size(); ++row) rows[row] = static_cast<int32_t>(row);
    std::string out, json;
    write_slate({request.user_id, request.surface, request.min_sequence, 1, false, rows.data(), scores.data(), rows.size()},
                items, out);
    write_json_ids(items, rows.data(), rows.size(), json);
    WireReader written(out);
    while (written.next()) written.skip();
    if (!written.ok()) __builtin_trap();
    std::vector<std::string_view> requests;
    split_slate_batch(message, requests);
    for (std::string_view each : requests) {
        SlateRequest inner;
        read_slate_request(each, inner);
    }
    return 0;
}
