// SPDX-License-Identifier: BSL-1.0
// The main of the unit tests. A test case that hangs is ended after its own limit, and named: CTest's limit is for the
// whole program and says nothing.

#if !defined(HAILWIRE_CATCH2_3)
#define CATCH_CONFIG_MAIN
#endif
#include "catch.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr unsigned default_limit = 120;  // seconds; the longest takes 10, under sanitizers 50
char running[256];                       // what the signal's handler may read

// SIGABRT is what Catch2 reports with the section and the line of the last assertion, and a sanitizer with every stack.
extern "C" void say_and_abort(int) {
  constexpr char begin[] = "\nthe watchdog: this test case does not end: ";
  if (write(STDERR_FILENO, begin, sizeof begin - 1) < 0 || write(STDERR_FILENO, running, std::strlen(running)) < 0 ||
      write(STDERR_FILENO, "\n", 1) < 0)
    std::_Exit(1);
  std::abort();
}

#if defined(HAILWIRE_CATCH2_3)
struct watchdog : Catch::EventListenerBase {
  using EventListenerBase::EventListenerBase;
#else
struct watchdog : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
#endif
  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    std::snprintf(running, sizeof running, "%s", test.name.c_str());
    const char* limit = std::getenv("HAILWIRE_TEST_CASE_SECONDS");
    std::signal(SIGALRM, &say_and_abort);
    alarm(limit ? static_cast<unsigned>(std::atoi(limit)) : default_limit);
  }
  void testCaseEnded(const Catch::TestCaseStats&) override { alarm(0); }
};

CATCH_REGISTER_LISTENER(watchdog)

TEST_CASE("a test case that hangs is named", "[.][watchdog]") {
  for (;;) pause();
}

}  // namespace

#if defined(HAILWIRE_CATCH2_3)
int main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
#endif
