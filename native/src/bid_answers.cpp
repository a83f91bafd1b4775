// What was decided: from columns to bytes, and the tokens in such bytes.
#include <stdexcept>

#include "headrace/bid_codec.hpp"

namespace headrace {
namespace {

void put_text(WireWriter& writer, uint32_t field, std::string_view text) {
    if (!text.empty()) writer.text(field, text);
}

void put_number(WireWriter& writer, uint32_t field, int64_t number) {
    if (number) writer.number(field, static_cast<uint64_t>(number));
}

void check_columns(const BidBoard& board, const BidColumns& columns, size_t n) {
    if (columns.n != n) throw std::invalid_argument("as many decisions as impressions are needed");
    int64_t n_lines = static_cast<int64_t>(board.lines.size());
    for (size_t i = 0; i < n; ++i) {
        int32_t line = columns.lines[i], position = columns.positions[i];
        if (line < 0) continue;
        if (line >= n_lines || position < 0 ||
            position >= board.item_indptr[static_cast<size_t>(line) + 1] - board.item_indptr[static_cast<size_t>(line)]) {
            throw std::invalid_argument("a decision lies beyond the board");
        }
    }
}

void put_bid(std::string& out, const BidBoard& board, const BidColumns& columns, size_t row) {
    WireWriter writer(out);
    auto line = static_cast<size_t>(columns.lines[row]);
    put_number(writer, 2, columns.bid_cpm[row]);
    out.append(board.lines.at(line));
    put_text(writer, 6, board.items.at(static_cast<size_t>(board.item_indptr[line] + columns.positions[row])));
    put_text(writer, 7, columns.tokens[row]);
    put_number(writer, 9, columns.value_cpm[row]);
    uint64_t bits;
    std::memcpy(&bits, &columns.probability[row], sizeof bits);
    if (bits) writer.float64(10, columns.probability[row]);
}

bool find_tokens(std::string_view message, const uint32_t* path, std::vector<std::string_view>& tokens) {
    WireReader reader(message);
    while (reader.next()) {
        if (reader.key() != wire_key(*path, WireType::bytes)) {
            reader.skip();
            continue;
        }
        std::string_view inner = reader.bytes();
        if (!reader.ok()) break;
        if (path[1]) {
            if (!find_tokens(inner, path + 1, tokens)) return false;
        } else if (!inner.empty()) {
            tokens.push_back(inner);
        }
    }
    return reader.ok();
}

}  // namespace

void BidBoard::add_line(std::string_view campaign_id, std::string_view line_item_id, std::string_view advertiser_id) {
    std::string fields;
    WireWriter writer(fields);
    put_text(writer, 3, campaign_id);
    put_text(writer, 4, line_item_id);
    put_text(writer, 5, advertiser_id);
    lines.add(fields);
}

template <typename Write>
std::vector<std::string> BidCalls::write(std::string_view version, Write&& write_impression) const {
    std::vector<std::string> answers(bodies_.size());
    std::string bid, response;
    size_t row = 0;
    for (const Request& request : requests_) {
        response.clear();
        WireWriter writer(response);
        put_text(writer, 1, request.id);
        for (size_t i = 0; i < request.n_impressions; ++i, ++row) {
            bid.clear();
            WireWriter inner(bid);
            put_text(inner, 1, impression(request, i).id);
            write_impression(bid, row);
            writer.text(2, bid);
        }
        put_text(writer, 3, version);
        std::string& answer = answers[request.body];
        if (kind_ == BidKind::request) {
            answer = response;
            continue;
        }
        WireWriter outer(answer);
        if (kind_ == BidKind::stream) put_text(outer, 1, request.id);
        outer.text(kind_ == BidKind::stream ? 2 : 1, response);
    }
    return answers;
}

std::vector<std::string> BidCalls::answers(const BidBoard& board, const BidColumns& columns,
                                           std::string_view version) const {
    check_columns(board, columns, n_impressions());
    return write(version, [&](std::string& out, size_t row) {
        if (columns.lines[row] >= 0) {
            put_bid(out, board, columns, row);
        } else {
            WireWriter writer(out);
            put_number(writer, 8, columns.reasons[row]);
        }
    });
}

std::vector<std::string> BidCalls::refusals(int8_t reason, std::string_view version) const {
    return write(version, [&](std::string& out, size_t) {
        WireWriter writer(out);
        put_number(writer, 8, reason);
    });
}

std::vector<std::string_view> tokens_of(BidKind kind, const std::vector<std::string_view>& answers) {
    // from the answer down to ImpressionBid.token
    static constexpr uint32_t of_response[] = {2, 7, 0}, of_batch[] = {1, 2, 7, 0}, of_stream[] = {2, 2, 7, 0};
    const uint32_t* path = kind == BidKind::request ? of_response : kind == BidKind::batch ? of_batch : of_stream;
    std::vector<std::string_view> tokens;
    for (std::string_view answer : answers) {
        size_t before = tokens.size();
        if (!find_tokens(answer, path, tokens)) tokens.resize(before);
    }
    return tokens;
}

}  // namespace headrace
