#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Holds what the documentation says against what is: its C++ compiles, its commands run, its tables and links are true.

usage: docs_test.py COMPILER CHAT FOLDER_TO_WORK_IN [unittest options]; the environment's CXXFLAGS go to the compiler.

A block of C++ says after ```cpp what it is: file=PATH (that file, all but its leading comment), part=PATH (a part of that file), main (a
program, which runs after the parts before it), with=HEADER (as the next, where that header's library is there), or nothing: statements
inside a function that has `io`, `live`, `socket` and `bytes`. A block of text may say part=PATH too.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap
import unittest

root = pathlib.Path(__file__).resolve().parent.parent
compiler, chat, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
pages = [root / "README.md", root / "CHANGELOG.md", *sorted(root.glob("examples/**/README.md")), *sorted(root.glob("include/**/README.md"))]

PRELUDE = """
#include <hailwire/hailwire.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <algorithm>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <poll.h>
using all_transports = hailwire::server<hailwire::websocket, hailwire::sse, hailwire::long_poll, hailwire::short_poll>;
"""
FUNCTION = """
void block_%d([[maybe_unused]] asio::io_context& io, [[maybe_unused]] all_transports& live,
              [[maybe_unused]] asio::ip::tcp::socket& socket, [[maybe_unused]] const std::string& bytes) {
%s}
"""
LIBRARIES = {"hailwire/tls.hpp": "openssl/ssl.h", "hailwire/adopt_stream.hpp": "openssl/ssl.h", "hailwire/storage/sqlite.hpp": "sqlite3.h", "hailwire/storage/files.hpp": "sqlite3.h", "hailwire/jwt.hpp": "jwt/jwt.hpp",
             "hailwire/client.hpp": "asio.hpp", "hailwire/websocket_client.hpp": "asio.hpp", "hailwire/client_tls.hpp": "openssl/ssl.h", "hailwire/push/web_push.hpp": "curl/curl.h",
             "hailwire/broker/redis.hpp": "hiredis/hiredis.h", "hailwire/storage/redis.hpp": "hiredis/hiredis.h", "hailwire/metrics.hpp": "fmt/format.h"}
BESIDE = {"hailwire/adopt_stream.hpp": "#include <asio/ssl.hpp>\n", "hailwire/client.hpp": "#include <asio/use_future.hpp>\n",
          "hailwire/storage/files.hpp": "#include <hailwire/storage/sqlite.hpp>\n",
          "hailwire/client_tls.hpp": "#include <hailwire/client.hpp>\n"}


def blocks(page, language):
    """(what it is, its text) of each block of a language."""
    found = re.findall(r"^```" + language + r"(?: +([^\n]*))?\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [(what.strip(), text) for what, text in found]


