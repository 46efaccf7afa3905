#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""What a person sees of a running chat: promtool finds nothing wrong with the page of metrics, and a Prometheus that scraped a chat
with clients on all transports has an answer for every query of the dashboard."""

import asyncio
import json
import pathlib
import socket
import subprocess
import tempfile
import unittest
import urllib.parse

from chat_clients import Bare, ROOT, SECURE, WithChat, publish, quote, request, soon

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

    async def test_every_query_of_the_dashboard_has_an_answer(self):
        await self.busy()
        with tempfile.TemporaryDirectory() as folder:
            scheme = "https" if SECURE else "http"
            config = (ROOT / "examples/dashboard/prometheus.yml").read_text().replace("5s", "200ms").replace("127.0.0.1:8080", self.chat.host)
            config += f"    scheme: {scheme}\n" + ("    tls_config: {insecure_skip_verify: true}\n" if SECURE else "")
            pathlib.Path(folder, "prometheus.yml").write_text(config)
            at = f"127.0.0.1:{free_port()}"
            prometheus = await asyncio.create_subprocess_exec(
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={at}", "--log.level=error",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
            try:
                await self.evaluate(at, prometheus)
            finally:
                if prometheus.returncode is None:
                    prometheus.terminate()
                await soon(prometheus.wait())

    async def evaluate(self, at, prometheus):
        async def ask(query):
            process = await asyncio.create_subprocess_exec("curl", "-s", f"http://{at}/api/v1/query?" + urllib.parse.urlencode({"query": query}), stdout=asyncio.subprocess.PIPE)
            out = (await process.communicate())[0]
            return json.loads(out) if out.startswith(b"{") else None

        async def scraped():
            while True:  # until it listens and has scraped the same target often enough for a rate
                await publish(self.chat, self.room, "more")
                self.assertIsNone(prometheus.returncode, "prometheus has ended")
                answer = await ask("count_over_time(hailwire_connections[1m])")
                if answer and answer["data"]["result"] and int(answer["data"]["result"][0]["value"][1]) >= 5:
                    return

        await soon(scraped(), 60)
        for title, query in queries():
            with self.subTest(title):
                query = query.replace("$__rate_interval", "1m").replace('"$instance"', '".*"')
                answer = await ask(query)
                self.assertEqual(answer["status"], "success", (query, answer))
                self.assertTrue(answer["data"]["result"], f"nothing for {query}")
        answer = await ask("hailwire_sessions{transport=\"websocket\"}")
        self.assertEqual(answer["data"]["result"][0]["value"][1], "1")

    def test_every_metric_that_a_query_names_is_on_the_page_and_every_panel_says_what_is_wrong(self):
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            self.assertTrue(panel["description"].strip().endswith("."), panel["title"])


if __name__ == "__main__":
    unittest.main()
