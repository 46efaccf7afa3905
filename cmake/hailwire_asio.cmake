# Finds standalone Asio: a target asio::asio that the including project has already, or a folder of headers,
# HAILWIRE_ASIO_INCLUDE_DIR; in hailwire_asio_problem, why it will not do. Used where the library is built and, as a part of
# the installed package, where it is found.
set(hailwire_asio_problem)
if(TARGET asio::asio AND NOT HAILWIRE_ASIO_INCLUDE_DIR)
  return()
endif()
find_path(HAILWIRE_ASIO_INCLUDE_DIR asio.hpp DOC "Folder that holds the standalone asio.hpp")
if(NOT HAILWIRE_ASIO_INCLUDE_DIR)
  set(hailwire_asio_problem "hailwire needs standalone Asio 1.22 or newer (Debian: libasio-dev); set HAILWIRE_ASIO_INCLUDE_DIR to the folder that holds asio.hpp, or make a target asio::asio first")
elseif(NOT EXISTS "${HAILWIRE_ASIO_INCLUDE_DIR}/asio/version.hpp")
  set(hailwire_asio_problem "HAILWIRE_ASIO_INCLUDE_DIR is ${HAILWIRE_ASIO_INCLUDE_DIR}, which holds no asio/version.hpp; it is the folder that holds asio.hpp and the folder asio")
else()
  # 1.22.1 is written 102201.
  file(STRINGS "${HAILWIRE_ASIO_INCLUDE_DIR}/asio/version.hpp" hailwire_asio_version REGEX "define ASIO_VERSION [0-9]+")
  string(REGEX REPLACE ".*ASIO_VERSION ([0-9]+).*" "\\1" hailwire_asio_version "${hailwire_asio_version}")
  if(hailwire_asio_version LESS 102200)
    set(hailwire_asio_problem "hailwire needs standalone Asio 1.22 or newer; the one in ${HAILWIRE_ASIO_INCLUDE_DIR} is older (ASIO_VERSION ${hailwire_asio_version})")
  endif()
endif()
