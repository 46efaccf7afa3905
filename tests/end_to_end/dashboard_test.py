#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""What a person sees of a running chat: promtool finds nothing wrong with the page of metrics, and a Prometheus that scraped a chat
with clients on all transports has an answer for every query of the dashboard."""

import asyncio
import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import unittest
import urllib.parse

from chat_clients import Bare, Late, ROOT, SECURE, WithChat, publish, quote, request, soon

DASHBOARD = ROOT / "examples/dashboard/hailwire.json"


def queries():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Metrics(WithChat):
    async def get(self, path, *headers):
        bare = await Bare.open(self.chat)
        try:
            return await bare.ask(request("GET", path, *headers))
        finally:
            bare.close()

    async def busy(self):
        """Followers on all transports, refusals, a gap that is none: what a chat does in a day."""
        self.followers = [await self.follow(t) for t in ("sse", "ndjson", "websocket")]
        bare = await Bare.open(self.chat)
        for i in range(200):
            status, *_ = await bare.ask(request("POST", f"/live?channel={quote(self.room)}", "Content-Type: application/json", body=b"%d" % i))
            self.assertEqual(status, 201)
        bare.close()
        for follower in self.followers:
            await follower.take(200)
        for path in ("/nowhere", f"/live?channel={quote(self.room)}&since=earliest"):
            await self.get(path)

    async def test_promtool_finds_nothing_wrong_with_the_page(self):
        await self.busy()
        status, headers, page = await self.get("/metrics")
        self.assertEqual(status, 200)
        checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, b""))
        self.assertNotIn(self.room.encode(), page)

    async def test_the_counters_are_what_the_clients_know(self):
        await self.busy()
        _, _, page = await self.get("/metrics")
        numbers = dict(line.rsplit(" ", 1) for line in page.decode().splitlines() if not line.startswith("#"))
        self.assertEqual(numbers["hailwire_messages_published_total"], "200")
        self.assertEqual(numbers["hailwire_deliveries_total"], str(200 * 3 + 200))  # the poll's too
        for transport in ("sse", "ndjson", "websocket"):
            self.assertEqual(numbers[f'hailwire_sessions{{transport="{transport}"}}'], "1")
        self.assertEqual(numbers['hailwire_sessions_opened_total{transport="short_poll"}'], "1")
        self.assertEqual(numbers['hailwire_refusals_total{code="not_found"}'], "1")
        self.assertEqual(numbers["hailwire_slow_subscriptions"], "0")

    async def test_metrics_are_not_for_who_comes_through_a_proxy(self):
        self.assertEqual((await self.get("/metrics", "X-Forwarded-For: 192.0.2.1"))[0], 403)
        for path in ("/healthz", "/readyz"):
            self.assertEqual((await self.get(path, "X-Forwarded-For: 192.0.2.1"))[0], 200)

    @contextlib.asynccontextmanager
    async def prometheus(self):
        """A Prometheus that scrapes the chat, and has done so often enough for a rate: `ask(query)` gives (labels, value) of each series."""
        with tempfile.TemporaryDirectory() as folder:
            scheme = "https" if SECURE else "http"
            config = (ROOT / "examples/dashboard/prometheus.yml").read_text().replace("5s", "200ms").replace("127.0.0.1:8080", self.chat.host)
            config += f"    scheme: {scheme}\n" + ("    tls_config: {insecure_skip_verify: true}\n" if SECURE else "")
            pathlib.Path(folder, "prometheus.yml").write_text(config)
            at = f"127.0.0.1:{free_port()}"
            process = await asyncio.create_subprocess_exec(
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={at}", "--log.level=error",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)

            async def ask(query):
                query = query.replace("$__rate_interval", "1m").replace('"$instance"', '".*"')
                curl = await asyncio.create_subprocess_exec("curl", "-s", f"http://{at}/api/v1/query?" + urllib.parse.urlencode({"query": query}), stdout=asyncio.subprocess.PIPE)
                out = (await curl.communicate())[0]
                if not out.startswith(b"{"):
                    return []  # it does not listen yet
                answer = json.loads(out)
                self.assertEqual(answer["status"], "success", (query, answer))
                return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

            async def scraped():
                seen = []
                while not seen or seen[0][1] < 5:
                    await publish(self.chat, self.room, "more")
                    self.assertIsNone(process.returncode, "prometheus has ended")
                    seen = await ask("count_over_time(hailwire_connections[1m])")

            try:
                await soon(scraped(), 60)
                yield ask
            finally:
                if process.returncode is None:
                    process.terminate()
                await soon(process.wait())

    async def test_every_query_of_the_dashboard_has_an_answer(self):
        await self.busy()
        async with self.prometheus() as ask:
            for title, query in queries():
                with self.subTest(title):
                    self.assertTrue(await ask(query), f"nothing for {query}")
            self.assertEqual([value for _, value in await ask('hailwire_sessions{transport="websocket"}')], [1])

    async def never_read(self):
        bare = await Bare.open(self.chat)
        bare.writer.transport.pause_reading()
        bare.writer.write(request("GET", f"/live?channel={quote(self.room)}", "Accept: text/event-stream"))
        for _ in range(20):  # more than both systems hold of a connection
            await publish(self.chat, self.room, "x" * 900_000)
        return bare

    async def test_what_is_wrong_is_to_be_seen(self):
        """Trouble of three kinds, and the panels of which somebody sees it: none shows any before."""
        panels = {title: query for title, query in queries() if title in ("Gaps a second", "Refusals a second")}
        panels["Slow readers"] = next(query for title, query in queries() if title == "Slow readers")
        async with self.prometheus() as ask:
            def sees(panel, series):
                return any(value > 0 and ("code" not in labels or labels["code"] == "rate_limited") for labels, value in series)

            for panel, query in panels.items():
                self.assertFalse(sees(panel, await ask(query)), panel)
            slow = await self.never_read()
            await self.follow("sse", since="elsewhere.5")  # a cursor of another life
            eager = await Bare.open(self.chat)
            commands = json.dumps([{"id": i, "history": {"channel": "calm"}} for i in range(64)]).encode()
            for _ in range(60):  # at once
                eager.writer.write(request("POST", "/live?user=eager", "Content-Type: application/json", body=commands))
            for _ in range(60):
                self.assertIn((await eager.answer())[0], (200, 429))
            eager.close()
            missing = set(panels)

            async def seen():
                while missing:
                    for panel in sorted(missing):
                        if sees(panel, await ask(panels[panel])):
                            missing.discard(panel)

            with contextlib.suppress(TimeoutError, Late):
                await soon(seen(), 60)
            self.assertEqual(missing, set())
            slow.writer.transport.abort()

    def test_every_metric_that_a_query_names_is_on_the_page_and_every_panel_says_what_is_wrong(self):
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            self.assertTrue(panel["description"].strip().endswith("."), panel["title"])


if __name__ == "__main__":
    unittest.main()
