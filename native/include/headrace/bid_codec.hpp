// Bid requests off the wire to columns, with every limit checked; decisions and outcomes back to answers.
// Messages are those of bidder.proto. Only what was read from a body is ever believed of it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "headrace/wire.hpp"

namespace headrace {

constexpr size_t max_bid_requests = 256;
constexpr size_t max_impressions = 64;
constexpr size_t max_categories = 16;
constexpr size_t max_segments = 64;
constexpr size_t max_notices = 1000;
constexpr size_t max_word_bytes = 64;
constexpr size_t max_token_bytes = 256;
constexpr int64_t max_micros = 10'000'000'000'000'000;
// The last time of a request whose budget day has a morrow.
constexpr int64_t latest_request_ms = 253'402'300'799'999 - 2 * 86'400'000;

// Which message a body is: BidRequest, BidBatchRequest or BidStreamRequest.
enum class BidKind : int32_t { request = 0, batch = 1, stream = 2 };

// Why a body is refused: what was got in a field and what was expected. An empty `what`: it is not even a message.
struct BodyError {
    size_t body = 0;
    int64_t position = -1;       // of the request within its batch
    std::string bid_request_id;  // as far as it is known
    std::string what;
    std::string text;    // what was got, as text ...
    int64_t number = 0;  // ... or as a number
    bool is_number = false;
    std::string expected;
    std::string hint;
};

// Texts in a row.
class TextColumn {
  public:
    void add(std::string_view text) {
        blob_.append(text);
        ends_.push_back(blob_.size());
    }
    size_t size() const { return ends_.size(); }
    std::string_view at(size_t row) const {
        size_t start = row ? ends_[row - 1] : 0;
        return std::string_view(blob_).substr(start, ends_[row] - start);
    }

  private:
    std::string blob_;
    std::vector<size_t> ends_;
};

// Words by number.
class WordRows {
  public:
    WordRows() = default;
    WordRows(const WordRows&) = delete;
    WordRows& operator=(const WordRows&) = delete;
    WordRows(WordRows&&) = default;  // the words stay where they are

    void add(std::string_view word, int32_t row) {
        words_.emplace_back(word);
        rows_.emplace(words_.back(), row);
    }
    int32_t find(std::string_view word, int32_t missing) const {
        auto found = rows_.find(word);
        return found == rows_.end() ? missing : found->second;
    }
    size_t size() const { return rows_.size(); }

  private:
    std::deque<std::string> words_;  // which the keys are views of
    std::unordered_map<std::string_view, int32_t> rows_;
};

// What the codec needs of a board of m line items: its words by number, and the ids that answers name.
struct BidBoard {
    WordRows vocabularies[3];  // country, category, segment
    WordRows currencies;
    TextColumn lines;  // fields 3 to 5 of ImpressionBid of each line item: campaign, line item and advertiser
    TextColumn items;
    std::vector<int64_t> item_indptr;  // (m + 1,) line item l promotes items[item_indptr[l]:item_indptr[l + 1]]

    void add_line(std::string_view campaign_id, std::string_view line_item_id, std::string_view advertiser_id);
};

// Columns of what was decided for i impressions; as of headrace.bidding.requests.Decisions.
struct BidColumns {
    size_t n = 0;
    const int8_t* reasons = nullptr;
    const int64_t* bid_cpm = nullptr;
    const int32_t* lines = nullptr;
    const int32_t* positions = nullptr;
    const int64_t* value_cpm = nullptr;
    const double* probability = nullptr;
    const std::string_view* tokens = nullptr;  // empty where there is none
};

// The bid requests of some calls. After `judge`, requests and impressions are those of the calls that are answered.
class BidCalls {
  public:
    struct Impression {
        std::string_view id;
        int64_t floor_cpm = 0;
        std::string_view placement;
    };
    struct Request {
        std::string_view id, user_id, anonymous_id, country, exchange, currency;
        int64_t time_ms = 0;
        int32_t auction_type = 0;
        uint32_t tmax_ms = 0;
        // counted in full, kept up to their limits; the first one's place in the columns of all requests
        size_t n_impressions = 0, n_categories = 0, n_segments = 0;
        size_t impressions = 0, categories = 0, segments = 0;
        size_t body = 0;
    };

