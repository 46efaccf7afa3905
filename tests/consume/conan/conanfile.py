# SPDX-License-Identifier: BSL-1.0
"""`conan create . --test-folder tests/consume/conan`: the consumer project of this folder, built against the package."""

import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout


class Consumer(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    test_type = "explicit"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self, src_folder="../project")

    def generate(self):
        CMakeDeps(self).generate()
        package = self.dependencies["hailwire"]
        parts = [part for part in ("tls", "jwt", "deflate", "sqlite", "redis", "push") if package.options.get_safe(part)]
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False
        toolchain.cache_variables.update(WAY="installed", WANTED=str(package.ref.version), COMPONENTS=",".join(parts))
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            self.run(f"{os.path.join(self.cpp.build.bindir, 'four_transports')} {self.dependencies['hailwire'].ref.version}")
