# SPDX-License-Identifier: BSL-1.0
"""The Conan 2 recipe: `conan create .` packs the headers; an option and a component for each part that needs a library more."""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load
from conan.tools.layout import basic_layout

# Option and component: its headers beside the core's, and the packages whose libraries it links.
PARTS = {
    "boost": (["beast.hpp"], ["boost"]),
    "fmt": (["fmt.hpp", "metrics.hpp"], ["fmt"]),
    "tls": (["tls.hpp", "detail/tls/*", "client_tls.hpp", "detail/net/tls_layer.hpp"], ["openssl"]),
    "jwt": (["jwt.hpp"], ["cpp-jwt", "openssl"]),
    "deflate": (["deflate.hpp", "proto/deflate.hpp", "client_deflate.hpp"], ["zlib"]),
    "sqlite": (["storage/sqlite.hpp", "detail/storage/sqlite_*"], ["sqlite3"]),
    "redis": (["storage/redis.hpp", "broker/redis.hpp", "detail/redis/*"], ["hiredis"]),
    "push": (["push/webhook.hpp", "push/apns.hpp", "push/fcm.hpp", "push/web_push.hpp", "detail/push/*"], ["libcurl", "openssl"]),
}
# Package: the versions that will do, its targets, and the names under which the platform has its libraries.
PACKAGES = {
    "boost": ("[>=1.81 <2]", ["boost::headers"], []),
    "fmt": ("[>=9 <13]", ["fmt::fmt"], ["fmt"]),
    "openssl": ("[>=3.0 <4]", ["openssl::ssl", "openssl::crypto"], ["ssl", "crypto"]),
    "cpp-jwt": ("[>=1.4 <2]", ["cpp-jwt::cpp-jwt"], []),
    "libcurl": ("[>=7.77 <9]", ["libcurl::libcurl"], ["curl"]),
    "zlib": ("[>=1.2.11 <2]", ["zlib::zlib"], ["z"]),
    "sqlite3": ("[>=3.37 <4]", ["sqlite3::sqlite"], ["sqlite3"]),
    "hiredis": ("[>=0.14 <2]", ["hiredis::hiredis"], ["hiredis"]),
}


class Hailwire(ConanFile):
    name = "hailwire"
    description = "Real-time messaging inside your own C++ server: short poll, long poll, server-sent events and WebSocket"
    license = "BSL-1.0"
    topics = ("websocket", "server-sent-events", "long-polling", "messaging", "asio", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {part: [True, False] for part in PARTS}
    default_options = {part: False for part in PARTS}
    exports_sources = "include/*", "LICENSE", "examples/web/hailwire.js"
    no_copy_source = True

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "include/hailwire/version.hpp"))
        self.version = ".".join(re.findall(r"HAILWIRE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))

    def layout(self):
        basic_layout(self, src_folder=".")

    def requirements(self):
        self.requires("asio/[>=1.22 <2]")
        for package in sorted({package for part, (_, packages) in PARTS.items() if self.options.get_safe(part) for package in packages}):
            self.requires(f"{package}/{PACKAGES[package][0]}")

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        # Headers are the same for every compiler; which of them are there is what the options say.
        self.info.settings.clear()

    def package(self):
        left_out = [pattern for part, (headers, _) in PARTS.items() if not self.options.get_safe(part) for pattern in headers]
        copy(self, "*", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"),
             excludes=[f"hailwire/{pattern}" for pattern in left_out])
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "hailwire.js", os.path.join(self.source_folder, "examples/web"), os.path.join(self.package_folder, "share/hailwire"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "hailwire")
        core = self.cpp_info.components["core"]
        core.set_property("cmake_target_name", "hailwire::hailwire")
        core.set_property("pkg_config_name", "hailwire")
        core.bindirs, core.libdirs = [], []
        core.defines = ["ASIO_STANDALONE"]
        core.system_libs = ["pthread"]
        # What the platform brings ([platform_requires] in a profile) has no targets: its libraries are linked by name.
        packed = {dependency.ref.name for dependency in self.dependencies.host.values()}
        core.requires = ["asio::asio"] if "asio" in packed else []
        for part, (_, packages) in PARTS.items():
            if self.options.get_safe(part):
                component = self.cpp_info.components[part]
                component.set_property("cmake_target_name", f"hailwire::{part}")
                component.bindirs, component.libdirs = [], []
                if part == "boost":
                    component.defines = ["HAILWIRE_USE_BOOST_ASIO"]
                component.requires = ["core"] + [target for name in packages if name in packed for target in PACKAGES[name][1]]
                component.system_libs = [library for name in packages if name not in packed for library in PACKAGES[name][2]]
