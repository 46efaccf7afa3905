// SPDX-License-Identifier: BSL-1.0
//
// Prints a channel from the file of a chat that has ended: history FILE CHANNEL

#include <hailwire/storage/sqlite.hpp>

#include <ctime>
#include <filesystem>
#include <future>
#include <iomanip>
#include <iostream>

void print(const hailwire::message& m) {
  std::time_t seconds = m.at / 1000;
  std::cout << m.offset << '\t' << std::put_time(std::gmtime(&seconds), "%FT%TZ") << '\t'
            << (m.from.empty() ? "-" : m.from) << '\t';
  if (m.data.type() == hailwire::payload::kind::binary) {
    std::cout << '(' << m.data.bytes().size() << " bytes of " << m.data.content_type() << ")\n";
  } else {
    std::cout << m.data.bytes() << '\n';
  }
}

int main(int count, char** words) {
  if (count != 3) return std::cerr << "usage: history FILE CHANNEL\n", 2;
  if (!std::filesystem::exists(words[1]))
    return std::cerr << "history: there is no " << words[1] << '\n', 1;  // open would make it
  auto file = hailwire::sqlite_storage::open(words[1]);
  if (!file) return std::cerr << "history: " << file.error().text() << '\n', 1;
  hailwire::read_result page;
  for (std::uint64_t since = 0;; since = page.messages.back().offset) {
    std::promise<hailwire::read_result> answer;
    auto arrived = answer.get_future();
    (*file)->async_read(words[2], since, {},
                        [p = std::move(answer)](hailwire::read_result r) mutable { p.set_value(std::move(r)); });
    page = arrived.get();
    if (page.error) return std::cerr << "history: " << page.error.message() << '\n', 1;
    for (const hailwire::message& m : page.messages) print(m);
    if (page.messages.empty()) return 0;
  }
}
