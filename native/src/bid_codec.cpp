// Bid requests: from bytes to columns, and what of them is refused.
#include "headrace/bid_codec.hpp"

#include <algorithm>

#include "field_checks.hpp"

namespace headrace {
namespace {

constexpr uint32_t varint_field(uint32_t field) { return wire_key(field, WireType::varint); }
constexpr uint32_t bytes_field(uint32_t field) { return wire_key(field, WireType::bytes); }

bool is_capitals(std::string_view text, size_t size) {
    return text.size() == size && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

}  // namespace

uint64_t hash_text(std::string_view text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    // the finish of SplitMix64: ids that differ in their last digit must differ everywhere
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    return hash ^ (hash >> 31);
}

BidCalls::BidCalls(BidKind kind, const std::vector<std::string_view>& bodies) : kind_(kind) {
    size_t size = 0;
    for (std::string_view body : bodies) size += body.size();
    blob_.reserve(size);  // so that no view is left behind
    bodies_.reserve(bodies.size());
    for (std::string_view body : bodies) {
        size_t start = blob_.size(), number = bodies_.size();
        blob_.append(body);
        bodies_.push_back(Body{requests_.size(), 0, -1});
        if (parse_body(std::string_view(blob_).substr(start))) {
            check_body(number);
        } else {
            refuse(number, BodyError{});
        }
    }
}

bool BidCalls::parse_body(std::string_view body) {
    WireReader reader(body);
    Body& place = bodies_.back();
    Request one = begin(bodies_.size() - 1);
    if (kind_ == BidKind::request) {
        if (!parse_request(body, one)) return false;
    } else {
        while (reader.next()) {
            if (reader.key() != bytes_field(1)) {
                reader.skip();
                continue;
            }
            std::string_view message = reader.bytes();
            if (!reader.ok()) return false;
            // a field that is given twice is one message in two parts
            if (kind_ == BidKind::batch) one = begin(bodies_.size() - 1);
            if (!parse_request(message, one)) return false;
            if (kind_ == BidKind::stream) continue;
            if (++place.size <= max_bid_requests) {
                requests_.push_back(one);
            } else {
                drop(one);
            }
        }
        if (!reader.ok()) return false;
    }
    if (kind_ != BidKind::batch) {
        requests_.push_back(one);
        place.size = 1;
    }
    for (size_t row = place.first; row < requests_.size(); ++row) {
        if (requests_[row].time_ms <= latest_request_ms) latest_ms_ = std::max(latest_ms_, requests_[row].time_ms);
    }
    return true;
}

BidCalls::Request BidCalls::begin(size_t body) const {
    Request request;
    request.impressions = impressions_.size();
    request.categories = categories_.size();
    request.segments = segments_.size();
    request.body = body;
    return request;
}

void BidCalls::drop(const Request& request) {
    impressions_.resize(request.impressions);
    categories_.resize(request.categories);
    segments_.resize(request.segments);
}

bool BidCalls::parse_request(std::string_view message, Request& request) {
    WireReader reader(message);
    std::string_view text;
    while (reader.next()) {
        switch (reader.key()) {
            case bytes_field(1): request.id = reader.text(); break;
            case bytes_field(2):
                text = reader.bytes();
                if (!reader.ok() || !parse_impression(text, request)) return false;
                break;
            case bytes_field(3): request.user_id = reader.text(); break;
            case bytes_field(4): request.anonymous_id = reader.text(); break;
            case bytes_field(5): request.country = reader.text(); break;
            case bytes_field(6):
                text = reader.text();
                if (request.n_categories++ < max_categories) categories_.push_back(text);
                break;
            case varint_field(7): request.time_ms = static_cast<int64_t>(reader.varint()); break;
            case bytes_field(8): request.exchange = reader.text(); break;
            case varint_field(9): request.auction_type = static_cast<int32_t>(reader.varint()); break;
            case bytes_field(10): request.currency = reader.text(); break;
            case bytes_field(11):
                text = reader.text();
                if (request.n_segments++ < max_segments) segments_.push_back(text);
                break;
            case varint_field(12): request.tmax_ms = static_cast<uint32_t>(reader.varint()); break;
            default: reader.skip();
        }
    }
    return reader.ok();
}

bool BidCalls::parse_impression(std::string_view message, Request& request) {
    WireReader reader(message);
    Impression impression;
    while (reader.next()) {
        switch (reader.key()) {
            case bytes_field(1): impression.id = reader.text(); break;
            case varint_field(2): impression.floor_cpm = static_cast<int64_t>(reader.varint()); break;
            case bytes_field(3): impression.placement = reader.text(); break;
            default: reader.skip();
        }
    }
    if (request.n_impressions++ < max_impressions) impressions_.push_back(impression);
    return reader.ok();
}

void BidCalls::check_body(size_t body) {
    Body& place = bodies_[body];
    BodyError error;
    if (kind_ == BidKind::batch && !check_count(place.size, 1, max_bid_requests, "requests", error)) {
        error.hint = "split the batch";
        refuse(body, std::move(error));
        return;
    }
    for (size_t row = 0; row < place.size; ++row) {
        const Request& request = requests_[place.first + row];
        if (check(request, error)) continue;
        if (kind_ == BidKind::batch) error.position = static_cast<int64_t>(row);
        if (request.id.size() <= 128) error.bid_request_id = request.id;
        refuse(body, std::move(error));
        return;
    }
}

void BidCalls::refuse(size_t body, BodyError error) {
    error.body = body;
    if (bodies_[body].error < 0) {
        bodies_[body].error = static_cast<int64_t>(errors_.size());
        errors_.push_back(std::move(error));
    } else {
        errors_[static_cast<size_t>(bodies_[body].error)] = std::move(error);
    }
}

bool BidCalls::check(const Request& request, BodyError& error) const {
    if (!check_text(request.id, 128, false, "bid_request_id", error)) return false;
    if (!check_text(request.user_id, 256, true, "user_id", error)) return false;
    if (!check_text(request.anonymous_id, 256, true, "anonymous_id", error)) return false;
    if (!check_text(request.exchange, max_word_bytes, true, "exchange", error)) return false;
    if (!request.user_id.empty() && !request.anonymous_id.empty()) {
        return wrong(error, "anonymous_id", request.anonymous_id, "nothing beside user_id", "send one of the two");
    }
    if (has_nul(request.user_id) || has_nul(request.anonymous_id)) {
        return wrong(error, "user_id and anonymous_id", std::string_view("a NUL character"), "text without it");
    }
    if (!request.country.empty() && !is_capitals(request.country, 2)) {
        return wrong(error, "country", request.country, "ISO 3166-1 alpha-2 in upper case, or nothing");
    }
    if (!request.currency.empty() && !is_capitals(request.currency, 3)) {
        return wrong(error, "currency", request.currency, "an ISO 4217 code of three capitals, or nothing for USD");
    }
    if (request.auction_type < 0 || request.auction_type > 2) {
        return wrong(error, "auction_type", request.auction_type, "a value of the contract's list");
    }
    return check_words(request, error) && check_impressions(request, error);
}

bool BidCalls::check_words(const Request& request, BodyError& error) const {
    if (!check_count(request.n_categories, 0, max_categories, "categories", error)) return false;
    for (size_t i = 0; i < request.n_categories; ++i) {
        if (!check_text(categories_[request.categories + i], max_word_bytes, true, "categories", error)) return false;
    }
    if (!check_count(request.n_segments, 0, max_segments, "user_segments", error)) return false;
    for (size_t i = 0; i < request.n_segments; ++i) {
        if (!check_text(segments_[request.segments + i], max_word_bytes, true, "user_segments", error)) return false;
    }
    return true;
}

bool BidCalls::check_impressions(const Request& request, BodyError& error) const {
    size_t n = request.n_impressions;
    if (!check_count(n, 1, max_impressions, "impressions", error)) return false;
    const Impression* first = &impressions_[request.impressions];
    for (size_t i = 0; i < n; ++i) {
        if (!check_text(first[i].id, max_word_bytes, false, "impression_id", error)) return false;
        if (!check_size(first[i].placement.size(), max_word_bytes, "placement", error)) return false;
        if (!check_micros(first[i].floor_cpm, "floor_cpm_micros", error)) return false;
    }
    for (size_t i = 1; i < n; ++i) {
        for (size_t j = 0; j < i; ++j) {
            if (first[i].id == first[j].id) {
                return wrong(error, "impression_id", std::string_view("one twice"), "each once in a request");
            }
        }
    }
    return true;
}

void BidCalls::judge(int64_t now_ms, int64_t earliest_ms, int64_t latest_ms) {
    std::vector<Request> kept;
    kept.reserve(requests_.size());
    for (size_t number = 0; number < bodies_.size(); ++number) {
        Body& body = bodies_[number];
        const BodyError* known = body.error < 0 ? nullptr : &errors_[static_cast<size_t>(body.error)];
        // requests behind a wrong one are not looked at; of the wrong one its time is checked last
        size_t n = !known ? body.size : known->position >= 0 ? static_cast<size_t>(known->position) : 0;
        size_t first = kept.size();
        for (size_t row = 0; row < n; ++row) {
            Request request = requests_[body.first + row];
            int64_t time_ms = request.time_ms;
            if (time_ms && (time_ms < earliest_ms || time_ms > std::min(latest_ms, latest_request_ms))) {
                BodyError error;
                wrong(error, "time_ms", time_ms,
                      std::to_string(earliest_ms) + " to " + std::to_string(latest_ms) + ", ms since 1970 UTC",
                      "zero is now; check the sender's clock, or replay a past day with server.clock = requests");
                if (kind_ == BidKind::batch) error.position = static_cast<int64_t>(row);
                error.bid_request_id = request.id;
                refuse(number, std::move(error));
                break;
            }
            if (!time_ms) request.time_ms = now_ms;
            kept.push_back(request);
        }
        if (body.error >= 0) kept.resize(first);
        body.first = first;
        body.size = kept.size() - first;
    }
    requests_ = std::move(kept);
}

size_t BidCalls::n_impressions() const {
    size_t n = 0;
    for (const Request& request : requests_) n += request.n_impressions;
    return n;
}

void BidCalls::terms(const BidBoard& board, std::vector<int32_t>& indptr, std::vector<int32_t>& terms,
                     std::vector<int32_t>& currency_rows) const {
    auto add = [&](int dimension, std::string_view word) {
        int32_t row = board.vocabularies[dimension].find(word, -1);
        if (row >= 0) terms.push_back(row);
    };
    auto close = [&] { indptr.push_back(static_cast<int32_t>(terms.size())); };
    indptr.reserve(3 * requests_.size() + 1);
    currency_rows.reserve(requests_.size());
    int32_t no_currency = static_cast<int32_t>(board.currencies.size());
    close();
    for (const Request& request : requests_) {
        add(0, request.country);
        close();
        for (size_t i = 0; i < request.n_categories; ++i) add(1, categories_[request.categories + i]);
        close();
        for (size_t i = 0; i < request.n_segments; ++i) add(2, segments_[request.segments + i]);
        close();
        std::string_view currency = request.currency.empty() ? "USD" : request.currency;
        currency_rows.push_back(board.currencies.find(currency, no_currency));
    }
}

}  // namespace headrace
