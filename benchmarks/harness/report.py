# SPDX-License-Identifier: BSL-1.0
"""From samples to figures, verdicts, a table and a plot."""

import random
import statistics
from html import escape


def interval(values, resamples=4000):
    """The bootstrap 95 % interval of the median. Seeded: the same samples give the same interval."""
    if len(values) < 2:
        return (values[0], values[0]) if values else (float("nan"), float("nan"))
    rng = random.Random(20261122)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(resamples))
    return medians[int(resamples * 0.025)], medians[int(resamples * 0.975) - 1]


def ratio(mine, theirs):
    """The median of paired per-round ratios with its interval."""
    pairs = [a / b for a, b in zip(mine, theirs) if a and b]
    if not pairs:
        return None
    low, high = interval(pairs)
    return {"median": statistics.median(pairs), "low": low, "high": high, "rounds": len(pairs)}


def judge(row, samples, peers):
    """Every target of a throughput row: what was reached, and whether that is enough."""
    out = []
    for entry, targets in row.targets.items():
        if not samples.get(entry):
            continue
        for against, wanted in targets:
            if against == "peer":
                rivals = [p for p in peers if samples.get(p) and p in samples]
                if not rivals:
                    continue
                rival = max(rivals, key=lambda p: statistics.median(samples[p]))
            else:
                rival = against
            got = ratio(samples[entry], samples.get(rival, []))
            if got:
                verdict = "reached" if got["median"] >= wanted else "missed"
                if got["low"] <= 1.0 <= got["high"]:
                    verdict += ", a tie"
                out.append({"entry": entry, "against": rival, "wanted": wanted, **got, "verdict": verdict})
    return out


def number(x):
    return f"{x:,.1f}" if x < 100 else f"{x:,.0f}"


def markdown(result):
    lines = [f"Measured {result['date']} on {result['machine']['processor']} ({result['machine']['cores']} cores), {result['machine']['kernel']}, "
             f"{result['machine']['compiler']}; {result['rounds']} rounds, commit {result['commit']}, load average {result['machine']['load'][0]:.1f} at the start.", ""]
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items() if v)
    if versions:
        lines += [f"Against {versions}.", ""]
    rows = [r for r in result["rows"] if r["kind"] == "throughput"]
    if rows:
        lines += ["Thousands per server CPU-second (in brackets: per second of wall clock), medians.", "",
                  "| work | " + " | ".join(["figures", "ratio to", "reached [95 %]", "target", "verdict"]) + " |", "|---|---|---|---|---|---|"]
        for r in rows:
            figures = "<br>".join(f"{e['name']}: {e['failed']}" if "failed" in e else f"{e['name']}: {number(e['cpu'] / 1000)} ({number(e['wall'] / 1000)})" for e in r["entries"])
            verdicts = r["targets"] or [None]
            for i, t in enumerate(verdicts):
                cells = ["", "", "", ""] if not t else [
                    f"{t['entry'].removeprefix('hailwire ')} / {t['against']}", f"{t['median']:.2f} [{t['low']:.2f}–{t['high']:.2f}]", f"≥ {t['wanted']}", t["verdict"]]
                lines.append(f"| {r['title'] if i == 0 else ''} | {figures if i == 0 else ''} | " + " | ".join(cells) + " |")
        lines.append("")
    rows = [r for r in result["rows"] if r["kind"] == "latency"]
    if rows:
        lines += ["Latency at a fixed rate in microseconds, from the time at which each message was due.", "",
                  "| work | server | p50 | p99 | p99.9 |", "|---|---|---|---|---|"]
        for r in rows:
            for e in r["entries"]:
                if "failed" in e:
                    lines.append(f"| {r['title']} | {e['name']} | {e['failed']} | | |")
                else:
                    lines.append(f"| {r['title']} | {e['name']} | " + " | ".join(number(e["microseconds"][q]) for q in ("p50", "p99", "p99.9")) + " |")
        lines.append("")
    rows = [r for r in result["rows"] if r["kind"] == "memory"]
    if rows:
        lines += ["Bytes of private anonymous memory per connection, from 2,000 to 18,000.", "", "| connection | bytes | target | verdict |", "|---|---|---|---|"]
        for r in rows:
            figures = "<br>".join(f"{e['name']}: {e['failed']}" if "failed" in e else f"{e['name']}: {number(e['bytes'])}" for e in r["entries"])
            goal = "<br>".join(f"{t['entry']}: {number(t['got'])}" + f" ≤ {t['wanted']}" for t in r["targets"])
            lines.append(f"| {r['title']} | {figures} | {goal} | " + "<br>".join(t["verdict"] for t in r["targets"]) + " |")
        lines.append("")
    rows = [r for r in result["rows"] if r["kind"] == "compile"]
    for r in rows:
        lines += ["| g++ -std=c++20 -O2 -c | CPU seconds | peak MB |", "|---|---|---|"]
        lines += [f"| {e['name']} | {e['seconds']:.1f} | {e['megabytes']:.0f} |" for e in r["entries"]]
        lines += [""] + [f"{t['what']}: {t['got']} (target {t['wanted']}): {t['verdict']}." for t in r["targets"]] + [""]
    return "\n".join(lines + [summary(result)])


