# SPDX-License-Identifier: BSL-1.0
"""Every test that tests/README.md names exists: test cases in quotes, conformance cases in backticks."""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import http_cases  # noqa: F401, E402: registers its cases
from websocket_cases import cases  # noqa: E402

tests = os.path.join(HERE, "..", "..")
names = set()
for folder, _, files in os.walk(tests):
    for file in files:
        if file.endswith("_test.cpp"):
            with open(os.path.join(folder, file)) as source:
                names |= set(re.findall(r'^(?:TEST_CASE|TEMPLATE_TEST_CASE)\("(.*?)"', source.read(), re.M))
with open(os.path.join(tests, "README.md")) as page:
    rows = page.read().split("## Rules, and the tests that hold them")[1].split("\n## ")[0]
wrong, count = [], 0
for row in re.findall(r"^\| .* \| (.*) \|$", rows, re.M):
    found = re.findall(r'"(.*?)"|`(.*?)`', row)
    count += len(found)
    if row not in ("tests",) and not found:
        wrong.append(f"no test: {row}")
    wrong += [f"no test case {claim!r}" for claim, _ in found if claim and claim not in names]
    wrong += [f"no conformance case {case!r}" for _, case in found if case and case not in cases]
assert count > 100, "the tables cannot be read"
print(f"{count} tests named", *wrong, sep="\n")
sys.exit(1 if wrong else 0)
