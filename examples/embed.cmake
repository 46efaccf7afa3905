# Writes a header with files as text: cmake -DHEADER=out.hpp -DFILES=a.html;b.js -P embed.cmake. Letter by letter, because a
# string literal may be cut at 64 KiB (C++20, annex B).
set(text "// Made by embed.cmake.\n#pragma once\n\n#include <string_view>\n\nnamespace web {\n")
foreach(file IN LISTS FILES)
  cmake_path(GET file FILENAME name)
  string(MAKE_C_IDENTIFIER "${name}" name)
  file(READ "${file}" bytes HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  string(APPEND text "inline constexpr char ${name}_bytes[] = {${bytes}};\n"
    "inline constexpr std::string_view ${name}(${name}_bytes, sizeof ${name}_bytes);\n")
endforeach()
file(WRITE "${HEADER}" "${text}}  // namespace web\n")
