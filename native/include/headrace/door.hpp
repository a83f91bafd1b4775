// A gRPC server that hands over calls as bytes, in batches, and takes their answers from any thread.
//
// It stands on gRPC's core (grpc/grpc.h), below the C++ wrappers: a unary call then costs one event when it is there,
// one when it is answered and one when it is over, and no thread but ours polls.
#pragma once

#include <grpc/grpc.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "headrace/inbox.hpp"

namespace headrace {

struct DoorSettings {
    std::string listen;
    std::vector<std::string> methods;        // unary, answered by workers
    std::vector<std::string> streams;        // bidirectional, answered by workers
    std::vector<std::string> aside_methods;  // unary, answered aside: no cap counts them
    std::vector<std::string> aside_streams;  // streams that are answered aside
    int max_message_bytes = 0;
    int max_in_flight = 0;
    int max_stream_messages = 0;
    int compress_above_bytes = 0;  // 0: never
    int64_t max_buffer_bytes = 0;  // of all connections
    int pollers = 1;
    std::vector<std::pair<std::string, int>> options;  // of gRPC, by its own names
};

// Files, PEM; without a certificate nothing is encrypted.
struct DoorCertificates {
    std::string certificate;
    std::string key;
    std::string client_ca;
    bool require_client_certificate = false;
};

// What happened since the start, and what is there now.
struct DoorCounts {
    std::atomic<int64_t> accepted{0}, refused_overload{0}, unknown_methods{0}, malformed{0};
    std::atomic<int64_t> expired_waiting{0}, cancelled_waiting{0}, dropped_replies{0};
    std::atomic<int64_t> in_flight{0}, open_streams{0};
};

// What gRPC's core encrypts with; it must outlive the server.
class Credentials {
   public:
    explicit Credentials(const DoorCertificates& names);
    Credentials(const Credentials&) = delete;
    Credentials& operator=(const Credentials&) = delete;
    ~Credentials();
    grpc_server_credentials* get() const { return credentials_; }

   private:
    std::shared_ptr<void> kept_;
    grpc_server_credentials* credentials_ = nullptr;
};

struct Answer {
    int status = 0;
    std::string message;
    grpc_byte_buffer* body = nullptr;  // given away with the answer
};

class DoorCore;
class Request;

// An operation that gRPC's core completes.
struct Event {
    virtual void done(bool ok) = 0;

   protected:
    ~Event() = default;
};

// One remote call: unary, or a stream of messages. It lives as long as gRPC, the inbox or a worker refers to it.
class Rpc {
   public:
    explicit Rpc(std::shared_ptr<DoorCore> core);
    Rpc(const Rpc&) = delete;
    Rpc& operator=(const Rpc&) = delete;

    void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
    void unref() {
        if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
    }
    // Whether the answer went to the transport; false when the caller had gone.
    virtual bool answer(Request& request, Answer&& answer) = 0;
    // Sends one more answer to a request that stays open, on a stream.
    virtual bool send(grpc_byte_buffer* body) = 0;
    // Ends a stream that all is well with, after what was sent.
    virtual void end() = 0;
    // Whether the caller still waits.
    virtual bool open() = 0;

    std::string peer() const;
    const grpc_metadata_array& metadata() const { return metadata_; }
    // Names in the verified certificate of the caller: alternative names, then the common name.
    std::vector<std::string> identities() const;

    Request* waiting = nullptr;  // the inbox's

   protected:
    virtual ~Rpc();
    void start(const grpc_op* ops, size_t n, Event& event);
    void watch_close(Event& event);
    // Nothing more happens to it: gives up the reference of gRPC's core, and its use of the door.
    void retire();

    std::shared_ptr<DoorCore> core_;
    grpc_call* call_ = nullptr;
    grpc_metadata_array metadata_;
    int cancelled_ = 0;

   private:
    std::atomic<int> refs_{1};
};

// What one answer belongs to: a unary call, or one message of a stream.
class Request {
   public:
    Request(Rpc& rpc, int method, double deadline, grpc_byte_buffer* body);
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    ~Request();

    Rpc& owner() { return rpc_; }

