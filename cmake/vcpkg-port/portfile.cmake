# An overlay port that packs the checkout in which it lies: vcpkg install hailwire[tls,sqlite] --overlay-ports=cmake/vcpkg-port
set(VCPKG_BUILD_TYPE release) # headers
cmake_path(SET SOURCE_PATH NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../..")

# A package holds what was asked for and nothing that was lying around: each component is ON or OFF, never AUTO.
set(components)
foreach(feature IN ITEMS boost fmt tls jwt deflate sqlite redis push)
  string(TOUPPER "HAILWIRE_${feature}" option)
  if(feature IN_LIST FEATURES)
    list(APPEND components "-D${option}=ON")
  else()
    list(APPEND components "-D${option}=OFF")
  endif()
endforeach()

vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS ${components} -DHAILWIRE_BUILD_TESTS=OFF -DHAILWIRE_BUILD_EXAMPLES=OFF -DHAILWIRE_BUILD_BENCHMARKS=OFF -DHAILWIRE_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/hailwire)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
