// Recommendation messages between the wire and columns; see proto/headrace/v1/recommender.proto.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "headrace/wire.hpp"

namespace headrace {

// One RecommendRequest. Texts point into its bytes.
struct SlateRequest {
    std::string_view user_id, anonymous_id, surface;
    bool has_limit = false, include_attributes = false;
    uint32_t limit = 0;
    int32_t repeat_policy = 0;
    uint64_t min_sequence = 0;
    std::vector<std::string_view> exclude_item_ids, session_item_ids;
};

// What a request may hold; the caller's limits in bytes and counts.
struct SlateLimits {
    size_t id_bytes, label_bytes, exclusions, session;
    uint32_t limit;
    int32_t policies;  // repeat policies are 0 ... policies - 1
};

// Reads a message; false when it is malformed.
bool read_slate_request(std::string_view message, SlateRequest& request);

// Whether a request keeps all limits.
bool within_limits(const SlateRequest& request, const SlateLimits& limits);

// The requests inside a RecommendBatchRequest, appended to `requests`; false when the batch itself is malformed.
bool split_slate_batch(std::string_view message, std::vector<std::string_view>& requests);

// External ids of rows 0, 1, ..., and their prices.
class ItemRows {
  public:
    size_t size() const { return starts_.size() - 1; }
    std::string_view id(size_t row) const {
        return std::string_view(blob_).substr(starts_[row], starts_[row + 1] - starts_[row]);
    }
    // The row of an id, -1 when there is none.
    int32_t find(std::string_view id) const;
    // Gives an id that has none the next row.
    int32_t add(std::string_view id);
    void reserve(size_t n_rows, size_t n_bytes);
    int64_t price(size_t row) const { return prices_micros_[row]; }
    void set_price(size_t row, int64_t micros) { prices_micros_[row] = micros; }

  private:
    void grow();
    size_t place_of(std::string_view id) const;

    std::string blob_;
    std::vector<size_t> starts_{0};
    std::vector<int64_t> prices_micros_;
    std::vector<int32_t> table_;  // open addressing; -1 is free, a power of two long
};

// One answer; items without attributes.
struct SlateAnswer {
    std::string_view request_id, artifact_version;
    uint64_t event_sequence;
    int32_t tier;
    bool cold_start;
    const int32_t* rows;
    const float* scores;
    size_t n;
};

// Appends a RecommendResponse.
void write_slate(const SlateAnswer& answer, const ItemRows& items, std::string& out);

// Appends rows' ids as a JSON list of texts.
void write_json_ids(const ItemRows& items, const int32_t* rows, size_t n, std::string& out);

}  // namespace headrace