def build(name, source, *more):
    path = work / (name + ".cpp")
    path.write_text(PRELUDE + source)
    flags = shlex.split(os.environ.get("CXXFLAGS", "")) + ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-DASIO_STANDALONE", f"-I{root / 'include'}"]
    done = subprocess.run([*shlex.split(compiler), *flags, *more, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, f"{path} does not compile:\n{done.stderr[:4000]}"


class Docs(unittest.TestCase):
    def test_every_block_of_cpp_compiles_and_programs_run(self):
        checked, functions = 0, ""
        for page in pages:
            parts = ""
            for what, text in blocks(page, "cpp"):
                checked += 1
                kind, _, path = what.partition("=")
                if kind == "file":
                    source = re.sub(r"\A(//.*\n)+", "", (root / path).read_text())
                    self.assertEqual(text, source, f"{page} shows {path} as it is not")
                elif kind == "part":
                    self.assertIn(text, (root / path).read_text(), f"{page} shows a part that {path} does not have")
                    parts += text
                    functions += text
                elif kind == "main":
                    build(f"main_{checked}", parts + text, "-pthread", "-o", str(work / f"main_{checked}"))
                    done = subprocess.run([work / f"main_{checked}"], capture_output=True, text=True, timeout=60)
                    self.assertEqual(done.returncode, 0, done.stdout)
                    self.assertIn("passed  ", done.stdout)
                elif kind == "with":
                    functions += f"#if __has_include(<{LIBRARIES[path]}>)\n#include <{path}>\n{BESIDE.get(path, str())}{FUNCTION % (checked, text)}#endif\n"
                else:
                    self.assertEqual(kind, "", f"{page} has a block of C++ that is {what}")
                    functions += FUNCTION % (checked, text)
            for what, text in blocks(page, "text"):  # a part of a function that needs somebody else's library
                if what.startswith("part="):
                    self.assertIn(textwrap.indent(text, "  "), (root / what[5:]).read_text(), f"{page} shows a part that {what[5:]} does not have")
        build("statements", functions, "-fsyntax-only")
        self.assertGreater(checked, 5)

    def test_every_command_for_the_chat_runs_against_it(self):
        commands = [line for what, text in blocks(root / "README.md", "sh") if what == "chat" for line in text.splitlines()]
        self.assertGreaterEqual(len(commands), 3)
        process = subprocess.Popen([chat, "--port", "0", "--drain-seconds", "0"], stdout=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://(.*)/", process.stdout.readline())[1]
            for command in commands:
                words = shlex.split(command.replace("127.0.0.1:8080", address))
                done = subprocess.run([*words, "--silent", "--fail", "--max-time", "1"], capture_output=True, text=True)
                # 28: a stream does not end by itself.
                self.assertIn(done.returncode, [0, 28] if "-N" in words else [0], command)
                self.assertRegex(done.stdout, "hello|\"offset\":1", command)
        finally:
            process.terminate()
            self.assertEqual(process.wait(20), 0)
            process.stdout.close()

    def test_every_option_stands_in_the_table(self):
        struct = (root / "include/hailwire/options.hpp").read_text().split("\nstruct options {")[1].split("\n};")[0]
        members = [name for line in re.findall(r"^  [\w:<>]+ (\w+(?:\{| =).*)", struct, re.M) for name in re.findall(r"(?:^|, )(\w+)(?:\{| =)", line)]
        self.assertGreater(len(members), 15)
        section = (root / "README.md").read_text().split("\n## Options\n")[1].split("\n## ")[0].split("\n```")[0]  # what follows are a rule's members
        named = [name for row in re.findall(r"^\| (`.*?) \|", section, re.M) for name in re.findall(r"`(\w+)`", row)]
        self.assertEqual(named, members)

    def test_every_hook_stands_in_the_table(self):
        hooks = set(re.findall(r"^  void (authorize|on_\w+)\(", (root / "include/hailwire/server.hpp").read_text(), re.M))
        section = (root / "README.md").read_text().split("\n## Hooks\n")[1].split("\n## ")[0]
        self.assertEqual(set(re.findall(r"^\| `(\w+)\(", section, re.M)), hooks)

    def test_the_examples_are_as_short_as_their_page_says(self):
        rows = re.findall(r"^\| \[(\w+\.cpp)\]\(.*?\) \| (\d+) \|", (root / "examples/README.md").read_text(), re.M)
        lines = {path.name: path.read_text().count("\n") for path in (root / "examples").glob("**/*.cpp")}
        self.assertEqual({name for name, _ in rows}, set(lines))
        for name, most in rows:
            self.assertLessEqual(lines[name], int(most), name)

    def test_every_link_leads_somewhere(self):
        for page in pages:
            prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
            for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", prose):
                self.assertTrue((page.parent / target).exists(), f"{page} links to {target}")

    def test_the_version_is_the_headers(self):
        header = (root / "include/hailwire/version.hpp").read_text()
        version = ".".join(re.findall(r"VERSION_(?:MAJOR|MINOR|PATCH) +(\d+)", header))
        self.assertIn(f"## {version}", (root / "CHANGELOG.md").read_text())
        self.assertIn(f"GIT_TAG v{version}", (root / "README.md").read_text())


if __name__ == "__main__":
    work.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
