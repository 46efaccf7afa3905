#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs a Python test that may hang, and says where it stands when it does: `watchdog.py SECONDS SCRIPT ARGUMENT...`

CTest ends what is over its time limit without a word. So the limit stands here, and CTest's own some seconds behind it. When it
is over: the stack of each thread, and of each task of asyncio, whose stacks faulthandler does not know; then exit code 1, and the
processes that the test started are killed.

`watchdog.py --self-test` hangs in three ways, each of which must be named.
"""

import asyncio
import contextlib
import faulthandler
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import threading


def children_of(pid):
    """All processes below `pid`, the nearest first."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children_of(child)]
    return found


def say_where_it_stands(seconds):
    print(f"\nthe watchdog: not ended after {seconds:g} s; it stands here:", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.stderr)
    # There is no list of loops, but each task knows its own. A task may end while this thread looks.
    # (The set of all tasks has had two names: Python 3.14 has the second.)
    for task in list(getattr(asyncio.tasks, "_all_tasks", None) or getattr(asyncio.tasks, "_scheduled_tasks", ())):
        with contextlib.suppress(Exception):
            if not task.done():
                print(f"\n{task.get_name()}, cancelled {task.cancelling()} times: {task.get_coro().__qualname__}", file=sys.stderr)
                say_chain(task.get_coro())
    sys.stderr.flush()


def say_chain(coroutine):
    """From the outermost coroutine to the one that waits; Task.print_stack shows only the outermost."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is None:
            print(f"  waits for {coroutine!r}", file=sys.stderr)
            return
        print(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}", file=sys.stderr)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None) or getattr(coroutine, "ag_await", None)


def watch(seconds):
    def late():
        try:
            say_where_it_stands(seconds)
        finally:
            for child in children_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os._exit(1)

    # Should the interpreter itself be stuck, no thread of it runs: faulthandler's has no need of it.
    faulthandler.dump_traceback_later(seconds + 5, exit=True)
    timer = threading.Timer(seconds, late)
    timer.daemon = True
    timer.start()
    return timer


HANGS = {
    "a task that swallows a cancel": ("""
import asyncio
async def deaf():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
async def main():
    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task)
asyncio.run(main())""", "in deaf"),
    "a read that nobody answers": ("""
import socket
def read_for_ever():
    a, b = socket.socketpair()
    a.recv(1)
read_for_ever()""", "in read_for_ever"),
    "a child that does not end": ("""
import subprocess
def wait_for_child():
    subprocess.run(["cat"], stdin=open("/dev/zero"), stdout=subprocess.DEVNULL)
wait_for_child()""", "in wait_for_child"),
}


def self_test():
    import tempfile

    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder) / "hang.py"
        for name, (text, said) in HANGS.items():
            script.write_text(text)
            done = subprocess.run([sys.executable, __file__, "1", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            if done.returncode != 1 or said not in done.stdout:
                wrong.append(f"{name}: ended with {done.returncode} and did not say {said!r}:\n{done.stdout}")
        script.write_text("import sys\nassert sys.argv[1:] == ['a', 'b'] and __name__ == '__main__'\nsys.exit(3)")
        if (code := subprocess.run([sys.executable, __file__, "60", str(script), "a", "b"], timeout=60).returncode) != 3:
            wrong.append(f"a script that ends by itself with 3 ended with {code}")
    print("\n".join(wrong) if wrong else f"{len(HANGS)} hangs, each named")
    return bool(wrong)


def main(words):
    if words == ["--self-test"]:
        return self_test()
    timer = watch(float(words[0]))
    sys.argv = words[1:]
    sys.path[0] = str(pathlib.Path(words[1]).resolve().parent)
    runpy.run_path(words[1], run_name="__main__")
    timer.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
