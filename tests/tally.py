#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Sums up what tests/run left in a folder: one line for each group of tests with its seconds, then `N passed, N failed`.

A CTest test that is a whole program of test cases counts as many as its framework says there were (Catch2, unittest, node);
any other counts as one. Exit code 1 when anything failed, or when nothing ran.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as xml

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def counts_of(output):
    """(passed, failed, skipped) as a framework said in its summary; None without one."""
    output = ANSI.sub("", output)
    number = lambda pattern: int(found[-1]) if (found := re.findall(pattern, output, re.M)) else None
    if (total := number(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)")) is not None:
        return total, 0, 0
    if (total := number(r"^test cases: *(\d+)")) is not None:
        failed = number(r"^test cases:.*\| *(\d+) failed") or 0
        skipped = number(r"^test cases:.*\| *(\d+) skipped") or 0
        return total - failed - skipped, failed, skipped
    if (total := number(r"^Ran (\d+) tests? in ")) is not None:
        failed = (number(r"^FAILED \(.*failures=(\d+)") or 0) + (number(r"^FAILED \(.*errors=(\d+)") or 0)
        skipped = number(r"^(?:OK|FAILED) \(.*skipped=(\d+)") or 0
        return max(0, total - failed - skipped), failed, skipped
    if (passed := number(r"^\S* ?pass (\d+)$")) is not None and (failed := number(r"^\S* ?fail (\d+)$")) is not None:
        return passed, failed, number(r"^\S* ?skipped (\d+)$") or 0
    if found := re.findall(r"^(\d+) passed, (\d+) failed", output, re.M):
        return int(found[-1][0]), int(found[-1][1]), 0
    return None


def counts_of_test(case):
    if case.get("status") == "disabled":
        return 0, 0, 1
    if case.get("status") == "notrun":  # it chose to skip, or its program is not there
        skipped = case.find("skipped").get("message").startswith("SKIP_")
        return (0, 0, 1) if skipped else (0, 1, 0)
    passed, failed, skipped = counts_of(case.findtext("system-out") or "") or (1, 0, 0)
    if case.get("status") == "fail" and failed == 0:  # it crashed, timed out or was caught by a sanitizer
        return max(0, passed - 1), 1, skipped
    return passed, failed, skipped


def main(folder):
    rows, seconds = {}, {}

    def add(group, counts, took=0):
        rows[group] = [a + b for a, b in zip(rows.get(group, (0, 0, 0)), counts)]
        seconds[group] = seconds.get(group, 0) + took

    steps = folder / "steps.txt"
    for line in steps.read_text().splitlines() if steps.exists() else []:
        add("builds, installing, fuzzing", (1, 0, 0) if line.startswith("passed ") else (0, 1, 0))
    for path in sorted(folder.glob("*.xml")):
        for case in xml.parse(path).getroot().iter("testcase"):
            add(f"{path.stem}: {case.get('name').split('.')[0]}", counts_of_test(case), float(case.get("time") or 0))
    for group, (passed, failed, skipped) in rows.items():
        # Of its tests added up: as many at a time run as there are cores.
        took = f"{seconds[group]:6.0f} s" if seconds[group] else " " * 8
        print(f"{group:32} {took} {passed:6} passed {failed:4} failed" + (f" {skipped:4} skipped" if skipped else ""))
    passed, failed, _ = map(sum, zip(*rows.values())) if rows else (0, 0, 0)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
