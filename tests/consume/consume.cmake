# One way of taking hailwire in, from an empty folder to a program that has run. See CMakeLists.txt for the variables.
cmake_minimum_required(VERSION 3.23)
set(comma_components "${COMPONENTS}")  # a list in an argument of an argument would fall apart
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

# An older CMake reads include folders, but no file sets, from the installed package.
set(users_cmake "${CMAKE_COMMAND}")
if(WAY STREQUAL "installed_cmake_3_22")
  set(users_cmake "${OLD_CMAKE}")
endif()
set(configure "${users_cmake}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Debug -S "${SOURCE}/tests/consume/project")

# refuses(<sentence> <setting>...): configuring must fail, and say the sentence.
function(refuses sentence)
  file(REMOVE_RECURSE "${build}/refused")
  execute_process(COMMAND ${configure} -B "${build}/refused" -DWAY=${WAY} "-DCMAKE_PREFIX_PATH=${build}/prefix" ${ARGN}
    RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  string(FIND "${output}" "${sentence}" found)
  if(code EQUAL 0 OR found EQUAL -1)
    message(FATAL_ERROR "with ${ARGN}: expected the error\n  ${sentence}\nbut CMake ended with ${code}:\n${output}")
  endif()
endfunction()

if(WAY STREQUAL "conan")
  # `conan create` packs the recipe's package, builds the consumer project against it and runs it.
  string(REGEX REPLACE "([a-z]+)" "-o;&:\\1=True" options "${COMPONENTS}")
  set(ENV{CONAN_HOME} "${build}/home")
  run("conan create" "${CONAN}" create "${SOURCE}" --test-folder "${SOURCE}/tests/consume/conan" -pr:a "${SOURCE}/tests/consume/conan/debian" ${options}
    --no-remote -c "tools.cmake.cmake_layout:test_folder=${build}/project")
  return()
endif()
if(WAY MATCHES "^installed")
  run("configure hailwire" "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -S "${SOURCE}" -B "${build}/hailwire"
    "-DCMAKE_INSTALL_PREFIX=${build}/prefix" -DHAILWIRE_BUILD_TESTS=OFF -DHAILWIRE_BUILD_EXAMPLES=OFF -DHAILWIRE_BUILD_BENCHMARKS=OFF)
  run("install hailwire" "${CMAKE_COMMAND}" --install "${build}/hailwire")

  # Each header arrives, wherever its component is built; nothing else does.
  file(GLOB_RECURSE there RELATIVE "${SOURCE}/include" "${SOURCE}/include/*.hpp" "${SOURCE}/include/*.ipp")
  file(GLOB_RECURSE here RELATIVE "${build}/prefix/include" "${build}/prefix/include/*")
  list(REMOVE_ITEM there hailwire/beast.hpp hailwire/fmt.hpp)  # of components that this list does not name
  list(REMOVE_ITEM here hailwire/beast.hpp hailwire/fmt.hpp)
  if(comma_components STREQUAL "tls,jwt,deflate,sqlite,redis,push" AND NOT there STREQUAL here)
    message(FATAL_ERROR "installed headers differ from those in include/:\n${here}\n${there}")
  endif()

  refuses("this hailwire has no component telepathy; it was installed with: " "-DCOMPONENTS=telepathy")
  refuses("compatible with requested version \"99\"" "-DCOMPONENTS=" -DWANTED=99)
  foreach(pair IN ITEMS "boost;Boost;Boost 1.81" "fmt;fmt;fmt 9" "deflate;ZLIB" "sqlite;SQLite3" "redis;hiredis" "tls;OpenSSL" "push;CURL;CURL 7.77" "push;OpenSSL;OpenSSL 3.0")
    list(GET pair 0 component)
    list(GET pair 1 package)
    list(GET pair -1 wanted)
    if(component IN_LIST COMPONENTS)
      refuses("hailwire's component ${component} needs ${wanted}, which was not found" "-DCOMPONENTS=${component}" -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
    endif()
  endforeach()
  file(WRITE "${build}/old/asio.hpp" "")
  file(WRITE "${build}/old/asio/version.hpp" "#define ASIO_VERSION 101801 // 1.18.1\n")
  refuses("hailwire needs standalone Asio 1.22 or newer; the one in ${build}/old is older" "-DCOMPONENTS=" "-DHAILWIRE_ASIO_INCLUDE_DIR=${build}/old")
  refuses("HAILWIRE_ASIO_INCLUDE_DIR is ${build}/nowhere, which holds no asio/version.hpp" "-DCOMPONENTS=" "-DHAILWIRE_ASIO_INCLUDE_DIR=${build}/nowhere")
  foreach(file IN ITEMS LICENSE hailwire.js)
    if(NOT EXISTS "${build}/prefix/share/hailwire/${file}")
      message(FATAL_ERROR "${file} is not installed")
    endif()
  endforeach()

  # A component that is asked for and cannot be had is an error; one that is not wanted is left out although its library is there.
  execute_process(COMMAND "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -S "${SOURCE}" -B "${build}/chosen" -DHAILWIRE_DEFLATE=ON
    -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON -DHAILWIRE_BUILD_TESTS=OFF -DHAILWIRE_BUILD_EXAMPLES=OFF -DHAILWIRE_BUILD_BENCHMARKS=OFF
    RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  if(code EQUAL 0 OR NOT output MATCHES "HAILWIRE_DEFLATE is ON, and ZLIB, which hailwire::deflate needs, was not found")
    message(FATAL_ERROR "HAILWIRE_DEFLATE=ON without zlib: ${code}\n${output}")
  endif()
  run("configure without SQLite" "${CMAKE_COMMAND}" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -S "${SOURCE}" -B "${build}/without" -DHAILWIRE_SQLITE=OFF
    "-DCMAKE_INSTALL_PREFIX=${build}/bare" -DHAILWIRE_BUILD_TESTS=OFF -DHAILWIRE_BUILD_EXAMPLES=OFF -DHAILWIRE_BUILD_BENCHMARKS=OFF)
  run("install without SQLite" "${CMAKE_COMMAND}" --install "${build}/without")
  if(EXISTS "${build}/bare/include/hailwire/storage/sqlite.hpp" OR NOT EXISTS "${build}/bare/include/hailwire/server.hpp")
    message(FATAL_ERROR "HAILWIRE_SQLITE=OFF installs SQLite's headers, or not the core's")
  endif()

  # On Boost.Asio, where there is no other; then asking for the core alone is an error.
  if(BOOST)
    set(without_asio "-DHAILWIRE_ASIO_INCLUDE_DIR=${build}/nowhere")
    run("configure for Boost" ${configure} -B "${build}/on_boost" -DWAY=${WAY} "-DCMAKE_PREFIX_PATH=${build}/prefix" -DCOMPONENTS=boost ${without_asio})
    run("build on Boost" "${users_cmake}" --build "${build}/on_boost")
    run("run on Boost" "${build}/on_boost/four_transports" "${VERSION}")
  endif()

  # Without CMake: what pkg-config says is enough for a compiler.
  find_program(pkg_config pkg-config)
  if(pkg_config)
    set(ENV{PKG_CONFIG_PATH} "${build}/prefix/share/pkgconfig")
    execute_process(COMMAND "${pkg_config}" --cflags --libs hailwire OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY OUTPUT_STRIP_TRAILING_WHITESPACE)
    separate_arguments(flags UNIX_COMMAND "${flags}")
    run("compile by pkg-config" "${COMPILER}" -std=c++20 -fsyntax-only "${SOURCE}/tests/consume/project/four_transports.cpp" "-DPACKAGE_VERSION=\"\"" ${flags})
  endif()
endif()

run("configure" ${configure} -B "${build}/project" -DWAY=${WAY} "-DHAILWIRE=${SOURCE}" "-DCMAKE_PREFIX_PATH=${build}/prefix"
  -DWANTED=${VERSION} "-DCOMPONENTS=${comma_components}" -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
run("build" "${users_cmake}" --build "${build}/project")
run("run" "${build}/project/four_transports" "${VERSION}")

# The compiled library gives the same program, and of the transports what is named alone: an object each.
if(WAY STREQUAL "installed")
  run("run, compiled" "${build}/project/four_transports_compiled" "${VERSION}")
  run("run, one source file" "${build}/project/four_transports_one_file" "${VERSION}")
  execute_process(COMMAND nm -C "${build}/project/polls_alone" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  if(NOT symbols MATCHES "http_exchange::answer_poll" OR symbols MATCHES "websocket_stream|sse_stream|asio_driver")
    message(FATAL_ERROR "a program that names polls alone holds another transport, or no polls:\n${symbols}")
  endif()
  execute_process(COMMAND nm -C "${build}/project/websocket_alone" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  if(NOT symbols MATCHES "websocket_stream" OR symbols MATCHES "http_exchange::answer_poll|sse_stream|asio_driver")
    message(FATAL_ERROR "a program that names WebSocket alone holds another transport, or none:\n${symbols}")
  endif()
endif()

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
