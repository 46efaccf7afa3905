# hailwire::hailwire: the headers, Asio's include folder and threads. Nothing of it is compiled by itself.
# hailwire::compiled: the same, of which one library is compiled (hailwire_compiled.cmake).
# hailwire::boost: the same headers on Boost.Asio, for a program that uses that.
# hailwire::<component>: what needs a library that not everybody has; made where that library is found.

find_package(Threads REQUIRED)
include(hailwire_asio)
if(hailwire_asio_problem AND NOT "${HAILWIRE_BOOST}" STREQUAL "ON")  # who builds for Boost needs no other Asio
  message(FATAL_ERROR "${hailwire_asio_problem}")
endif()
if(POLICY CMP0167)
  cmake_policy(SET CMP0167 NEW)  # Boost's own package file, which it has had since 1.70
endif()

# <component>:<package[@oldest version], several with + between>:<imported targets, comma between>:<headers under include/hailwire, which belong to that target alone>
set(hailwire_component_table
  "boost:Boost@1.81:Boost::headers:beast.hpp"
  "fmt:fmt@9:fmt::fmt:fmt.hpp,metrics.hpp"
  "tls:OpenSSL:OpenSSL::SSL,OpenSSL::Crypto:tls.hpp,detail/tls/*.hpp,client_tls.hpp,detail/net/tls_layer.hpp"
  "jwt:cpp-jwt:cpp-jwt::cpp-jwt,OpenSSL::Crypto:jwt.hpp"
  "deflate:ZLIB:ZLIB::ZLIB:deflate.hpp,proto/deflate.hpp,client_deflate.hpp"
  "sqlite:SQLite3:SQLite::SQLite3:storage/sqlite.hpp,detail/storage/sqlite_*.hpp"
  "redis:hiredis:hiredis::hiredis:storage/redis.hpp,broker/redis.hpp,detail/redis/*.hpp"
  "push:CURL@7.77+OpenSSL@3.0:CURL::libcurl,OpenSSL::Crypto:push/webhook.hpp,push/apns.hpp,push/fcm.hpp,push/web_push.hpp,detail/push/*.hpp")

# HAILWIRE_<COMPONENT>: AUTO makes the component where its library is found, ON fails without it, OFF leaves it out. A package
# is built with ON and OFF, so that it holds what was asked for and nothing that was lying around.
foreach(component IN ITEMS BOOST FMT TLS JWT DEFLATE SQLITE REDIS PUSH)
  set(HAILWIRE_${component} AUTO CACHE STRING "Component ${component}: AUTO, ON or OFF")
  set_property(CACHE HAILWIRE_${component} PROPERTY STRINGS AUTO ON OFF)
endforeach()

set(hailwire_include_dir "${CMAKE_CURRENT_LIST_DIR}/../include")
cmake_path(NORMAL_PATH hailwire_include_dir)
file(GLOB_RECURSE hailwire_core_headers CONFIGURE_DEPENDS "${hailwire_include_dir}/*.hpp")

