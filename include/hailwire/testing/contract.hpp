// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the contract suites answer with. A suite needs no test framework: it returns one outcome for each obligation,
// and the tests of whoever brings a part print and judge them as they like.

#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace hailwire::testing {

/// How one obligation was kept.
enum class verdict : std::uint8_t {
  passed,
  failed,
  not_offered,  ///< an optional part that this storage, or this fixture, does not have; never counted as passed
};

/// What became of one obligation.
struct outcome {
  std::string name;  ///< the obligation, as a sentence
  verdict what = verdict::passed;
  std::string why;  ///< empty when it passed
};

/// Whether nothing failed.
inline bool fulfilled(const std::vector<outcome>& outcomes) noexcept {
  for (const outcome& o : outcomes)
    if (o.what == verdict::failed) return false;
  return true;
}

/// One line for each outcome.
inline std::string report(const std::vector<outcome>& outcomes) {
  std::string out;
  for (const outcome& o : outcomes) {
    out += o.what == verdict::passed ? "passed       " : o.what == verdict::failed ? "FAILED       " : "not offered  ";
    out += o.name;
    if (!o.why.empty()) out += " (" + o.why + ")";
    out += '\n';
  }
  return out;
}

// ---- what the suites are made of ----------------------------------------------------------------------------------

namespace detail {

struct broken_promise {
  std::string why;
};
struct absent {
  std::string why;
};

inline void expect(bool kept, std::string why) {
  if (!kept) throw broken_promise{std::move(why)};
}

/// What became of one obligation, which `test` holds a part to.
template <class Test>
outcome hold_to(std::string name, Test test) {
  try {
    test();
  } catch (const broken_promise& broken) {
    return {std::move(name), verdict::failed, broken.why};
  } catch (const absent& part) {
    return {std::move(name), verdict::not_offered, part.why};
  } catch (const std::exception& e) {
    return {std::move(name), verdict::failed, std::string("an exception: ") + e.what()};
  }
  return {std::move(name), verdict::passed, ""};
}

/// What a fixture opens: it is called, or its `open()` is.
template <class Fixture>
auto open_in(Fixture& f) {
  if constexpr (requires { f.open(); }) {
    return f.open();
  } else {
    return f();
  }
}

}  // namespace detail

}  // namespace hailwire::testing
