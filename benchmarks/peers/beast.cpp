// SPDX-License-Identifier: BSL-1.0

// Boost.Beast, written after its asynchronous examples: WebSocket echo on /echo, everything to everybody on /live. A
// message is made once and shared; each session has a queue, because a stream may have one write under way.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <unordered_set>

namespace asio = boost::asio;
namespace beast = boost::beast;
using tcp = asio::ip::tcp;

namespace {

class session;
std::unordered_set<session*> everybody;

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(tcp::socket&& socket) : stream_(std::move(socket)) {}
  ~session() { everybody.erase(this); }

  void start() {
    beast::http::async_read(stream_.next_layer(), buffer_, request_,
                            [self = shared_from_this()](beast::error_code ec, std::size_t) {
                              if (!ec) self->accept();
                            });
  }
  void send(std::shared_ptr<const std::string> message) {
    queue_.push_back(std::move(message));
    if (queue_.size() == 1) write();
  }

 private:
  void accept() {
    echo_ = request_.target().starts_with("/echo");
    stream_.async_accept(request_, [self = shared_from_this()](beast::error_code ec) {
      if (ec) return;
      self->stream_.text(true);
      self->stream_.auto_fragment(false);  // one frame a message, as everybody else here sends
      self->request_ = {};
      if (!self->echo_) everybody.insert(self.get());
      self->read();
    });
  }
  void read() {
    stream_.async_read(buffer_, [self = shared_from_this()](beast::error_code ec, std::size_t) {
      if (ec) return self->gone();
      auto message = std::make_shared<const std::string>(beast::buffers_to_string(self->buffer_.data()));
      self->buffer_.consume(self->buffer_.size());
      if (self->echo_) {
        self->send(std::move(message));
      } else {
        for (auto* other : everybody) other->send(message);
      }
      self->read();
    });
  }
  void write() {
    stream_.async_write(asio::buffer(*queue_.front()), [self = shared_from_this()](beast::error_code ec, std::size_t) {
      if (ec) return self->gone();
      self->queue_.pop_front();
      if (!self->queue_.empty()) self->write();
    });
  }
  void gone() { everybody.erase(this); }

  beast::websocket::stream<beast::tcp_stream> stream_;
  beast::flat_buffer buffer_;
  beast::http::request<beast::http::empty_body> request_;
  std::deque<std::shared_ptr<const std::string>> queue_;
  bool echo_ = false;
};

void accept_all(tcp::acceptor& acceptor) {
  acceptor.async_accept([&acceptor](beast::error_code ec, tcp::socket socket) {
    if (!ec) {
      socket.set_option(tcp::no_delay(true), ec);
      std::make_shared<session>(std::move(socket))->start();
    }
    accept_all(acceptor);
  });
}

}  // namespace

int main(int argc, char** argv) {
  asio::io_context io(1);
  tcp::acceptor acceptor(
      io, {asio::ip::make_address("127.0.0.1"), static_cast<unsigned short>(argc > 1 ? std::atoi(argv[1]) : 0)});
  acceptor.listen(4096);
  std::printf("listening on http://127.0.0.1:%u/\n", static_cast<unsigned>(acceptor.local_endpoint().port()));
  std::fflush(stdout);
  accept_all(acceptor);
  io.run();
}
