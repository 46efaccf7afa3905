# One way of taking hailwire in, from an empty folder to a program that has run. See CMakeLists.txt for the variables.
cmake_minimum_required(VERSION 3.23)
string(REPLACE "," ";" COMPONENTS "${COMPONENTS}")
set(build "${BINARY}/${WAY}")
file(REMOVE_RECURSE "${build}")

# run(<what it shows> <command>...)
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${what}: ${code}\n${output}")
  endif()
endfunction()

set(configure "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Debug -S "${SOURCE}/tests/consume/project")

# refuses(<sentence> <setting>...): configuring must fail, and say the sentence.
function(refuses sentence)
  file(REMOVE_RECURSE "${build}/refused")
  execute_process(COMMAND ${configure} -B "${build}/refused" -DWAY=installed "-DCMAKE_PREFIX_PATH=${build}/prefix" ${ARGN}
    RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  string(FIND "${output}" "${sentence}" found)
  if(code EQUAL 0 OR found EQUAL -1)
    message(FATAL_ERROR "with ${ARGN}: expected the error\n  ${sentence}\nbut CMake ended with ${code}:\n${output}")
  endif()
endfunction()

if(WAY STREQUAL "installed")
  run("configure hailwire" "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -S "${SOURCE}" -B "${build}/hailwire"
    "-DCMAKE_INSTALL_PREFIX=${build}/prefix" -DHAILWIRE_BUILD_TESTS=OFF -DHAILWIRE_BUILD_EXAMPLES=OFF -DHAILWIRE_BUILD_BENCHMARKS=OFF)
  run("install hailwire" "${CMAKE_COMMAND}" --install "${build}/hailwire")

  # Each header arrives, wherever its component is built; nothing else does.
  file(GLOB_RECURSE there RELATIVE "${SOURCE}/include" "${SOURCE}/include/*.hpp")
  file(GLOB_RECURSE here RELATIVE "${build}/prefix/include" "${build}/prefix/include/*")
  if(COMPONENTS STREQUAL "tls;deflate;sqlite" AND NOT there STREQUAL here)
    message(FATAL_ERROR "installed headers differ from those in include/:\n${here}\n${there}")
  endif()

  refuses("this hailwire has no component telepathy; it was installed with: " "-DCOMPONENTS=telepathy")
  refuses("compatible with requested version \"99\"" "-DCOMPONENTS=" -DWANTED=99)
  foreach(pair IN ITEMS "deflate;ZLIB" "sqlite;SQLite3" "tls;OpenSSL")
    list(GET pair 0 component)
    list(GET pair 1 package)
    if(component IN_LIST COMPONENTS)
      refuses("hailwire's component ${component} needs ${package}, which was not found" "-DCOMPONENTS=${component}" -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
    endif()
  endforeach()
  file(WRITE "${build}/old/asio.hpp" "")
  file(WRITE "${build}/old/asio/version.hpp" "#define ASIO_VERSION 101801 // 1.18.1\n")
  refuses("hailwire needs standalone Asio 1.22 or newer; the one in ${build}/old is older" "-DCOMPONENTS=" "-DHAILWIRE_ASIO_INCLUDE_DIR=${build}/old")
endif()

run("configure" ${configure} -B "${build}/project" -DWAY=${WAY} "-DHAILWIRE=${SOURCE}" "-DCMAKE_PREFIX_PATH=${build}/prefix"
  -DWANTED=${VERSION} "-DCOMPONENTS=${COMPONENTS}" -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
run("build" "${CMAKE_COMMAND}" --build "${build}/project")
run("run" "${build}/project/four_transports" "${VERSION}")

# A project that takes hailwire in is not given its tests, examples or install rules.
execute_process(COMMAND "${CTEST}" -N WORKING_DIRECTORY "${build}/project" OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT output MATCHES "Total Tests: 0|No tests were found")
  message(FATAL_ERROR "tests of hailwire's reached its user:\n${output}")
endif()
run("install the project" "${CMAKE_COMMAND}" --install "${build}/project" --prefix "${build}/theirs")
file(GLOB_RECURSE theirs "${build}/theirs/*")
if(theirs)
  message(FATAL_ERROR "hailwire's user installs what it has not asked for:\n${theirs}")
endif()
