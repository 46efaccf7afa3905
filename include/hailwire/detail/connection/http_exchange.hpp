// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a connection has only while something is unfinished on it: `pending_io`, and in it, while it serves HTTP
// requests, an `http_exchange`, whose functions are in requests.ipp, contents.ipp and polls.ipp. A stream on which
// nobody says anything has none of this.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hailwire/detail/base/pointers.hpp"
#include "hailwire/detail/base/vector.hpp"
#include "hailwire/detail/connection/admission.hpp"
#include "hailwire/detail/hub/senders.hpp"
#include "hailwire/hooks.hpp"
#include "hailwire/hub.hpp"
#include "hailwire/proto/http1.hpp"
#include "hailwire/transport/stream.hpp"

namespace hailwire::detail {

class connection;
class server_state;
struct poll_table;

/// A block of a download, and what may wait of an upload before its connection is read no more: large enough that a
/// disk is not asked too often, small enough for thousands at once.
inline constexpr std::size_t download_block = 64 * 1024, upload_buffer = 128 * 1024;

/// What a request with content takes: an upload on its way in, or a message's bytes on their way out.
struct content_work {
  enum class task : std::uint8_t { create, append, show, drop, publish, send };
  content_work() = default;
  content_work(const content_work&) = delete;
  content_work& operator=(const content_work&) = delete;
  ~content_work();

  task what = task::show;
  bool unread = false;     // of its body something is still to come
  bool reading = false;    // its body is taken as it comes
  bool busy = false;       // the storage is asked
  bool completes = true;   // with the end of its body the content is whole
  bool begun = false;      // its answer's head has been written
  bool keeps = false;      // the connection goes on behind that answer
  std::uint64_t from = 0;  // where the next bytes stand in the content
  std::uint64_t left = 0;  // of a body of known length, or of what is sent
  std::optional<std::uint64_t> length;
  std::string id, type, key;
  upload state;
  connection* on = nullptr;
  std::map<std::string, connection*>* writes = nullptr;  // who writes which upload, while this one does
};

/// What serving one request takes, and begins anew with the next.
struct request_state {
  std::string rest_;  // what came after the head
  std::string body_;
  proto::http1::chunked_decoder chunks_;
  std::string extra_;  // header lines of every answer to this request

  const transport::entry* serving_ = nullptr;  // null: a POST
  std::string device_;
  move_only_function<void(std::string&, std::string_view)> open_;  // of a stream that has not been answered yet
  std::optional<transport::poll> once_;
  std::string notices_;     // of a poll
  std::int64_t until_ = 0;  // when a held poll is over

  std::unique_ptr<content_work> content_;  // of an upload, or of content that is sent

  vector<std::string> commands_;  // of a POST
  std::size_t done_ = 0;
  std::string replies_;  // of a POST; of a poll, which has none, the ephemeral messages, each with a comma before it

  std::uint32_t following_ = 0;  // channels whose start is not known yet
  std::uint16_t heartbeat_ = 0;  // seconds, that it has asked for
  bool own_page_ : 1 = true,
                   listed_page_ : 1 = false;  // the page that asks: this host's or nobody's; of a listed origin
  bool at_once_ : 1 = false;                  // the poll is answered even if there is nothing
  bool said_bye_ : 1 = false;                 // its notices have one
  bool array_ : 1 = false;                    // the POST's commands are one
  bool fetch_ : 1 = false;                    // it asks for one message
  bool signals_ : 1 = false;                  // the poll is told of messages without their payloads
  bool query_readable_ : 1 = true;
  bool patient_ : 1 = true;  // what a held poll has to tell is live-only, and is gathered for a while
  // Of those on its connection that ask for the live resource it is the first; it was let in for its ticket's sake; it
  // has one that lasts for a while.
  bool first_ : 1 = false, by_ticket_ : 1 = false, fresh_ticket_ : 1 = false;
};

/// Serves HTTP requests on one connection, one after the other: from the bytes of a head to the answer, or to the
/// stream that the connection is from then on. All that requests need and an idle stream does not lies here. It stays
/// from one request to the next, because a client that polls polls again, and memory asked for anew was a third of what
/// a poll took.
///
/// Its functions may end with the request answered, the connection closing, or, where a stream was opened, with this
/// object gone: whoever calls one looks at the connection's phase next, and at nothing here.
class http_exchange : private request_state {
 public:
  explicit http_exchange(connection& on);

  // ---- from bytes to a request
  bool read_head();
  void read_body();
  void drop_head();

  // ---- answers
  void respond(int status, std::string_view type, std::string_view body, std::string_view extra = {});
  void refuse(const failure& why);
  void refuse_stream(const failure& why);
  void leave_commands(const failure& others);

  // ---- polls; in polls.ipp, and reached through a server's `linkage` alone
  static const poll_table polling;

