#!/usr/bin/python3
# SPDX-License-Identifier: BSL-1.0
"""The command line hw against the chat, with everything between them going wrong: the server killed, drained and stopped, the
connections cut at any byte, answers lost, proxies that know no WebSocket or hold event streams back. Nothing may be lost,
nothing repeated, and each line published once, in order.

HAILWIRE_HW names the binary, HAILWIRE_HW_LINES how many lines are piped through it (20,000) while the server is killed three
times, HAILWIRE_HW_SEED decides where connections are cut.
"""

import asyncio
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import unittest

from chat_clients import CHAT, OPTIONS, ROOT, Chat, Mortal, end, soon

HW = os.environ.get("HAILWIRE_HW", str(ROOT / "build/release/examples/hw"))
LINES = int(os.environ.get("HAILWIRE_HW_LINES", 20_000))
SEED = int(os.environ.get("HAILWIRE_HW_SEED", 1))
TRANSPORTS = ("websocket", "sse", "long_poll", "short_poll")
PATIENCE = 120  # seconds for what waits for a disk that others use too
ROOM = "the room"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
CLEAN = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and name != "NO_COLOR"}


class Wire:
    """A proxy of bytes that does harm: it cuts a connection after so many bytes from the server, whatever they are the middle of."""

    def __init__(self, port, harm):
        self.to, self.harm, self.open, self.harmed = port, harm, set(), 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            return writer.transport.abort()
        self.open |= {writer, far_writer}
        left = self.harm()

        async def pass_on(source, target, counts):
            nonlocal left
            try:
                while data := await source.read(65536):
                    if counts and left is not None and len(data) > left:
                        target.write(data[:left])
                        await target.drain()
                        self.harmed += 1
                        break
                    if counts and left is not None:
                        left -= len(data)
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            for one in (writer, far_writer):
                one.close() if left is None else one.transport.abort()

        await asyncio.gather(pass_on(reader, far_writer, False), pass_on(far_reader, writer, True))
        self.open -= {writer, far_writer}


class Tail:
    """hw tail, and what it has printed."""

    def __init__(self, url, *options):
        self.url, self.options, self.heard, self.more = url, options, [], asyncio.Event()

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(HW, "tail", self.url, ROOM, "--since", "earliest", *self.options,
                                                            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=CLEAN, limit=1 << 22)
        self.tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.complain())]
        self.complaints = []
        return self

    async def listen(self):
        while line := await self.process.stdout.readline():
            self.heard.append(json.loads(line))
            self.more.set()

    async def complain(self):
        while line := await self.process.stderr.readline():
            self.complaints.append(line.decode().strip())

    async def until(self, count):
        while len(self.heard) < count:
            self.more.clear()
            await soon(self.more.wait(), PATIENCE)

    async def __aexit__(self, kind, value, trace):
        if value:
            print(f"{len(self.heard)} heard; {self.complaints[-5:]}")
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        code = await soon(self.process.wait())
        await end(*self.tasks)
        assert value or code in (0, 130), code


