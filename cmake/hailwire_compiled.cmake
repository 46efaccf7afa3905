# hailwire::compiled: what is not a template, compiled once and linked, in place of being compiled with each file that makes
# a server. Everything that links it is told so (HAILWIRE_SEPARATE_COMPILATION), and all files of a program must be. It is
# built where it is linked, with the settings of the project that does; who links hailwire::hailwire alone does without.
#
# One object for each transport and one for polls: a linker takes those that a program names.
set(hailwire_compiled_sources)
foreach(part IN ITEMS core portable websocket sse ndjson polls)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/hailwire_compiled/${part}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "#include <hailwire/detail/src/${part}.hpp>\n")
  list(APPEND hailwire_compiled_sources "${source}")
endforeach()
add_library(hailwire_compiled STATIC EXCLUDE_FROM_ALL ${hailwire_compiled_sources})
add_library(hailwire::compiled ALIAS hailwire_compiled)
target_link_libraries(hailwire_compiled PUBLIC hailwire::hailwire)
target_compile_definitions(hailwire_compiled PUBLIC HAILWIRE_SEPARATE_COMPILATION)
