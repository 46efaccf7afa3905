// SPDX-License-Identifier: BSL-1.0
#pragma once

// The one place a version is written. CMake, the package recipes and the tests read these three lines.
#define HAILWIRE_VERSION_MAJOR 0
#define HAILWIRE_VERSION_MINOR 1
#define HAILWIRE_VERSION_PATCH 0
