// SPDX-License-Identifier: BSL-1.0
//
// Everything of hailwire's that is not a template, compiled by its user.

#include <hailwire/src.hpp>
