# What the project's own programs are built with. Users of the library get none of it.
option(HAILWIRE_WERROR "Warnings are errors in the project's own programs" OFF)

set(hailwire_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual)
if(HAILWIRE_WERROR)
  list(APPEND hailwire_warnings -Werror)
endif()
add_library(hailwire_developer INTERFACE)
target_link_libraries(hailwire_developer INTERFACE hailwire)
target_compile_options(hailwire_developer INTERFACE ${hailwire_warnings})

find_program(HAILWIRE_CCACHE ccache)
if(HAILWIRE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${HAILWIRE_CCACHE}")
endif()
