// The two kinds of remote calls.
#pragma once

#include <deque>

#include "headrace/door.hpp"

namespace headrace {

// An event that calls a member function.
template <typename T, void (T::*Method)(bool)>
struct Notify final : Event {
    explicit Notify(T& self) : self(self) {}
    void done(bool ok) override { (self.*Method)(ok); }
    T& self;
};

double seconds_of(gpr_timespec deadline);

// Operations that end a call; `text` must live until they are started.
grpc_op initial_metadata_op();
grpc_op message_op(grpc_byte_buffer* body, bool compress);
grpc_op status_op(int status, const grpc_slice* text);

class UnaryCall final : public Rpc {
   public:
    // Lets gRPC's core fill in the next call of a method.
    static void post(const std::shared_ptr<DoorCore>& core, int method);

    bool answer(Request& request, Answer&& answer) override;
    bool send(grpc_byte_buffer* body) override;
    void end() override {}
    bool open() override { return open_.load(); }
    // The deadline passed while it waited; gRPC's core tells the caller.
    void expire();

   private:
    UnaryCall(std::shared_ptr<DoorCore> core, int method) : Rpc(std::move(core)), method_(method) {}
    ~UnaryCall() override;
    void on_arrived(bool ok);
    void on_sent(bool ok);
    void on_closed(bool ok);
    void accept();
    void finish(int status, const std::string& text, grpc_byte_buffer* body);

    const int method_;
    gpr_timespec deadline_{};
    grpc_byte_buffer* payload_ = nullptr;
    grpc_byte_buffer* body_ = nullptr;
    std::atomic<bool> open_{true};
    Notify<UnaryCall, &UnaryCall::on_arrived> arrived_{*this};
    Notify<UnaryCall, &UnaryCall::on_sent> sent_{*this};
    Notify<UnaryCall, &UnaryCall::on_closed> closed_{*this};
};

class Stream final : public Rpc {
   public:
    // Lets gRPC's core fill in the next call of any method that is not unary.
    static void post(const std::shared_ptr<DoorCore>& core);

    bool answer(Request& request, Answer&& answer) override;
    bool send(grpc_byte_buffer* body) override;
    void end() override;
    bool open() override;
    // Reads no more; ends once what was read is answered.
    void leave();

   private:
    explicit Stream(std::shared_ptr<DoorCore> core);
    ~Stream() override;
    void on_arrived(bool ok);
    void on_read(bool ok);
    void on_written(bool ok);
    void on_finished(bool ok);
    void on_closed(bool ok);
    void refuse(int status, const std::string& text);
    // Those below need the lock.
    void read_more();
    void write_more();
    // Nobody gets the answers behind the one that is being written.
    void lose_rest();
    void finish(int status, const std::string& text);
    bool ends() const { return ending_ || gone_; }

    grpc_call_details details_;
    int method_ = -1;
    double deadline_ = 0;
    bool counted_ = false;

    std::mutex mutex_;
    grpc_byte_buffer* payload_ = nullptr;
    std::deque<grpc_byte_buffer*> answers_;
    int unanswered_ = 0;    // read and not yet written an answer to
    bool reading_ = false, writing_ = false, began_ = false;
    bool half_closed_ = false, leaving_ = false;
    bool ending_ = false;   // the status is known, and follows what is to be written before it
    bool finished_ = false; // the status is on its way
    bool gone_ = false;
    int status_ = 0;
    std::string text_;
    Notify<Stream, &Stream::on_arrived> arrived_{*this};
    Notify<Stream, &Stream::on_read> read_{*this};
    Notify<Stream, &Stream::on_written> written_{*this};
    Notify<Stream, &Stream::on_finished> finished_event_{*this};
    Notify<Stream, &Stream::on_closed> closed_{*this};
};

}  // namespace headrace
