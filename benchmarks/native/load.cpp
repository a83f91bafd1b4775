// Load for gRPC servers from one core: unary calls over HTTP/2, closed loop (calls in flight) or open loop (a rate).
//
//   load --port P --path /pkg.Service/Method --bodies FILE [--host A] [--connections C] [--in-flight N | --rate R]
//        [--seconds S] [--warm S] [--timeout-ms T] [--header NAME:VALUE]... [--mark HEX] [--seed N]
//
// FILE holds messages, each behind its length (u32, little-endian); they are sent in turn. In an open loop calls arrive
// by a Poisson process whether or not earlier ones are answered, and their latency counts from that arrival; a call that
// finds no free stream waits in the client and is given up at its deadline, as gRPC's own clients do. Answers that hold
// the bytes HEX are counted apart. Prints one line of JSON.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Micros = int64_t;

Micros now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000LL + time.tv_nsec / 1000;
}

struct Options {
    std::string host = "127.0.0.1", path, bodies, mark;
    int port = 0, connections = 4, in_flight = 32, seed = 1;
    double rate = 0, seconds = 3, warm = 0.5, timeout_ms = 0;
    std::vector<std::pair<std::string, std::string>> headers;
};

struct Result {
    std::vector<Micros> latencies;  // of calls answered OK in time
    std::map<std::string, int64_t> statuses;
    int64_t offered = 0, late = 0, given_up = 0, marked = 0, bytes = 0, broken = 0;
};

struct Stream {
    Micros since = 0, deadline = 0;
    std::string status, answer;
    const std::string* body = nullptr;
    size_t sent = 0;
    bool counted = false;
};

class Load;

struct Connection {
    Load* load = nullptr;
    int fd = -1;
    nghttp2_session* session = nullptr;
    std::string unsent;
    int open = 0;
};

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why + ": " + std::strerror(errno)); }

class Load {
  public:
    explicit Load(Options options) : options_(std::move(options)), random_(options_.seed) {
        read_bodies();
        for (int i = 0; i < options_.connections; ++i) connections_.push_back(connect());
    }

    ~Load() {
        for (auto& connection : connections_) {
            nghttp2_session_del(connection->session);
            close(connection->fd);
        }
    }

    Result run() {
        Micros start = now();
        counting_from_ = start + static_cast<Micros>(options_.warm * 1e6);
        end_ = counting_from_ + static_cast<Micros>(options_.seconds * 1e6);
        next_arrival_ = static_cast<double>(start);
        if (options_.rate == 0) {
            for (int i = 0; i < options_.in_flight; ++i) begin(*connections_[i % connections_.size()], start);
        }
        Micros give_up = end_ + static_cast<Micros>(std::max(options_.timeout_ms, 2000.0) * 1000);
        while (now() < give_up && (now() < end_ || open_ > 0)) {
            if (options_.rate > 0) arrivals();
            turn();
        }
        result_.broken += open_;
        return result_;
    }

