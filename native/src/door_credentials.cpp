// Encryption. Files are looked at in every handshake and read again when they changed, so certificates are renewed
// without a restart; a renewed pair that does not fit together leaves the old one in use.
#include <grpc/grpc_security.h>
#include <sys/stat.h>

#include <array>
#include <fstream>
#include <iterator>

#include "headrace/door.hpp"

namespace headrace {
namespace {

using Stamp = std::array<int64_t, 9>;  // of each file: seconds, nanoseconds, length

class Files {
   public:
    explicit Files(DoorCertificates names) : names_(std::move(names)) {}

    grpc_ssl_certificate_config_reload_status read(grpc_ssl_server_certificate_config** config) {
        std::lock_guard lock(mutex_);
        Stamp now = stamp();
        if (now == seen_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
        std::string chain = text(names_.certificate), key = text(names_.key);
        std::string ca = names_.client_ca.empty() ? "" : text(names_.client_ca);
        if (chain.empty() || key.empty() || (ca.empty() && !names_.client_ca.empty())) {
            return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
        }
        seen_ = now;
        grpc_ssl_pem_key_cert_pair pair{key.c_str(), chain.c_str()};
        // core asserts that there are authorities, also where no certificate is asked for and none are used
        *config = grpc_ssl_server_certificate_config_create(ca.empty() ? chain.c_str() : ca.c_str(), &pair, 1);
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
    }

   private:
    static std::string text(const std::string& name) {
        std::ifstream file(name, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }

    Stamp stamp() const {
        Stamp all{};
        size_t i = 0;
        for (const std::string* name : {&names_.certificate, &names_.key, &names_.client_ca}) {
            struct stat about {};
            if (!name->empty() && stat(name->c_str(), &about) == 0) {
                all[i] = about.st_mtim.tv_sec;
                all[i + 1] = about.st_mtim.tv_nsec;
                all[i + 2] = about.st_size;
            }
            i += 3;
        }
        return all;
    }

    const DoorCertificates names_;
    std::mutex mutex_;
    Stamp seen_{};
};

grpc_ssl_certificate_config_reload_status fetch(void* files, grpc_ssl_server_certificate_config** config) {
    return static_cast<Files*>(files)->read(config);
}

}  // namespace

Credentials::Credentials(const DoorCertificates& names) {
    if (names.certificate.empty()) {
        credentials_ = grpc_insecure_server_credentials_create();
        return;
    }
    auto clients = names.client_ca.empty()         ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                   : names.require_client_certificate ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                      : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
    auto files = std::make_shared<Files>(names);
    kept_ = files;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, fetch, files.get()));
}

Credentials::~Credentials() { grpc_server_credentials_release(credentials_); }

}  // namespace headrace