    const int method;  // position in methods, streams, aside_methods, aside_streams, in this order
    const double deadline;
    const double arrived;
    grpc_byte_buffer* const body;
    std::atomic<bool> answered{false};

    // the inbox's
    uint64_t order = 0;
    size_t place = 0;
    Request* before = nullptr;
    Request* after = nullptr;

   private:
    Rpc& rpc_;
};

class Stream;

// What calls, streams and the door share; calls keep it alive.
class DoorCore : public std::enable_shared_from_this<DoorCore> {
   public:
    DoorCore(DoorSettings settings, const DoorCertificates& certificates);
    ~DoorCore();

    // Binds and accepts calls; returns the port, 0 when the address cannot be had.
    int listen();
    // Takes what waits; see Inbox. Both boxes return nothing once the door is closed.
    void take(bool aside, size_t limit, std::vector<Request*>& taken);
    void drain(double grace_s);

    // Calls that may wait for a worker from now on; more are refused at once.
    void set_room(size_t calls) { room_.store(calls); }
    bool take_place();
    void give_place_back();
    void enqueue(Request* request);
    void drop_waiting(Rpc& rpc, int method);

    // The body, decompressed; null when it is malformed or too large, and then `status` says which.
    grpc_byte_buffer* readable(grpc_byte_buffer* body, grpc_status_code& status) const;
    bool worth_compressing(const grpc_byte_buffer* body) const;

    // Keeps gRPC's queue open while calls are answered: whatever starts an operation on a closed one ends the process.
    class Hold {
       public:
        explicit Hold(DoorCore& core) : core_(core) {
            core_.use();
            held_ = !core_.closing_.load();
        }
        Hold(const Hold&) = delete;
        Hold& operator=(const Hold&) = delete;
        ~Hold() { core_.unuse(); }
        // False once all calls are over; then nothing may be answered any more.
        explicit operator bool() const { return held_; }

       private:
        DoorCore& core_;
        bool held_;
    };
    // The same for a call, from when it is posted until it is closed.
    void use() { users_.fetch_add(1); }
    void unuse();

    // Keeps the answer of a stream that nobody gets any more, for take_lost.
    void lose(int method, grpc_byte_buffer* body);
    // Such answers since the last call, with the positions of their methods; whoever takes them destroys them.
    std::vector<std::pair<int, grpc_byte_buffer*>> take_lost();

    bool is_aside(int method) const { return method >= first_aside_; }
    bool is_draining() const { return draining_.load(); }
    void opened(Stream& stream);
    void closed(Stream& stream);

   private:
    // gRPC's core runs as long as this exists; first, so that it goes last
    struct Library {
        Library() { grpc_init(); }
        ~Library() { grpc_shutdown(); }
    } library_;

   public:
    const DoorSettings settings;
    DoorCounts counts;
    Inbox<Request> inbox;
    Inbox<Request> aside;
    grpc_server* server = nullptr;
    grpc_completion_queue* queue = nullptr;
    std::vector<void*> registered;  // by method; null for those that core only tells the name of

    // Position of a stream's name; -1 when it is none of ours.
    int find_stream(const grpc_slice& name) const;

   private:
    struct Stopped final : Event {
        void done(bool ok) override;
        std::mutex mutex;
        std::condition_variable changed;
        bool over = false;
    };

    void poll();
    void post();

    Credentials credentials_;
    std::vector<std::string> stream_names_;  // by method, empty for unary ones
    int first_aside_ = 0;
    std::vector<std::thread> pollers_;
    Stopped stopped_;
    std::atomic<bool> draining_{false}, closing_{false};
    std::atomic<int64_t> users_{0};
    std::mutex idle_mutex_;
    std::condition_variable idle_;
    std::atomic<size_t> room_{std::numeric_limits<size_t>::max()};
    std::mutex streams_mutex_;
    std::set<Stream*> streams_;
    std::mutex lost_mutex_;
    std::vector<std::pair<int, grpc_byte_buffer*>> lost_;
    std::mutex drain_mutex_;
    bool drained_ = false;
};

}  // namespace headrace
