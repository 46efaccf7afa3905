// SPDX-License-Identifier: BSL-1.0
#pragma once

// Which part of a content a request asks for (RFC 9110, section 14).

#include <cstdint>
#include <string_view>

namespace hailwire::proto {

/// What a `Range` field comes to.
struct byte_range {
  enum class kind : std::uint8_t {
    whole,          ///< no field, another unit, one that cannot be read, or several ranges: the whole content is sent
    part,           ///< the bytes from `first` to `last`
    unsatisfiable,  ///< it can be read, and no byte that there is is in it
  };
  kind what = kind::whole;
  std::uint64_t first = 0, last = 0;  ///< of a part; both are in it
};

/// Reads a `Range` field of a content of `size` bytes: `bytes=0-99`, `bytes=100-` or `bytes=-100`. Numbers of any
/// length are read. A server may ignore what it does not like (section 14.2), so only one range is heeded.
byte_range read_range(std::string_view field, std::uint64_t size) noexcept;

}  // namespace hailwire::proto

#ifndef HAILWIRE_SEPARATE_COMPILATION
#include "hailwire/proto/range.ipp"
#endif
