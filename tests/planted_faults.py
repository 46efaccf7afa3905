# SPDX-License-Identifier: BSL-1.0
"""The loop of both lists of planted faults, kill_list.py here and simulation/kill_list.py: each fault replaces a text of a header,
which is patched beside the source tree; a program is compiled against it and must fail. A text that is not in its header
exactly once is an error: the lists have to follow the code.
"""
import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import time


@dataclasses.dataclass
class Fault:
    name: str
    header: str  # below include/hailwire; its definitions count as a part of it
    old: str
    new: str
    source: str  # of the program that must fail, below tests
    flags: tuple = ()  # for the compiler
    link: tuple = ()  # what else is linked
    arguments: tuple = ()  # of the program


def arguments():
    """What both lists take; each adds its own."""
    out = argparse.ArgumentParser()
    out.add_argument("--compiler", default="g++")
    out.add_argument("--launcher", default="")
    out.add_argument("--source", type=pathlib.Path, required=True)
    out.add_argument("--build", type=pathlib.Path, required=True)
    out.add_argument("--jobs", type=int, default=os.cpu_count())
    out.add_argument("--only", default="", help="only faults in whose name this regular expression is found")
    out.add_argument("--most", type=int, default=0, help="only so many, spread over the list; 0: all")
    return out


def plant(fault, args, seconds, said):
    """(whether the program failed, what there is to tell). `said` makes a line of the program's exit code and output."""
    started = time.monotonic()
    # A header and its definitions (`.ipp`) are one file here: a function may move from one to the other.
    files = {path: path.read_text() for path in (args.source / "include/hailwire" / fault.header).parent.glob(pathlib.Path(fault.header).stem + ".[hi]pp")}
    if sum(text.count(fault.old) for text in files.values()) != 1:
        return False, f"its text stands {sum(text.count(fault.old) for text in files.values())} times in {fault.header} and what it declares"
    place = args.build / re.sub(r"\W+", "_", fault.name)
    patched = place / "hailwire" / fault.header
    patched.parent.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        patched.with_suffix(path.suffix).write_text(text.replace(fault.old, fault.new))
    # Its directory comes first, so that this one header is found there and all others where they are.
    built = subprocess.run([*args.launcher.split(), args.compiler, "-std=c++20", "-DASIO_STANDALONE", *fault.flags, f"-I{place}", f"-I{args.source}/include",
                            f"-I{args.source}/tests", str(args.source / "tests" / fault.source), "-c", "-o", str(place / "program.o")],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if built.returncode:
        return False, "it does not compile:\n" + built.stdout
    subprocess.run([args.compiler, str(place / "program.o"), "-o", str(place / "program"), "-pthread", *fault.link], check=True)
    compiled = time.monotonic()
    try:
        ran = subprocess.run([str(place / "program"), *fault.arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return True, "caught: it never ends"
    took = f" ({compiled - started:.0f} s to build, {time.monotonic() - compiled:.1f} s to run)"
    if ran.returncode == 0:
        return False, f"not noticed by {fault.source} {' '.join(fault.arguments)}" + took
    return True, f"caught: {said(ran.returncode, ran.stdout)}" + took


def run(faults, args, seconds, said):
    """Tries those that `args` choose, prints a line for each; the exit code."""
    faults = [f for f in faults if re.search(args.only, f.name)]
    if args.most:
        most = min(args.most, len(faults))
        faults = [faults[i * len(faults) // most] for i in range(most)]
    caught = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for fault, (fine, what) in zip(faults, pool.map(lambda f: plant(f, args, seconds, said), faults)):
            caught += fine
            print(f"{'ok  ' if fine else 'FAIL'} {fault.name}: {what}", flush=True)
    print(f"{caught} of {len(faults)} planted faults were caught")
    return 0 if caught == len(faults) and faults else 1