add_library(hailwire INTERFACE)
add_library(hailwire::hailwire ALIAS hailwire)
target_compile_features(hailwire INTERFACE cxx_std_20)
target_compile_definitions(hailwire INTERFACE ASIO_STANDALONE)
target_link_libraries(hailwire INTERFACE Threads::Threads)
# Said beside the file sets, which CMake before 3.23 does not read from an installed package.
target_include_directories(hailwire INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
if(hailwire_asio_problem)
  # hailwire::hailwire then holds the headers alone, for hailwire::boost.
elseif(TARGET asio::asio AND NOT HAILWIRE_ASIO_INCLUDE_DIR)
  target_link_libraries(hailwire INTERFACE "$<BUILD_INTERFACE:asio::asio>")
else()
  target_include_directories(hailwire SYSTEM INTERFACE "$<BUILD_INTERFACE:${HAILWIRE_ASIO_INCLUDE_DIR}>")
endif()

set(hailwire_components)
foreach(row IN LISTS hailwire_component_table)
  string(REGEX MATCH "^([^:]+):([^:]+):(.+):([^:]+)$" row "${row}")
  set(component "${CMAKE_MATCH_1}")
  set(package "${CMAKE_MATCH_2}")
  string(REPLACE "," ";" libraries "${CMAKE_MATCH_3}")
  string(REPLACE "," ";${hailwire_include_dir}/hailwire/" headers "${hailwire_include_dir}/hailwire/${CMAKE_MATCH_4}")
  string(REPLACE "+" ";" packages "${package}")
  file(GLOB headers CONFIGURE_DEPENDS ${headers})
  if(NOT headers)
    continue()
  endif()
  list(REMOVE_ITEM hailwire_core_headers ${headers})
  string(TOUPPER "HAILWIRE_${component}" wanted)
  if(NOT "${${wanted}}" MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "${wanted} is \"${${wanted}}\"; it is one of AUTO, ON and OFF")
  endif()
  if("${${wanted}}" STREQUAL "OFF")
    continue()
  endif()
  set(missing)
  foreach(package IN LISTS packages)
    string(REPLACE "@" ";" wanted_package "${package}")
    string(REGEX REPLACE "@.*" "" package "${package}")
    find_package(${wanted_package} QUIET)
    if(NOT ${package}_FOUND)
      set(missing "${package}")
      break()
    endif()
  endforeach()
  if(missing)
    if("${${wanted}}" STREQUAL "ON")
      message(FATAL_ERROR "${wanted} is ON, and ${missing}, which hailwire::${component} needs, was not found (${wanted_package})")
    endif()
    message(STATUS "hailwire::${component} left out: ${missing} not found")
    continue()
  endif()
  add_library(hailwire_${component} INTERFACE)
  add_library(hailwire::${component} ALIAS hailwire_${component})
  set_target_properties(hailwire_${component} PROPERTIES EXPORT_NAME ${component})
  target_sources(hailwire_${component} INTERFACE FILE_SET HEADERS BASE_DIRS "${hailwire_include_dir}" FILES ${headers})
  target_link_libraries(hailwire_${component} INTERFACE hailwire ${libraries})
  string(REPLACE ";" "+" packages "${packages}")
  list(APPEND hailwire_components "${component}:${packages}")
endforeach()
if(TARGET hailwire_boost)
  target_compile_definitions(hailwire_boost INTERFACE HAILWIRE_USE_BOOST_ASIO)
endif()
# The files `.ipp` come with their headers, and are compiled with them alone.
file(GLOB_RECURSE hailwire_definitions CONFIGURE_DEPENDS "${hailwire_include_dir}/*.ipp" "${hailwire_include_dir}/hailwire/src.hpp" "${hailwire_include_dir}/hailwire/detail/src/*.hpp")
list(REMOVE_ITEM hailwire_core_headers ${hailwire_definitions})
target_sources(hailwire INTERFACE FILE_SET HEADERS BASE_DIRS "${hailwire_include_dir}" FILES ${hailwire_core_headers}
  FILE_SET definitions TYPE HEADERS BASE_DIRS "${hailwire_include_dir}" FILES ${hailwire_definitions})
set_target_properties(hailwire PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
include(hailwire_compiled)

if(HAILWIRE_INSTALL)
  include(CMakePackageConfigHelpers)
  set(hailwire_package_dir "${CMAKE_INSTALL_DATADIR}/hailwire")
  install(TARGETS hailwire EXPORT hailwire_targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILE_SET definitions DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT hailwire_targets NAMESPACE hailwire:: DESTINATION "${hailwire_package_dir}")
  # A file each, so that a user who does without a component needs none of its libraries.
  foreach(row IN LISTS hailwire_components)
    string(REGEX REPLACE ":.*" "" component "${row}")
    install(TARGETS hailwire_${component} EXPORT hailwire_${component}_targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    install(EXPORT hailwire_${component}_targets NAMESPACE hailwire:: DESTINATION "${hailwire_package_dir}")
  endforeach()
  configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/hailwire-config.cmake.in" "${PROJECT_BINARY_DIR}/hailwire-config.cmake"
    INSTALL_DESTINATION "${hailwire_package_dir}")
  # Before 1.0 a minor version may change the interface.
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/hailwire-config-version.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
  install(FILES "${PROJECT_BINARY_DIR}/hailwire-config.cmake" "${PROJECT_BINARY_DIR}/hailwire-config-version.cmake"
    "${CMAKE_CURRENT_LIST_DIR}/hailwire_asio.cmake" "${CMAKE_CURRENT_LIST_DIR}/hailwire_compiled.cmake" "${CMAKE_CURRENT_LIST_DIR}/Findhiredis.cmake" DESTINATION "${hailwire_package_dir}")
  # For builds without CMake: the headers, Asio in its standalone form, threads. Components add their library's own .pc file.
  configure_file("${CMAKE_CURRENT_LIST_DIR}/hailwire.pc.in" "${PROJECT_BINARY_DIR}/hailwire.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/hailwire.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")
  install(FILES "${CMAKE_CURRENT_LIST_DIR}/../LICENSE" "${CMAKE_CURRENT_LIST_DIR}/../examples/web/hailwire.js" DESTINATION "${hailwire_package_dir}")
endif()
