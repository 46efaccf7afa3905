// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the contract suites answer with. A suite needs no test framework: it returns one outcome for each obligation,
// and the tests of whoever brings a part print and judge them as they like.

#include <cstdint>
#include <string>
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

}  // namespace hailwire::testing
