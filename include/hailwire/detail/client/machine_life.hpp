// SPDX-License-Identifier: BSL-1.0
#pragma once

// The life of a client's links: when one is made, what ends it, what comes behind it, and the permission that they
// need.

#include "hailwire/detail/client/machine.hpp"

namespace hailwire::detail {

inline void client_machine::lane_connected(client_lane lane) {
  turn([&] {
    if (lane != client_lane::follow) {
      if (auto* e = errands(lane)) e->connected();
    } else if (link_) {
      link_->connected();
    }
  });
}

inline void client_machine::lane_received(client_lane lane, std::span<char> bytes) {
  turn([&] {
    if (lane != client_lane::follow) {
      if (auto* e = errands(lane)) e->receive(bytes);
    } else if (link_) {
      heard_ = now();
      link_->receive(bytes);
    }
  });
}

inline void client_machine::lane_ended(client_lane lane, std::error_code why, std::string_view text) {
  turn([&] {
    if (lane != client_lane::follow) {
      if (auto* e = errands(lane)) e->ended();
      return;
    }
    if (!link_) return;
    news().trouble = !text.empty() ? std::string(text) : why ? why.message() : std::string();
    link_->ended();
  });
}

inline void client_machine::alarm() {
  turn([&] {
    const auto at = now();
    if (link_ && link_->due() <= at && !excused(at)) link_->alarm();
    for (auto lane : {client_lane::command, client_lane::content})
      if (auto* e = errands(lane); e && e->due() <= at) e->alarm();
    if (retry_at_ <= at && !link_ && state_ == state::waiting) open();
    if (opens_by_ <= at && state_ == state::connecting && !excused(at)) {
      // What connects but says nothing may be a proxy that holds everything back: another transport may get through.
      opens_by_ = never;
      asking_ = false;  // whoever gives tokens is asked anew
      reached_ ? fall("silent") : lose("unreachable", 0, "no connection in time");
    }
    if (beat_ > 0 && state_ == state::following && link_ && !excused(at)) watch(at);
    if (quiet_until_ <= at) quiet_until_ = 0;
    if (renew_at_ <= at) extend();
    if (climb_at_ <= at && state_ == state::following && level_ > 0) climb();
    commands_.expire(at);
  });
}

inline void client_machine::hold(bool yes) {
  turn(
      [&] {
        if (!yes && held_) excused_until_ = now() + patience(), heard_ = now();
        held_ = yes;
      },
      true);
}

inline void client_machine::start() {
  if (state_ == state::stopped || started_) return;
  started_ = true;
  turn([&] { open(); });
}

inline void client_machine::opened() {
  if (state_ == state::following) return;
  state_ = state::following;
  opened_at_ = heard_ = now();
  proven_ |= 1u << level_;
  opens_by_ = never;
  news_.reset();
  if (level_ == 0) {
    climb_tries_ = 0;
    climb_at_ = never;
  } else {
    const auto most = options_->climb.count() << std::min(climb_tries_, 4u);
    climb_at_ = now() + most / 2 + uniform(most, random_word());
  }
  tell_status({});
}

inline void client_machine::lose(std::string_view reason, std::int64_t least, std::string_view text,
                                 std::int64_t spread) {
  if (state_ == state::stopped || state_ == state::waiting) return;
  if (state_ == state::following && now() - opened_at_ >= steady) backoff_.reset();
  if (state_ != state::following) detour_.reset();  // a detour that does not open is forgotten
  const auto jitter = backoff_.next(options_->first_wait.count(), options_->most_wait.count(), random_word());
  // Where the server names a range, the time is random within it; else its least time has the jitter on top.
  const auto wait = spread >= 0 ? least + uniform(spread, random_word()) : std::max(least, retry_) + jitter;
  drop();
  state_ = state::waiting;
  retry_at_ = now() + wait;
  tell_status(reason, text);
}

inline void client_machine::fall(std::string_view reason, std::string_view text) {
  if (state_ == state::stopped || state_ == state::waiting) return;
  if ((proven_ >> level_ & 1) && backoff_.attempts() < proofs) return lose(reason, 0, text);
  proven_ &= ~(1u << level_);
  level_ = static_cast<std::uint8_t>((level_ + 1u) % ladder_.size());
  if (level_ == 0) return lose(reason, 0, text);
  drop();
  open();
}

inline void client_machine::stop(std::string_view reason, std::string_view text) {
  if (state_ == state::stopped) return;
  if (link_) link_->leave();
  drop();
  state_ = state::stopped;
  // This may be a turn of theirs.
  for (auto* e : {&poster_, fetching_ ? &fetching_->fetcher : nullptr})
    if (e && *e) dead_.push_back(std::move(*e));
  for (auto lane : {client_lane::command, client_lane::content}) disconnect(lane);
  std::error_code code = operation_aborted();
  for (auto e : {errc::unauthenticated, errc::forbidden})
    if (code_name(e) == reason) code = make_error_code(e);
  commands_.fail_all({code, "the client has stopped"});
  if (fetching_)
    for (auto& f : std::exchange(fetching_->row, {})) end_fetch(std::move(f), {code, "the client has stopped"});
  ended(code);
  tell_status(reason, text);
}

inline void client_machine::blame(errc code, std::string_view why, std::string_view reason) {
  commands_.requeue(now(), code, why.empty() ? reason : why);
  lose(reason, 0, why);
}

inline void client_machine::turned_away(int status, std::int64_t least, std::string_view body) {
  auto [code, text] = read_problem(status, body);
  switch (status) {
    case 401:
      return expired(brief) ? void() : stop(code, text);
    case 403:
      return stop(code, text);
    case 408:
    case 429:
      return lose(code, least, text);
    default:
      // What is not served this way, or by somebody who does not know it, may be served another way; what the server
      // or a proxy fails at is tried again.
      return status >= 500 && status != 501 && status != 505 ? lose(code, least, text) : fall(code, text);
  }
}

inline bool client_machine::expired(std::int64_t good) {
  const bool held = state_ == state::following && now() - opened_at_ >= good;  // then it has ended, and was not refused
  refusals_ = held ? 0 : static_cast<std::uint8_t>(refusals_ + 1);
  if (!on.renew || refusals_ >= most_refusals) return false;
  stale_ = true;
  lose("unauthenticated");
  return true;
}

inline void client_machine::finish_turn(bool by_host) {
  for (;;) {
    flush();
    dead_.clear();
    auto& ended = commands_.ended();
    const bool news = !ended.empty() || (places_.moved() && on.cursor);
    if (!news) break;
    if (by_host) {
      settle_later();
      break;
    }
    if (!ended.empty()) {
      auto one = std::move(ended.front());
      ended.erase(ended.begin());
      one.end(one.error, one.ok);
    } else {
      places_.moved(false);
      on.cursor(cursor());
    }
  }
  wake_at(next_alarm());
}

inline void client_machine::lose_quietly() {
  auto status = std::exchange(on.status, nullptr);
  lose("handler", 0, "a handler has thrown");
  on.status = std::move(status);
}

inline std::int64_t client_machine::next_alarm() const noexcept {
  if (state_ == state::stopped) return never;
  // While silence means nothing, what waits for words waits until then.
  const std::int64_t least = held_ ? never : now() < excused_until_ ? excused_until_ : 0;
  auto from = [&](std::int64_t due) { return std::max(due, least); };
  std::int64_t at = std::min(commands_.expires(never), renew_at_);
  if (state_ == state::waiting) at = std::min(at, retry_at_);
  if (state_ == state::connecting) at = std::min(at, from(opens_by_));
  if (link_) at = std::min(at, from(link_->due()));
  if (poster_) at = std::min(at, poster_->due());
  if (auto* e = errands(client_lane::content)) at = std::min(at, e->due());
  if (quiet_until_) at = std::min(at, quiet_until_);
  if (state_ == state::following) {
    if (level_ > 0) at = std::min(at, climb_at_);
    if (beat_ > 0 && link_) at = std::min(at, from(heard_ + (probed_ ? 2 * beat_ : beat_ + beat_ / 4)));
  }
  return at;
}

inline void client_machine::open() {
  state_ = state::connecting;
  retry_at_ = never;
  reached_ = probed_ = false;
  beat_ = 0;
  opens_by_ = now() + patience();
  tell_status({});
  if (state_ != state::connecting || link_) return;  // the host has closed, or begun anew
  if (on.renew && stale_) return ask_token();
  begin();
}

inline void client_machine::begin() {
  places_.named();
  renamed_ = false;
  link_ = ladder_[level_]->make(*this);
  if (!link_->carries_commands() && places_.empty()) {  // over HTTP there is nothing to keep open for a mere publisher
    link_.reset();
    return opened();
  }
  connect(client_lane::follow, place());
}

inline void client_machine::drop(bool posts) {
  climb_at_ = renew_at_ = opens_by_ = never;
  beat_ = 0;
  const bool carried = link_ && link_->carries_commands();
  if (given_ && (carried || posts)) given_->session.clear();
  if (link_) {
    dead_.push_back(std::move(link_));
    disconnect(client_lane::follow);
  }
  if (poster_ && posts) {
    poster_->reset();
    disconnect(client_lane::command);
  }
  if (carried || posts) commands_.requeue(now());
}

inline void client_machine::renew_link() {
  drop(false);
  open();
}

inline void client_machine::climb() {
  if (commands_.unanswered()) return void(climb_at_ = now() + brief);  // what is never repeated would be lost
  ++climb_tries_;
  proven_ &= ~((1u << level_) - 1);
  level_ = 0;
  renew_link();
}

inline void client_machine::watch(std::int64_t at) {
  if (at - heard_ >= 2 * beat_) return lose("silent");
  if (at - heard_ < beat_) return void(probed_ = false);
  if (probed_ || at - heard_ < beat_ + beat_ / 4) return;
  probed_ = true;
  link_->probe();
}

inline void client_machine::flush() {
  if (state_ != state::following) return;
  if (fetching_ && !fetching_->row.empty()) {
    if (!fetching_->fetcher) fetching_->fetcher = make_errands_(*this, client_lane::content);
    fetching_->fetcher->flush();
  }
  if (link_ && link_->carries_commands()) {
    while (auto* c = next_command()) link_->send(c->text());
    return;
  }
  if (!poster_ && !commands_.has_waiting()) return;
  if (!poster_) poster_ = make_errands_(*this, client_lane::command);
  poster_->flush();
}

inline void client_machine::ask_token() {
  if (asking_) return;
  asking_ = true;
  if (!self_) self_ = std::make_shared<client_machine*>(this);
  // The reply may come at any time, also when this is gone.
  on.renew([box = std::weak_ptr<client_machine*>(self_)](std::optional<std::string> token) {
    if (auto held = box.lock()) (*held)->take_token(std::move(token));
  });
}

inline void client_machine::take_token(std::optional<std::string> token) {
  if (!std::exchange(asking_, false)) return;
  turn([&] {
    if (state_ == state::stopped) return;
    if (!token) return stop("unauthenticated", "there are no more tokens");
    const bool line =
        !token->empty() && std::all_of(token->begin(), token->end(), [](char c) { return c >= 0x20 && c < 0x7F; });
    if (line) given().token = std::move(*token), stale_ = false;
    if (state_ == state::connecting && !link_) return line ? begin() : lose("renew", 0, "no token for now");
    if (!line || state_ != state::following) return;
    if (!link_ || !link_->carries_commands()) {
      // An event stream is replaced by one with the new token, and the next poll simply brings it.
      if (link_ && beat_ > 0) renew_link();
      return;
    }
    std::string body = "\"renew\":{\"token\":";
    proto::json::append_quoted(body, given().token);
    link_command(body + "}}", nullptr);
  });
}

inline void client_machine::extend() {
  renew_at_ = never;
  if (!on.renew || state_ != state::following) return;
  ask_token();
}

inline void client_machine::tell_status(std::string_view reason, std::string_view text) {
  if (news_ || !reason.empty() || !text.empty()) {
    news().reason = reason;
    if (!text.empty()) news().trouble = text;
  }
  if (on.status) on.status(status());
}

}  // namespace hailwire::detail
