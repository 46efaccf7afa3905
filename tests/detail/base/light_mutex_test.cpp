// SPDX-License-Identifier: BSL-1.0
#include "hailwire/detail/base/light_mutex.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "catch.hpp"

using hailwire::detail::light_mutex;

TEST_CASE("a light mutex lets one thread in at a time, however many contend") {
  light_mutex mutex;
  // Not atomic: a thread sanitizer sees whom the mutex does not keep apart, and lost additions show without one.
  std::array<unsigned, 16> counts{};
  unsigned apart = 0;
  constexpr unsigned threads = 4, rounds = 5000;
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&] {
      for (unsigned i = 0; i < rounds; ++i) {
        std::lock_guard lock(mutex);
        for (unsigned& c : counts) ++c;
        if (counts.front() != counts.back()) ++apart;
        if (i % 64 == 0) std::this_thread::yield();  // the others run into a mutex that is held
      }
    });
  for (auto& t : all) t.join();
  CHECK(apart == 0);
  for (unsigned c : counts) CHECK(c == threads * rounds);
}

TEST_CASE("each of those that wait for a light mutex is woken in its turn") {
  light_mutex mutex;
  std::atomic<unsigned> begun = 0;
  unsigned done = 0;
  constexpr unsigned threads = 8;
  std::vector<std::thread> all;
  mutex.lock();
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&] {
      ++begun;
      mutex.lock();
      ++done;
      mutex.unlock();
    });
  while (begun != threads) std::this_thread::yield();
  CHECK(done == 0);
  mutex.unlock();
  for (auto& t : all) t.join();
  CHECK(done == threads);
  mutex.lock();  // it is open again
  mutex.unlock();
}