    // One answer has ended; in a closed loop the next call follows on the same connection.
    void ended(Connection& connection, int32_t id, uint32_t error) {
        auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(connection.session, id));
        if (!stream) return;
        std::unique_ptr<Stream> owned(stream);
        Micros at = now();
        --open_, --connection.open;
        if (stream->counted) account(*stream, at, error);
        if (options_.rate == 0 && at < end_) begin(connection, at);
    }

  private:
    void read_bodies() {
        std::ifstream file(options_.bodies, std::ios::binary);
        uint32_t size = 0;
        while (file.read(reinterpret_cast<char*>(&size), sizeof size)) {
            uint32_t wire = htonl(size);
            std::string body(5 + size, '\0');
            std::memcpy(&body[1], &wire, sizeof wire);
            file.read(&body[5], size);
            bodies_.push_back(std::move(body));
        }
        if (bodies_.empty()) fail("no messages in " + options_.bodies);
    }

    std::unique_ptr<Connection> connect();

    void account(const Stream& stream, Micros at, uint32_t error) {
        if (error) {
            ++result_.statuses["reset " + std::string(nghttp2_http2_strerror(error))];
            return;
        }
        ++result_.statuses[stream.status];
        if (stream.status != "0") return;
        result_.bytes += static_cast<int64_t>(stream.answer.size());
        if (stream.deadline && at > stream.deadline) {
            ++result_.late;
            return;
        }
        if (!options_.mark.empty() && stream.answer.rfind(options_.mark) != std::string::npos) ++result_.marked;
        result_.latencies.push_back(at - stream.since);
    }

    void arrivals() {
        Micros at = now();
        while (next_arrival_ <= static_cast<double>(at) && next_arrival_ < static_cast<double>(end_)) {
            waiting_.push_back(static_cast<Micros>(next_arrival_));
            if (next_arrival_ >= static_cast<double>(counting_from_)) ++result_.offered;
            next_arrival_ += std::exponential_distribution<double>(options_.rate)(random_) * 1e6;
        }
        while (!waiting_.empty()) {
            Micros since = waiting_.front();
            if (options_.timeout_ms > 0 && since + static_cast<Micros>(options_.timeout_ms * 1000) <= at) {
                if (since >= counting_from_) ++result_.given_up;
                waiting_.pop_front();
                continue;
            }
            Connection* free = pick();
            if (!free) return;
            waiting_.pop_front();
            begin(*free, since);
        }
    }

    Connection* pick() {
        for (size_t i = 0; i < connections_.size(); ++i) {
            Connection& connection = *connections_[turn_++ % connections_.size()];
            uint32_t room = nghttp2_session_get_remote_settings(connection.session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
            if (connection.open < static_cast<int>(std::min(room, 100'000u))) return &connection;
        }
        return nullptr;
    }

    void begin(Connection& connection, Micros since);
    void turn();
    void send_waiting(Connection& connection);
    void receive(Connection& connection);

    Options options_;
    std::mt19937_64 random_;
    std::vector<std::string> bodies_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::deque<Micros> waiting_;
    Result result_;
    size_t next_body_ = 0, turn_ = 0;
    int open_ = 0;
    Micros counting_from_ = 0, end_ = 0;
    double next_arrival_ = 0;
};

int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t size,
              const uint8_t* value, size_t value_size, uint8_t, void*) {
    static const std::string status = "grpc-status";
    if (size == status.size() && !std::memcmp(name, status.data(), size)) {
        auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
        if (stream) stream->status.assign(reinterpret_cast<const char*>(value), value_size);
    }
    return 0;
}

int on_chunk(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void*) {
    auto* stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
    if (stream) stream->answer.append(reinterpret_cast<const char*>(data), size);
    return 0;
}

int on_close(nghttp2_session*, int32_t id, uint32_t error, void* user) {
    auto* connection = static_cast<Connection*>(user);
    connection->load->ended(*connection, id, error);
    return 0;
}

ssize_t read_body(nghttp2_session*, int32_t, uint8_t* out, size_t room, uint32_t* flags, nghttp2_data_source* source,
                  void*) {
    auto* stream = static_cast<Stream*>(source->ptr);
    size_t size = std::min(room, stream->body->size() - stream->sent);
    std::memcpy(out, stream->body->data() + stream->sent, size);
    stream->sent += size;
    if (stream->sent == stream->body->size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
}

nghttp2_nv pair_of(const std::string& name, const std::string& value) {
    auto bytes = [](const std::string& text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); };
    return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

std::unique_ptr<Connection> Load::connect() {
    auto connection = std::make_unique<Connection>();
    connection->load = this;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options_.port));
    inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr);
    if (::connect(connection->fd, reinterpret_cast<sockaddr*>(&address), sizeof address)) fail("cannot connect");
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_client_new(&connection->session, callbacks, connection.get());
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24};
    nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, &window, 1);
    nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, 1 << 28);
    return connection;
}

void Load::begin(Connection& connection, Micros since) {
    static const std::string method = ":method", post = "POST", scheme = ":scheme", http = "http", path = ":path",
                             authority = ":authority", type = "content-type", grpc = "application/grpc", te = "te",
                             trailers = "trailers", timeout = "grpc-timeout";
    auto stream = std::make_unique<Stream>();
    stream->since = since;
    stream->counted = since >= counting_from_;
    stream->body = &bodies_[next_body_++ % bodies_.size()];
    std::vector<nghttp2_nv> headers = {pair_of(method, post),  pair_of(scheme, http),
                                       pair_of(path, options_.path), pair_of(authority, options_.host),
                                       pair_of(type, grpc),    pair_of(te, trailers)};
    std::string left;
    if (options_.timeout_ms > 0) {
        stream->deadline = since + static_cast<Micros>(options_.timeout_ms * 1000);
        left = std::to_string(std::max<Micros>(stream->deadline - now(), 1)) + "u";
        headers.push_back(pair_of(timeout, left));
    }
    for (auto& [name, value] : options_.headers) headers.push_back(pair_of(name, value));
    nghttp2_data_provider provider{};
    provider.source.ptr = stream.get();
    provider.read_callback = read_body;
    if (nghttp2_submit_request(connection.session, nullptr, headers.data(), headers.size(), &provider, stream.get()) < 0) {
        ++result_.broken;
        return;
    }
    stream.release();
    ++open_, ++connection.open;
}

