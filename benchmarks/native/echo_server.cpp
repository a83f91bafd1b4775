// The ceiling: a plain C++ gRPC server (callback API, any method, bytes) that answers every call with 600 zero bytes.
//
//   echo_server [BYTES]
//
// Prints its address and serves until it is killed.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

class Reactor final : public grpc::ServerGenericBidiReactor {
  public:
    explicit Reactor(const grpc::ByteBuffer& answer) : answer_(answer) { StartRead(&request_); }

    void OnReadDone(bool ok) override {
        if (ok) {
            StartWriteAndFinish(&answer_, grpc::WriteOptions(), grpc::Status::OK);
        } else {
            Finish(grpc::Status::CANCELLED);
        }
    }
    void OnDone() override { delete this; }

  private:
    grpc::ByteBuffer request_, answer_;
};

class Service final : public grpc::CallbackGenericService {
  public:
    explicit Service(const std::string& answer) {
        grpc::Slice slice(answer);
        answer_ = grpc::ByteBuffer(&slice, 1);
    }
    grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
        return new Reactor(answer_);
    }

  private:
    grpc::ByteBuffer answer_;
};

}  // namespace

int main(int argc, char** argv) {
    Service service(std::string(argc > 1 ? std::atoi(argv[1]) : 600, '\0'));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterCallbackGenericService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    std::printf("echo server on 127.0.0.1:%d\n", port);
    std::fflush(stdout);
    pause();
}