    BidCalls(BidKind kind, const std::vector<std::string_view>& bodies);
    BidCalls(const BidCalls&) = delete;
    BidCalls& operator=(const BidCalls&) = delete;

    // The latest time that any request names, no later than latest_request_ms; 0 when none does.
    int64_t latest_ms() const { return latest_ms_; }
    // Refuses requests whose time is not within the bounds, and takes `now_ms` for those that name none. Once only.
    void judge(int64_t now_ms, int64_t earliest_ms, int64_t latest_ms);

    const std::vector<BodyError>& errors() const { return errors_; }
    const std::vector<Request>& requests() const { return requests_; }
    const Impression& impression(const Request& request, size_t at) const { return impressions_[request.impressions + at]; }
    size_t n_impressions() const;

    // Writes (3 n + 1,) indptr, terms and (n,) currency rows of the requests, in the numbers of a board.
    void terms(const BidBoard& board, std::vector<int32_t>& indptr, std::vector<int32_t>& terms,
               std::vector<int32_t>& currency_rows) const;

    // One answer a body, empty for refused ones. Throws std::invalid_argument when the columns do not fit.
    std::vector<std::string> answers(const BidBoard& board, const BidColumns& columns, std::string_view version) const;
    // The same with one reason for every impression.
    std::vector<std::string> refusals(int8_t reason, std::string_view version) const;

  private:
    struct Body {
        size_t first = 0, size = 0;  // its requests
        int64_t error = -1;          // its row of errors
    };
    bool parse_body(std::string_view body);
    bool parse_request(std::string_view message, Request& request);
    bool parse_impression(std::string_view message, Request& request);
    Request begin(size_t body) const;
    void drop(const Request& request);
    void check_body(size_t body);
    bool check(const Request& request, BodyError& error) const;
    bool check_words(const Request& request, BodyError& error) const;
    bool check_impressions(const Request& request, BodyError& error) const;
    void refuse(size_t body, BodyError error);
    template <typename Write>
    std::vector<std::string> write(std::string_view version, Write&& write_impression) const;

    BidKind kind_;
    std::string blob_;  // the bodies; all views are into it
    std::vector<Body> bodies_;
    std::vector<Request> requests_;
    std::vector<Impression> impressions_;
    std::vector<std::string_view> categories_, segments_;
    std::vector<BodyError> errors_;
    int64_t latest_ms_ = 0;
};

// The notices of some calls of Notify.
class NoticeCalls {
  public:
    explicit NoticeCalls(const std::vector<std::string_view>& bodies);
    NoticeCalls(const NoticeCalls&) = delete;
    NoticeCalls& operator=(const NoticeCalls&) = delete;

    const std::vector<BodyError>& errors() const { return errors_; }
    const std::vector<int8_t>& types() const { return types_; }
    const std::vector<std::string_view>& tokens() const { return tokens_; }
    // CPM micros; -1 where none is named.
    const std::vector<int64_t>& prices_cpm() const { return prices_; }
    // The lowest bids that would have won; -1 where not told.
    const std::vector<int64_t>& minimums_cpm() const { return minimums_; }
    // One answer a body, empty for refused ones. Throws std::invalid_argument unless there is one outcome a notice.
    std::vector<std::string> answers(const int8_t* outcomes, size_t n) const;

  private:
    bool parse_body(std::string_view body, BodyError& error, size_t& n);
    bool parse_notice(std::string_view message, BodyError& error, bool keep);

    std::string blob_;
    std::vector<size_t> sizes_;  // notices of each body
    std::vector<bool> refused_;
    std::vector<int8_t> types_;
    std::vector<std::string_view> tokens_;
    std::vector<int64_t> prices_, minimums_;
    std::vector<BodyError> errors_;
};

// A number of a text, the same on every machine: FNV-1a of its bytes, mixed.
uint64_t hash_text(std::string_view text);

// Tokens in answers to requests of a kind; what is no such answer has none.
std::vector<std::string_view> tokens_of(BidKind kind, const std::vector<std::string_view>& answers);

}  // namespace headrace