void Load::send_waiting(Connection& connection) {
    const uint8_t* data = nullptr;
    while (connection.unsent.size() < (1 << 18)) {
        ssize_t size = nghttp2_session_mem_send(connection.session, &data);
        if (size <= 0) break;
        connection.unsent.append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    if (connection.unsent.empty()) return;
    ssize_t sent = send(connection.fd, connection.unsent.data(), connection.unsent.size(), MSG_NOSIGNAL);
    if (sent > 0) connection.unsent.erase(0, static_cast<size_t>(sent));
    else if (sent < 0 && errno != EAGAIN) fail("the server went away");
}

void Load::receive(Connection& connection) {
    static std::vector<uint8_t> buffer(1 << 18);
    ssize_t size = recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (size == 0) fail("the server closed a connection");
    if (size < 0 && errno != EAGAIN) fail("the server went away");
    if (size > 0 && nghttp2_session_mem_recv(connection.session, buffer.data(), static_cast<size_t>(size)) < 0)
        fail("the server broke the protocol");
}

void Load::turn() {
    std::vector<pollfd> polled;
    for (auto& connection : connections_) {
        send_waiting(*connection);
        short events = connection->unsent.empty() ? POLLIN : POLLIN | POLLOUT;
        polled.push_back({connection->fd, events, 0});
    }
    // an open loop must not oversleep the next arrival, and has a core of its own
    poll(polled.data(), polled.size(), options_.rate > 0 ? 0 : 20);
    for (size_t i = 0; i < polled.size(); ++i) {
        if (polled[i].revents) receive(*connections_[i]);
    }
}

std::string from_hex(const std::string& hex) {
    std::string bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return bytes;
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string name = argv[i], value = argv[i + 1];
        if (name == "--host") options.host = value;
        else if (name == "--port") options.port = std::stoi(value);
        else if (name == "--path") options.path = value;
        else if (name == "--bodies") options.bodies = value;
        else if (name == "--connections") options.connections = std::stoi(value);
        else if (name == "--in-flight") options.in_flight = std::stoi(value);
        else if (name == "--rate") options.rate = std::stod(value);
        else if (name == "--seconds") options.seconds = std::stod(value);
        else if (name == "--warm") options.warm = std::stod(value);
        else if (name == "--timeout-ms") options.timeout_ms = std::stod(value);
        else if (name == "--seed") options.seed = std::stoi(value);
        else if (name == "--mark") options.mark = from_hex(value);
        else if (name == "--header") {
            size_t colon = value.find(':', 1);
            options.headers.emplace_back(value.substr(0, colon), value.substr(colon + 1));
        } else throw std::runtime_error("unknown option " + name);
    }
    return options;
}

Micros quantile(std::vector<Micros>& sorted, double q) {
    return sorted.empty() ? 0 : sorted[std::min(sorted.size() - 1, static_cast<size_t>(q * static_cast<double>(sorted.size())))];
}

}  // namespace

int main(int argc, char** argv) try {
    Options options = parse(argc, argv);
    Result result = Load(options).run();
    auto& times = result.latencies;
    std::sort(times.begin(), times.end());
    std::printf("{\"answered\": %zu, \"per_s\": %.1f, \"offered\": %lld, \"late\": %lld, \"given_up\": %lld, \"marked\": %lld, "
                "\"broken\": %lld, \"bytes\": %lld, \"p50_us\": %lld, \"p90_us\": %lld, \"p99_us\": %lld, \"max_us\": %lld, "
                "\"statuses\": {",
                times.size(), static_cast<double>(times.size()) / options.seconds, static_cast<long long>(result.offered),
                static_cast<long long>(result.late), static_cast<long long>(result.given_up),
                static_cast<long long>(result.marked), static_cast<long long>(result.broken),
                static_cast<long long>(result.bytes), static_cast<long long>(quantile(times, .5)),
                static_cast<long long>(quantile(times, .9)), static_cast<long long>(quantile(times, .99)),
                static_cast<long long>(times.empty() ? 0 : times.back()));
    const char* comma = "";
    for (auto& [status, count] : result.statuses) {
        std::printf("%s\"%s\": %lld", comma, status.c_str(), static_cast<long long>(count));
        comma = ", ";
    }
    std::printf("}}\n");
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "load: %s\n", error.what());
    return 1;
}
