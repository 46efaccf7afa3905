# SPDX-License-Identifier: BSL-1.0
"""Every C++ file is as clang-format 19 writes it: `format.py CLANG_FORMAT ROOT`. Other versions write some lines otherwise.

Prints the first line of each file that differs; exit code 1 if one does. `CLANG_FORMAT -i FILE` mends it.
"""

import concurrent.futures
import difflib
import os
import pathlib
import subprocess
import sys

FOLDERS = ("include", "tests", "examples", "benchmarks")
NOT_OURS = ("node_modules", "corpus", "build")


def files_of(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".hpp", ".cpp", ".ipp") and not set(path.relative_to(root).parts) & set(NOT_OURS):
                yield path


def first_difference(formatter, text, name):
    """The first line that the formatter changes, None without one. The style is that of the .clang-format above `name`."""
    done = subprocess.run([formatter, f"--assume-filename={name}"], input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=pathlib.Path(name).parent)
    if done.stdout == text:
        return None
    for line in difflib.unified_diff(text.splitlines(), done.stdout.splitlines(), n=0, lineterm=""):
        if line.startswith("@@"):
            return int(line.split()[1].lstrip("-").split(",")[0])
    return text.count("\n") + 1  # the last line's end


def main(formatter, root):
    root = pathlib.Path(root)
    version = subprocess.run([formatter, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert " 19." in version, version
    # That it would notice, by a text which nobody writes so.
    assert first_difference(formatter, "int  main( ) {}\n", str(root / "include/hailwire/any.hpp")) == 1
    assert first_difference(formatter, "int main() {}\n", str(root / "include/hailwire/any.hpp")) is None
    files = list(files_of(root))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        lines = list(pool.map(lambda p: first_difference(formatter, p.read_text(encoding="utf-8"), str(p)), files))
    wrong = [(p, line) for p, line in zip(files, lines) if line is not None]
    for path, line in wrong:
        print(f"{path.relative_to(root)}:{line}: is not as {formatter} -i writes it")
    print(f"{len(files)} files, {len(wrong)} of them not formatted")
    return bool(wrong) or len(files) < 50  # a wrong root would have no file


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
