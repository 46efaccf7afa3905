// SPDX-License-Identifier: BSL-1.0
#include "hailwire/proto/url.hpp"

#include <string>
#include <string_view>

#include "catch.hpp"

using namespace hailwire;
using namespace hailwire::proto;

namespace {
std::string said(const result<url>& u) {
  if (!u) return "failed " + std::string(code_name(u.error().code)) + ": " + u.error().message;
  return std::string(u->secure ? "tls " : "") + u->host + " " + std::to_string(u->port) + " " + u->path + " ?" +
         u->query + " @" + u->authority();
}
std::string read(std::string_view text) { return said(parse_url(text)); }
}  // namespace

TEST_CASE("reads URLs of four schemes") {
  CHECK(read("http://example.org/live?user=a&b=c%20d") == "example.org 80 /live ?user=a&b=c%20d @example.org");
  CHECK(read("WS://Example.ORG:8080") == "example.org 8080 / ? @example.org:8080");
  CHECK(read("https://example.org?x") == "tls example.org 443 / ?x @example.org");
  CHECK(read("wss://[2001:DB8::1]:8443/a/b") == "tls 2001:db8::1 8443 /a/b ? @[2001:db8::1]:8443");
  CHECK(read("https://h:443/") == "tls h 443 / ? @h");
  CHECK(read("http://h:443/") == "h 443 / ? @h:443");
  CHECK(read("http://h:/") == "h 80 / ? @h");
  CHECK(read("http://h:65535/a?b?c") == "h 65535 /a ?b?c @h:65535");
}

TEST_CASE("refuses what it would not understand") {
  const std::string scheme = "failed bad_request: a URL begins with http://, https://, ws:// or wss://";
  for (auto text : {"", "example.org", "ftp://h/", "http:/h", "//h/"}) CHECK(read(text) == scheme);
  const std::string ascii = "failed bad_request: a URL is visible ASCII without a fragment: escape what is not";
  for (auto text :
       {"http://h/#x", "http://h/a b", "http://h/\r\nX: y", "http://h/\xC3\xA4", "http://h\\@x/", "http://h/\x7F"})
    CHECK(read(text) == ascii);
  const std::string host = "failed bad_request: the URL's host is malformed";
  for (auto text : {"http:///x", "http://u@h/", "http://u:p@h/", "http://h:65536/", "http://h:0/", "http://h:x/",
                    "http://[::1/", "http://[x]/"})
    CHECK(read(text) == host);
}

TEST_CASE("a reference is absolute, or a path on the same host") {
  const auto base = parse_url("https://h:8443/live?user=a");
  CHECK(said(resolve_url(*base, "/other?x=y")) == "tls h 8443 /other ?x=y @h:8443");
  CHECK(said(resolve_url(*base, "ws://g/live")) == "g 80 /live ? @g");
  CHECK_FALSE(resolve_url(*base, "//g/live"));
  CHECK_FALSE(resolve_url(*base, "live"));
  CHECK_FALSE(resolve_url(*base, "/a\r\nb"));
}

TEST_CASE("what goes into a query is escaped") {
  std::string query;
  append_query(query, "channel", "a b&c=\xC3\xA4/+~");
  append_query(query, "since", "k3_X-9.41,latest");
  CHECK(query == "channel=a%20b%26c%3D%C3%A4%2F%2B~&since=k3_X-9.41%2Clatest");
  query_pairs pairs;
  REQUIRE(parse_query(query, pairs));
  CHECK(pairs[0].second == "a b&c=\xC3\xA4/+~");
}