def summary(result, entry="hailwire (own)"):
    """The rows of the README's speed table: the server on a thread of its own beside the best peer and the floor that a target
    names, else the better one."""
    def beside(samples, names):
        names = [n for n in names if samples.get(n)]
        if not names:
            return "–"
        best = max(names, key=lambda n: statistics.median(samples[n]))
        r = ratio(samples[entry], samples[best])
        return f"{r['median']:.2f} [{r['low']:.2f}–{r['high']:.2f}] × {best}"

    lines = ["| work | to the best peer | to the floor |", "|---|---|---|"]
    for r in result["rows"]:
        samples = {e["name"]: [s["per_cpu_second"] for s in e["samples"]] for e in r["entries"] if "samples" in e and r["kind"] == "throughput"}
        floors = [f for f in ("floor", "floor, batched") if any(t["against"] == f for t in r["targets"])] if samples else []
        if samples.get(entry):
            lines.append(f"| {r['title']} | {beside(samples, result['peers'])} | {beside(samples, floors or ('floor', 'floor, batched'))} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


COLOURS = {"hailwire (own)": "#0b6e4f", "hailwire (embedded)": "#2f9e78", "hailwire (portable)": "#86c9b0", "floor": "#9aa0a6", "floor, batched": "#6b7177",
           "Bun": "#d9822b", "Nchan": "#6c5ce7", "Beast": "#b5483d", "ws": "#c9a227", "socket.io": "#4a4a4a"}


def plot(result):
    """Bars: each row's figures against its best peer, 1.0 at the line."""
    bars, y = [], 46
    for r in result["rows"]:
        if r["kind"] != "throughput":
            continue
        entries = [e for e in r["entries"] if "failed" not in e and e["name"] in COLOURS]
        rivals = [e["cpu"] for e in entries if e["name"] in result["peers"]]
        base = max(rivals) if rivals else max((e["cpu"] for e in entries), default=0)
        if not base:
            continue
        bars.append(f'<text x="12" y="{y}" class="title">{escape(r["title"])}</text>')
        y += 8
        for e in entries:
            share = e["cpu"] / base
            bars.append(f'<rect x="150" y="{y}" width="{min(share, 3) * 200:.1f}" height="12" rx="2" fill="{COLOURS[e["name"]]}"/>'
                        f'<text x="144" y="{y + 10}" class="name">{escape(e["name"])}</text>'
                        f'<text x="{156 + min(share, 3) * 200:.1f}" y="{y + 10}" class="value">{number(e["cpu"] / 1000)} k</text>')
            y += 16
        bars.append(f'<line x1="350" x2="350" y1="{y - 16 * len(entries) - 2}" y2="{y}" class="one"/>')
        y += 22
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {y}" width="860" height="{y}" font-family="system-ui, sans-serif">
<style>
text {{ fill: #222 }} .title {{ font-size: 13px; font-weight: 600 }} .name {{ font-size: 11px; text-anchor: end }} .value {{ font-size: 11px }}
.one {{ stroke: #444; stroke-dasharray: 3 3 }}
</style>
<rect width="860" height="{y}" fill="#fff"/>
<text x="12" y="20" font-size="12">Work per server CPU-second; the dashed line is the best peer of each row. {escape(result["date"])}</text>
{chr(10).join(bars)}
</svg>
"""