async def publish(url, lines, *options):
    """hw publish with these lines piped in: its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(HW, "publish", url, ROOM, *options, stdin=asyncio.subprocess.PIPE,
                                                   stderr=asyncio.subprocess.PIPE, env=CLEAN)
    text = "".join(line + "\n" for line in lines).encode()
    _, said = await soon(process.communicate(text), 4 * PATIENCE)
    return process.returncode, said.decode()


def numbered(count, by=""):
    """Lines, and the data that they are to arrive as: JSON values as they are, all else as strings."""
    lines = [json.dumps({"n": n, "by": by}) if n % 2 else f"line {n} {by}" for n in range(count)]
    return lines, [json.loads(line) if n % 2 else line for n, line in enumerate(lines)]


def run(*arguments, **how):
    return subprocess.run([HW, *arguments], capture_output=True, text=True, timeout=60, **{"env": CLEAN, "stdin": subprocess.DEVNULL, **how})


class Faults(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.random, self.harmed = random.Random(SEED), 0

    def chat(self):
        return Mortal("--history", "100000", "--storage", f"sqlite:{self.folder.name}/chat.db")

    def check(self, tail, data):
        heard = [it["data"] for it in tail.heard]
        self.assertEqual(len(heard), len(data))
        self.assertEqual(heard, data)
        self.assertEqual([it["offset"] for it in tail.heard], list(range(1, len(data) + 1)))

    async def test_every_line_arrives_once_and_in_order_while_the_server_is_killed(self):
        lines, data = numbered(LINES)
        async with self.chat() as chat:
            url = chat.url(user="t")
            async with Tail(url) as tail:
                publishing = asyncio.create_task(publish(url, lines))
                for part in range(1, 4):
                    await tail.until(LINES * part // 4)
                    await chat.kill()
                    await chat.restart()
                code, said = await publishing
                self.assertEqual(code, 0, said)
                await tail.until(LINES)
                self.check(tail, data)
            self.assertGreaterEqual(sum("trying again" in line for line in tail.complaints), 3)

    async def under(self, harm, transport, count=120):
        """Publishes and follows over one transport while `harm(chat, tail)` does what it does."""
        lines, data = numbered(count, transport)
        async with self.chat() as chat:
            url = chat.url(user="t")
            async with Tail(url, "--transport", transport) as tail:
                publishing = asyncio.create_task(publish(url, lines, "--transport", transport))
                await harm(chat, tail, count)
                code, said = await publishing
                self.assertEqual(code, 0, said)
                await tail.until(count)
                self.check(tail, data)

    async def test_a_server_that_is_killed(self):
        async def harm(chat, tail, count):
            for part in (1, 2):
                await tail.until(count * part // 3)
                await chat.kill()
                await chat.restart()

        for transport in TRANSPORTS:
            with self.subTest(transport):
                await self.under(harm, transport)
                os.remove(self.folder.name + "/chat.db")

    async def test_a_server_that_drains(self):
        async def harm(chat, tail, count):
            for part in (1, 2):
                await tail.until(count * part // 3)
                await chat.drain()
                await chat.restart()

        for transport in TRANSPORTS:
            with self.subTest(transport):
                await self.under(harm, transport)
                os.remove(self.folder.name + "/chat.db")

    async def test_a_server_that_stands_still_for_thirty_seconds(self):
        async def one(transport):
            lines, data = numbered(60, transport)
            async with Mortal("--history", "1000") as chat:
                url = chat.url(user="t")
                async with Tail(url, "--transport", transport) as tail:
                    code, said = await publish(url, lines[:30], "--transport", transport)
                    self.assertEqual(code, 0, said)
                    await tail.until(30)
                    chat.process.send_signal(signal.SIGSTOP)
                    publishing = asyncio.create_task(publish(url, lines[30:], "--transport", transport))
                    await asyncio.wait({publishing}, timeout=30)
                    self.assertFalse(publishing.done())
                    chat.process.send_signal(signal.SIGCONT)
                    code, said = await publishing
                    self.assertEqual(code, 0, said)
                    await tail.until(60)
                    self.check(tail, data)

        await asyncio.gather(*map(one, TRANSPORTS))

    async def through(self, harm, transport, count=80):
        lines, data = numbered(count, transport)
        async with Mortal("--history", "1000") as chat, Wire(chat.port, harm) as wire:
            url = f"http://127.0.0.1:{wire.port}/live?user=t"
            async with Tail(url, "--transport", transport) as tail:
                code, said = await publish(url, lines, "--transport", transport)
                self.assertEqual(code, 0, said)
                await tail.until(count)
                self.check(tail, data)
        self.harmed += wire.harmed

    async def test_connections_that_are_cut_at_any_byte(self):
        def harm():
            return self.random.randrange(100, 20_000)  # a poll's answer has all that was missed, and must get through once

        for transport in TRANSPORTS:
            with self.subTest(transport):
                await self.through(harm, transport)
        self.assertGreater(self.harmed, 4)

    async def test_answers_that_are_lost(self):
        """The server has done what it was asked, and its answer does not arrive, not one byte of it."""
        def harm():
            return self.random.choice([0, 12_000, 12_000])

        for transport in TRANSPORTS:
            with self.subTest(transport):
                await self.through(harm, transport)
        self.assertGreater(self.harmed, 4)

    async def behind_nginx(self, location, transports):
        folder = pathlib.Path(self.folder.name)
        lines, data = numbered(60)
        async with Mortal("--history", "1000") as chat:
            port = await free_port()
            (folder / "nginx.conf").write_text(
                f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\nhttp {{ access_log off;\n"
                + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{chat.port}; {location} }} }} }}\n")
            nginx = await asyncio.create_subprocess_exec(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"))
            try:
                url = f"http://127.0.0.1:{port}/live?user=t"
                async with Tail(url, *transports) as tail:
                    code, said = await publish(url, lines, *transports)
                    self.assertEqual(code, 0, said)
                    await tail.until(60)
                    self.check(tail, data)
            finally:
                nginx.terminate()
                await soon(nginx.wait())

    @unittest.skipUnless(os.access(NGINX, os.X_OK), "no nginx")
    async def test_a_proxy_that_knows_no_websocket(self):
        await self.behind_nginx("proxy_buffering off;", [])

    @unittest.skipUnless(os.access(NGINX, os.X_OK), "no nginx")
    async def test_a_proxy_that_holds_event_streams_back(self):
        await self.behind_nginx("proxy_http_version 1.1; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;", [])


async def free_port():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class CommandLine(unittest.IsolatedAsyncioTestCase):
    async def test_history_of_what_was_published_and_a_tail_that_ends(self):
        async with Chat() as chat:
            url = chat.url(user="t")
            file = tempfile.NamedTemporaryFile("w", suffix=".txt")
            file.write('{"a": 1}\nplain\n"text"\n\nno end')
            file.flush()
            done = await asyncio.to_thread(run, "publish", url, ROOM, file.name, "--type", "note")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
            done = await asyncio.to_thread(run, "history", url, ROOM, "--limit", "3")
            messages = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual([it["data"] for it in messages], ["text", "", "no end"])
            self.assertEqual({it["type"] for it in messages}, {"note"})
            done = await asyncio.to_thread(run, "history", url, ROOM, "--before", "2")
            self.assertEqual([json.loads(line)["data"] for line in done.stdout.splitlines()], [{"a": 1}])
            cursor = file.name + ".cursor"
            self.addCleanup(lambda: pathlib.Path(cursor).unlink(missing_ok=True))
            heard = []
            for count in ("2", "3"):  # a second run goes on where the first has ended
                done = await asyncio.to_thread(run, "tail", url, ROOM, "--since", "earliest", "--cursor", cursor, "--count", count)
                self.assertEqual(done.returncode, 0, done.stderr)
                heard += [json.loads(line)["offset"] for line in done.stdout.splitlines()]
            self.assertEqual(heard, [1, 2, 3, 4, 5])

    async def test_soak_counts_what_arrives(self):
        async with Chat() as chat:
            done = await asyncio.to_thread(run, "soak", chat.url(user="t"), ROOM, "--clients", "20", "--rate", "50", "--seconds", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
            told = json.loads(done.stdout)
            self.assertEqual((told["clients"], told["open"], told["lost"], told["refused"]), (20, 20, 0, 0))
            self.assertEqual(told["received"], 20 * told["published"])
            self.assertEqual((told["fewest"], told["most"], told["gaps"]), (told["published"], told["published"], 0))
            self.assertGreater(told["published"], 50)
            self.assertIn("messages/s", done.stderr)

    async def test_soak_can_be_a_user_for_each_client(self):
        async with Chat() as chat:
            done = await asyncio.to_thread(run, "soak", chat.url(user="t-") + "{n}", ROOM, "--clients", "3", "--rate", "20", "--seconds", "1")
            self.assertEqual(done.returncode, 0, done.stderr)
            said = await asyncio.to_thread(run, "history", chat.url(user="t"), ROOM)
            self.assertEqual({json.loads(line)["from"] for line in said.stdout.splitlines()}, {"t-1", "t-2", "t-3"})

    async def test_exit_codes_tell_what_happened(self):
        async with Chat() as chat:
            done = await asyncio.to_thread(run, "publish", chat.url(user="t"), "@bob", input="1\n", stdin=None)
            self.assertIn(done.returncode, (0, 3), done.stderr)  # who may publish to an inbox is the host's business
            done = await asyncio.to_thread(run, "tail", chat.url(user="t"), "@bob")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn("forbidden", done.stderr)
            done = await asyncio.to_thread(run, "tail", chat.url(user="t") + "%ff", ROOM, "--timeout", "1")
            self.assertNotEqual(done.returncode, 0)
        done = run("tail", f"http://127.0.0.1:{chat.port}/live", ROOM, "--timeout", "0.5")
        self.assertEqual(done.returncode, 4)
        self.assertIn("not reached in time", done.stderr)
        for words in (["tail"], ["tail", "nowhere", "x"], ["tail", "http://h/", "x", "--since", "never"], ["publish", "http://h/", "x", "/no/file"],
                      ["nothing"], [], ["tail", "http://h/", "x", "--transport", "pigeon"]):
            done = run(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("hw: ", done.stderr)
            self.assertEqual(done.stdout, "")

    def test_help_is_enough(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("tail", "publish", "history", "presence", "soak", "completion", "Exit codes", "NO_COLOR", "http_proxy"):
            self.assertIn(word, done.stdout)
        for command in ("tail", "publish", "history", "presence", "soak"):
            self.assertIn("--transport", run(command, "--help").stdout)
        self.assertRegex(run("--version").stdout, r"^hw \d+\.\d+\.\d+\n$")

    def test_bash_completes(self):
        script = 'source <("$0" completion); COMP_WORDS=(hw ta); COMP_CWORD=1; _hw; echo "${COMPREPLY[@]}"; ' \
                 'COMP_WORDS=(hw tail u c --si); COMP_CWORD=4; _hw; echo "${COMPREPLY[@]}"; ' \
                 'COMP_WORDS=(hw tail u c --transport s); COMP_CWORD=5; _hw; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script, HW], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.splitlines(), ["tail", "--since", "sse short_poll"])

    @unittest.skipUnless(shutil.which("script"), "no script(1), which makes a terminal")
    async def test_a_person_sees_colour_and_progress_and_a_pipe_does_not(self):
        async with Chat() as chat:
            command = f"seq 200 | {HW} publish '{chat.url(user='t')}' '{ROOM}'; {HW} tail '{chat.url(user='t')}' @bob"
            for more, colour in (({}, True), ({"NO_COLOR": "1"}, False)):
                done = await asyncio.to_thread(subprocess.run, ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=60,
                                               stdin=subprocess.DEVNULL, env={**CLEAN, **more, "TERM": "xterm"})
                self.assertIn("200 published", done.stdout)
                self.assertIn("forbidden", done.stdout)
                self.assertEqual("\x1b[31m" in done.stdout, colour)
            done = await asyncio.to_thread(run, "tail", chat.url(user="t"), "@bob")
            self.assertNotIn("\x1b", done.stderr)


if __name__ == "__main__":
    unittest.main()
