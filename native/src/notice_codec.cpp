// Notices: from bytes to columns, and their outcomes back.
#include <algorithm>
#include <stdexcept>

#include "field_checks.hpp"
#include "headrace/bid_codec.hpp"

namespace headrace {

NoticeCalls::NoticeCalls(const std::vector<std::string_view>& bodies) {
    size_t size = 0;
    for (std::string_view body : bodies) size += body.size();
    blob_.reserve(size);  // so that no view is left behind
    for (std::string_view body : bodies) {
        size_t start = blob_.size(), first = types_.size(), n = 0;
        blob_.append(body);
        BodyError error;
        bool is_message = parse_body(std::string_view(blob_).substr(start), error, n);
        if (!is_message) {
            error = BodyError{};
        } else if (!n || n > max_notices) {
            check_count(n, 1, max_notices, "notices", error);
        }
        bool refused = !is_message || !error.what.empty();
        if (refused) {
            error.body = sizes_.size();
            errors_.push_back(std::move(error));
            types_.resize(first);
            tokens_.resize(first);
            prices_.resize(first);
            minimums_.resize(first);
        }
        sizes_.push_back(refused ? 0 : n);
    }
}

bool NoticeCalls::parse_body(std::string_view body, BodyError& error, size_t& n) {
    WireReader reader(body);
    while (reader.next()) {
        if (reader.key() != wire_key(1, WireType::bytes)) {
            reader.skip();
            continue;
        }
        std::string_view message = reader.bytes();
        if (!reader.ok() || !parse_notice(message, error, n < max_notices)) return false;
        ++n;
    }
    return reader.ok();
}

bool NoticeCalls::parse_notice(std::string_view message, BodyError& error, bool keep) {
    WireReader reader(message);
    int32_t type = 0;
    std::string_view token;
    int64_t price = 0, minimum = 0;
    bool priced = false;
    while (reader.next()) {
        switch (reader.key()) {
            case wire_key(1, WireType::varint): type = static_cast<int32_t>(reader.varint()); break;
            case wire_key(2, WireType::bytes): token = reader.text(); break;
            case wire_key(3, WireType::varint):
                price = static_cast<int64_t>(reader.varint());
                priced = true;
                break;
            case wire_key(4, WireType::varint): minimum = static_cast<int64_t>(reader.varint()); break;
            default: reader.skip();
        }
    }
    if (!reader.ok()) return false;
    if (!keep || !error.what.empty()) return true;  // refused by now; only whether it is a message still counts
    if (type < 1 || type > 3) {
        wrong(error, "type", type, "WIN, BILLING or LOSS");
    } else if (check_text(token, max_token_bytes, false, "token", error) &&
               (!priced || check_micros(price, "price_cpm_micros", error)) &&
               check_micros(minimum, "minimum_to_win_cpm_micros", error)) {
        types_.push_back(static_cast<int8_t>(type));
        tokens_.push_back(token);
        prices_.push_back(priced ? price : -1);
        minimums_.push_back(minimum ? minimum : -1);
    }
    return true;
}

std::vector<std::string> NoticeCalls::answers(const int8_t* outcomes, size_t n) const {
    if (n != types_.size()) throw std::invalid_argument("one outcome a notice is needed");
    if (std::any_of(outcomes, outcomes + n, [](int8_t outcome) { return outcome < 0; })) {
        throw std::invalid_argument("an outcome is none of the contract's");
    }
    std::vector<std::string> answers(sizes_.size());
    for (size_t body = 0; body < sizes_.size(); ++body) {
        if (!sizes_[body]) continue;
        // each outcome is one byte of the packed field
        WireWriter(answers[body]).text(1, std::string_view(reinterpret_cast<const char*>(outcomes), sizes_[body]));
        outcomes += sizes_[body];
    }
    return answers;
}

}  // namespace headrace