 private:
  friend class connection;
  friend class stream_exchange;

  server_state& server() const noexcept;
  void begin_request();
  void dispatch();
  void serve_elsewhere();
  void respond_with(const result<response>& r);

  // The live resource
  void look_at_origin();
  std::string methods() const;
  static void allow_fields(std::string& out, std::string_view methods);
  void serve_live();
  bool read_channels();
  void serve_follow();
  bool read_cursor();
  void authorize();
  void allowed(shared_grant g) {
    serving_   ? begin_following(std::move(g))
    : content_ ? begin_content(std::move(g))
    : fetch_   ? begin_fetch(std::move(g))
               : begin_post(std::move(g));
  }
  std::optional<tickets::known> shown_ticket() const;
  bool let_in();
  std::int64_t begin_as_newcomer();
  bool count_request(const shared_grant& g);
  bool gives_ticket() const noexcept;
  std::string ticket() const;
  void begin_following(shared_grant g);
  void follow_next(std::size_t i);
  void began();
  bool cursor_returns() const;
  void tell_losses();
  /// Whether the client has said how far it has come in its channel `i`, so that it can have lost something.
  bool names_place(std::size_t i) const noexcept {
    return from_[i].from == hailwire::start::word::at || from_[i].from == hailwire::start::word::received;
  }
  void post();
  void begin_post(shared_grant g);
  void next_command();

  // One message, in contents.ipp
  void serve_message();
  void begin_fetch(shared_grant g);
  void respond_with_message(const message& m, std::string_view epoch);

  // Content, in uploads.ipp
  template <class Result, class F>
  move_only_function<void(Result)> later(F f);
  void serve_content();
  bool read_type_and_key();
  std::string_view idempotency_key() const;
  void begin_large_publish();
  void begin_content(shared_grant g);
  void refuse_offset(const upload& u);
  void begin_body(const upload& state);
  void content_more();
  void give_up(std::error_code why);
  void body_over();
  client_publish_handler publish_answer(std::string unused);
  void respond_upload(int status, const upload& u);
  void send_content(int status, const content_reference& c, std::uint64_t from, std::uint64_t size,
                    std::string_view fields);
  void send_more();

  void begin_poll();
  void say_bye();
  bool answer_poll(bool at_end);
  bool answer_alike();
  /// Something live-only for a poll, a notice or an ephemeral message: it ends the wait within a second.
  void gather_live(const channel_log& log, bool notice, std::string_view json);
  bool has_tag(std::string_view cursor) const;

  std::weak_ptr<connection*> here();
  /// Ready for the next request; false when more memory has gathered than is worth keeping.
  bool renew();

  connection* const on_;
  std::uint32_t serial_ = 0;  // of the request; answers to earlier ones are ignored
  std::uint32_t tag_at_ = 0;  // where in `in_` the entity tag is that was read as the cursor; 0: none was
  std::string in_;            // the head, whole once it is parsed; never touched while `head_` is in use
  proto::http1::head_parser parser_;
  proto::http1::head head_;
  proto::query_pairs query_;
  request shown_;
  std::vector<std::string> channels_;
  cursor from_;
  vector<follow_start> starts_;
  std::shared_ptr<connection*> here_;                 // what hooks that answer later hold on to
  std::unique_ptr<http_exchange>* keeper_ = nullptr;  // while a hook looks at `shown_`: where this goes instead of away
};
static_assert(sizeof(http_exchange) <= 1000, "an allocation over 1,000 bytes is a slow one in glibc");

/// A connection's unfinished work: unsent output, unread input, a request, the reason of an end that is near.
struct pending_io {
  explicit pending_io(server_state& s, bool of_all = false) : server(&s), common(of_all) {}
  server_state* server;
  const bool common;             // the one that all idle connections share, which nobody writes to
  std::uint32_t next = 0;        // the channel whose turn it is, while not all have had theirs
  std::string out, held;         // unsent output of the session's own; input that was received and not read yet
  std::size_t sent = 0;          // of `out`
  subscription* half = nullptr;  // whose frame is half sent
  std::unique_ptr<http_exchange> request;
  std::unique_ptr<close_reason> reason;
  intrusive_ptr<sender> sends;  // who asks by requests; kept for the next one where it is the same
  // How far the peer's acknowledgements are looked at, as `connection::acknowledged` counts plus 1, while its bytes
  // stand in a queue; 0 when nobody looks.
  std::uint64_t seen = 0;  // when last looked at
  std::uint64_t ping = 0;  // of the ping that is behind others
  bool none() const noexcept { return out.empty() && held.empty() && !half && !next && !request && !reason && !seen; }
};

}  // namespace hailwire::detail

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/detail/connection/http_exchange.ipp"
#endif
