#include "headrace/slate_codec.hpp"

#include <cmath>
#include <functional>

namespace headrace {
namespace {

// A proto3 text; what is not UTF-8 makes the message malformed.
bool read_text(WireReader& reader, std::string_view& out) {
    out = reader.bytes();
    return reader.ok() && is_utf8(out);
}

bool is_label(std::string_view text, size_t most) {
    return text.size() <= most && text.find('\0') == std::string_view::npos;
}

size_t item_size(std::string_view id, float score, int64_t price) {
    size_t size = 0;
    if (!id.empty()) size += 1 + varint_size(id.size()) + id.size();
    if (score != 0 || std::signbit(score)) size += 5;
    if (price) size += 1 + varint_size(static_cast<uint64_t>(price));
    return size;
}

}  // namespace

bool read_slate_request(std::string_view message, SlateRequest& request) {
    WireReader reader(message);
    while (reader.next()) {
        bool bytes = reader.type() == WireType::bytes, varint = reader.type() == WireType::varint;
        uint32_t field = reader.field();
        if (field == 1 && bytes) {
            if (!read_text(reader, request.user_id)) return false;
        } else if (field == 2 && bytes) {
            if (!read_text(reader, request.anonymous_id)) return false;
        } else if (field == 3 && varint) {
            request.limit = static_cast<uint32_t>(reader.varint());
            request.has_limit = true;
        } else if (field == 4 && varint) {
            request.repeat_policy = static_cast<int32_t>(reader.varint());
        } else if (field == 5 && bytes) {
            if (!read_text(reader, request.exclude_item_ids.emplace_back())) return false;
        } else if (field == 6 && varint) {
            request.min_sequence = reader.varint();
        } else if (field == 7 && varint) {
            request.include_attributes = reader.varint() != 0;
        } else if (field == 8 && bytes) {
            if (!read_text(reader, request.surface)) return false;
        } else if (field == 9 && bytes) {
            if (!read_text(reader, request.session_item_ids.emplace_back())) return false;
        } else {
            reader.skip();
        }
    }
    return reader.ok();
}

bool within_limits(const SlateRequest& request, const SlateLimits& limits) {
    for (const auto* ids : {&request.exclude_item_ids, &request.session_item_ids})
        for (std::string_view id : *ids)
            if (id.size() > limits.id_bytes) return false;
    return is_label(request.user_id, limits.id_bytes) && is_label(request.anonymous_id, limits.id_bytes) &&
           is_label(request.surface, limits.label_bytes) && request.exclude_item_ids.size() <= limits.exclusions &&
           request.session_item_ids.size() <= limits.session &&
           request.repeat_policy >= 0 && request.repeat_policy < limits.policies &&
           (!request.has_limit || (request.limit >= 1 && request.limit <= limits.limit));
}

bool split_slate_batch(std::string_view message, std::vector<std::string_view>& requests) {
    WireReader reader(message);
    while (reader.next()) {
        if (reader.field() == 1 && reader.type() == WireType::bytes) {
            requests.push_back(reader.bytes());
        } else {
            reader.skip();
        }
    }
    return reader.ok();
}

size_t ItemRows::place_of(std::string_view wanted) const {
    size_t mask = table_.size() - 1, place = std::hash<std::string_view>()(wanted) & mask;
    while (table_[place] >= 0 && id(static_cast<size_t>(table_[place])) != wanted) place = (place + 1) & mask;
    return place;
}

int32_t ItemRows::find(std::string_view wanted) const { return table_.empty() ? -1 : table_[place_of(wanted)]; }

int32_t ItemRows::add(std::string_view added) {
    if (2 * (size() + 1) > table_.size()) grow();
    auto row = static_cast<int32_t>(size());
    table_[place_of(added)] = row;
    blob_.append(added);
    starts_.push_back(blob_.size());
    prices_micros_.push_back(0);
    return row;
}

void ItemRows::reserve(size_t n_rows, size_t n_bytes) {
    blob_.reserve(n_bytes);
    starts_.reserve(n_rows + 1);
    prices_micros_.reserve(n_rows);
    while (2 * (n_rows + 1) > table_.size()) grow();
}

void ItemRows::grow() {
    table_.assign(table_.empty() ? 64 : 2 * table_.size(), -1);
    for (size_t row = 0; row < size(); ++row) table_[place_of(id(row))] = static_cast<int32_t>(row);
}

void write_slate(const SlateAnswer& answer, const ItemRows& items, std::string& out) {
    WireWriter writer(out);
    if (!answer.request_id.empty()) writer.text(1, answer.request_id);
    for (size_t i = 0; i < answer.n; ++i) {
        auto row = static_cast<size_t>(answer.rows[i]);
        std::string_view id = items.id(row);
        float score = answer.scores[i];
        int64_t price = items.price(row);
        writer.tag(2, WireType::bytes);
        writer.varint(item_size(id, score, price));
        if (!id.empty()) writer.text(1, id);
        if (score != 0 || std::signbit(score)) writer.float32(2, score);
        if (price) writer.number(3, static_cast<uint64_t>(price));
    }
    if (!answer.artifact_version.empty()) writer.text(3, answer.artifact_version);
    if (answer.event_sequence) writer.number(4, answer.event_sequence);
    if (answer.tier) writer.number(5, static_cast<uint64_t>(static_cast<int64_t>(answer.tier)));
    if (answer.cold_start) writer.number(6, 1);
}

void write_json_ids(const ItemRows& items, const int32_t* rows, size_t n, std::string& out) {
    constexpr char digits[] = "0123456789abcdef";
    out.push_back('[');
    for (size_t i = 0; i < n; ++i) {
        if (i) out.append(", ");
        out.push_back('"');
        for (char c : items.id(static_cast<size_t>(rows[i]))) {
            auto byte = static_cast<uint8_t>(c);
            if (c == '"' || c == '\\') {
                out.push_back('\\');
                out.push_back(c);
            } else if (byte < 0x20) {
                out.append("\\u00");
                out.push_back(digits[byte >> 4]);
                out.push_back(digits[byte & 15]);
            } else {
                out.push_back(c);
            }
        }
        out.push_back('"');
    }
    out.push_back(']');
}

}  // namespace headrace
