# SPDX-License-Identifier: BSL-1.0
"""Who takes part: how each server is installed, started, and asked for each kind of work."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
PROJECT = BENCHMARKS.parent
WORK = PROJECT / "build" / "benchmarks"
BUILT = PROJECT / "build" / "release" / "benchmarks"
PACKAGES = WORK / "peers"  # Debian packages, unpacked: nothing on the machine is changed
SERVER_CORE, LOAD_CORE = 0, 1


def certificate():
    """Of 127.0.0.1, made once; what a server's command line takes. None without the openssl program."""
    chain, key = WORK / "tls" / "chain.pem", WORK / "tls" / "key.pem"
    if not (chain.exists() and key.exists()):
        chain.parent.mkdir(parents=True, exist_ok=True)
        output("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650",
               "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(chain))
    return (chain, key) if chain.exists() and key.exists() else None


class Contender:
    """One server. Every kind of work that it can do is a method that returns arguments for `load`; the others are absent."""

    name = ""
    peer = True  # somebody else's server, to be held against

    def available(self):
        return True

    def version(self):
        return ""

    def command(self, port, options):
        raise NotImplementedError

    def environment(self):
        return None

    def with_tls(self, chain, key):
        return (chain, key)

    def start(self, options=(), cores=(SERVER_CORE,)):
        port = free_port()
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *map(str, self.command(port, list(options)))],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.environment(), start_new_session=True, preexec_fn=die_with_parent)
        return Running(self, process, port)


def die_with_parent():
    """A run that is killed leaves no server behind: prctl(PR_SET_PDEATHSIG, SIGTERM)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Running:
    def __init__(self, contender, process, port):
        self.process, self.port = process, port
        self.at = f"127.0.0.1:{port}"
        late = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > late:
                    self.stop()
                    raise RuntimeError(f"{contender.name} did not start: {process.stderr.read().decode(errors='replace')[-500:]}")
                time.sleep(0.02)
        self.pids = descendants(process.pid)

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        except ProcessLookupError:
            self.process.wait()


def free_port():
    # Below the ports that connections get (32768 and up), so that none of those is in the way.
    while True:
        free_port.next = 20000 + (free_port.next + 1 - 20000) % 10000
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", free_port.next))
                return free_port.next
            except OSError:
                continue


free_port.next = 20000 + os.getpid() % 10000


def descendants(pid):
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += descendants(int(child))
    return found


def output(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


class Hailwire(Contender):
    peer = False

    def __init__(self, driver, program="server"):
        self.driver = driver
        self.program = BUILT / program
        self.name = "hailwire (boost)" if program == "server_boost" else f"hailwire ({driver})"

    def available(self):
        return self.program.exists()

    def command(self, port, options):
        return [self.program, "--port", port, "--driver", self.driver, *options]

    def with_tls(self, chain, key):
        return ("--tls-cert", chain, "--tls-key", key)

    def echo(self, at):
        return ["echo", "--url", f"ws://{at}/echo"]

    def echo_tls(self, at):
        return ["echo", "--url", f"wss://{at}/echo"]

    def fan_out(self, at):
        return ["fan_out", "--url", f"ws://{at}/live?channel=c", "--subprotocol", "hailwire.v1.raw"]

    def fan_out_tls(self, at):
        return ["fan_out", "--url", f"wss://{at}/live?channel=c", "--subprotocol", "hailwire.v1.raw"]

    def idle_tls(self, at):
        return ["idle", "--url", f"wss://{at}/live?channel=c", "--enveloped"]

    def fan_out_enveloped(self, at):
        return ["fan_out", "--url", f"ws://{at}/live?channel=c", "--enveloped", "--publish", f"ws://{at}/live",
                "--text", '{"publish":{"channel":"c","data":"%p"}}']

    def sse(self, at):
        return ["fan_out", "--as", "sse", "--url", f"http://{at}/live?channel=c", "--publish", f"http://{at}/live?channel=c"]

    def long_poll(self, at):
        return ["fan_out", "--as", "poll", "--url", f"http://{at}/live?channel=c&wait=55", "--publish", f"http://{at}/live?channel=c"]

    def direct(self, at):
        return ["direct", "--url", f"ws://{at}/live?channel=d%i", "--enveloped", "--text", '{"publish":{"channel":"d%t","data":"%p"}}']

    def short_poll(self, at):
        return ["requests", "--url", f"http://{at}/live?channel=c", "--status", "304"]

    def connect(self, at):
        return ["connect", "--url", f"ws://{at}/live?channel=c"]

    def idle(self, at):
        return ["idle", "--url", f"ws://{at}/live?channel=c", "--enveloped"]

    def idle_sse(self, at):
        return ["idle", "--as", "sse", "--url", f"http://{at}/live?channel=c"]

    def idle_user(self, at):
        return ["idle", "--url", f"ws://{at}/live?channel=c&channel=@u%i&user=u%i", "--enveloped"]

    def idle_channel(self, at):
        return ["idle", "--url", f"ws://{at}/live?channel=c&channel=x%i", "--enveloped"]

    def idle_channel_with_message(self, at):
        text = "x" * 62  # and two quotation marks: 64 bytes
        return [*self.idle_channel(at), "--hello", '{"publish":{"channel":"x%i","data":"' + text + '"}}']


class Floor(Contender):
    peer = False

    def __init__(self, batch):
        self.batch = batch
        self.name = "floor, batched" if batch else "floor"

    def command(self, port, options):
        return [BUILT / "floor", "--port", port, *(["--batch"] if self.batch else [])]

    def echo(self, at):
        return ["echo", "--url", f"ws://{at}/echo"]

    def fan_out(self, at):
        return ["fan_out", "--url", f"ws://{at}/live"]

    def sse(self, at):
        return ["fan_out", "--as", "sse", "--url", f"http://{at}/live", "--publish", f"http://{at}/live"]

    def direct(self, at):
        return ["direct", "--url", f"ws://{at}/direct?id=%i", "--text", "%t %p"]

    def short_poll(self, at):
        return ["requests", "--url", f"http://{at}/live", "--status", "304"]

    def connect(self, at):
        return ["connect", "--url", f"ws://{at}/live"]


class Bun(Contender):
    name = "Bun"
    program = BENCHMARKS / "node_modules" / ".bin" / "bun"

    def available(self):
        return self.program.exists()

    def version(self):
        return output(self.program, "--version")

    def command(self, port, options):
        return [self.program, BENCHMARKS / "peers" / "bun.js", port, *options]

    def echo(self, at):
        return ["echo", "--url", f"ws://{at}/echo"]

    def echo_tls(self, at):
        return ["echo", "--url", f"wss://{at}/echo"]

    def fan_out(self, at):
        return ["fan_out", "--url", f"ws://{at}/live?channel=c"]

    def fan_out_tls(self, at):
        return ["fan_out", "--url", f"wss://{at}/live?channel=c"]

    def idle_tls(self, at):
        return ["idle", "--url", f"wss://{at}/live?channel=c"]

    def direct(self, at):
        return ["direct", "--url", f"ws://{at}/direct?id=%i", "--text", "%t %p"]

    def short_poll(self, at):
        return ["requests", "--url", f"http://{at}/"]

    def connect(self, at):
        return ["connect", "--url", f"ws://{at}/live?channel=c"]

    def idle(self, at):
        return ["idle", "--url", f"ws://{at}/live?channel=c"]


class Ws(Bun):
    name = "ws"

    def available(self):
        return shutil.which("node") is not None and (BENCHMARKS / "node_modules" / "ws").exists()

    def version(self):
        return version_of("ws") + ", node " + output("node", "--version")

    def command(self, port, options):
        return ["node", BENCHMARKS / "peers" / "ws.js", port]


class SocketIo(Contender):
    name = "socket.io"
    fields = ["--hello", "40", "--enveloped"]

    def available(self):
        return shutil.which("node") is not None and (BENCHMARKS / "node_modules" / "socket.io").exists()

    def version(self):
        return version_of("socket.io") + ", node " + output("node", "--version")

    def command(self, port, options):
        return ["node", BENCHMARKS / "peers" / "socket_io.js", port]

    def echo(self, at):
        return ["echo", "--url", f"ws://{at}/socket.io/?EIO=4&transport=websocket", *self.fields, "--text", '42["echo","%p"]']

    def fan_out(self, at):
        return ["fan_out", "--url", f"ws://{at}/socket.io/?EIO=4&transport=websocket", *self.fields, "--text", '42["live","%p"]']

    def idle(self, at):
        return ["idle", "--url", f"ws://{at}/socket.io/?EIO=4&transport=websocket", *self.fields]


class Beast(Contender):
    name = "Beast"

    def available(self):
        return (BUILT / "beast").exists()

    def version(self):
        header = next((p for p in (PACKAGES / "usr/include", Path("/usr/include")) if (p / "boost/version.hpp").exists()), None)
        found = re.search(r'BOOST_LIB_VERSION "(.*)"', (header / "boost/version.hpp").read_text()) if header else None
        return "Boost " + found[1].replace("_", ".") if found else ""

    def command(self, port, options):
        return [BUILT / "beast", port]

    echo, fan_out, connect, idle = Bun.echo, Bun.fan_out, Bun.connect, Bun.idle


class Nchan(Contender):
    name = "Nchan"
    program = PACKAGES / "usr/sbin/nginx"
    module = PACKAGES / "usr/lib/nginx/modules/ngx_nchan_module.so"

    def available(self):
        return self.program.exists() and self.module.exists()

    def version(self):
        return "Debian's libnginx-mod-nchan " + (package_version("libnginx-mod-nchan") or "")

    def command(self, port, options):
        folder = WORK / "nginx"
        folder.mkdir(parents=True, exist_ok=True)
        try:  # Debian's nginx wants this folder whatever its configuration says
            Path("/var/lib/nginx").mkdir(exist_ok=True)
        except OSError:
            pass
        text = (BENCHMARKS / "peers" / "nginx.conf.in").read_text()
        for name, value in {"MODULE": self.module, "FOLDER": folder, "PORT": port}.items():
            text = text.replace(f"@{name}@", str(value))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        (folder / "nginx.conf").write_text(text)
        return [self.program, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]

    def fan_out(self, at):
        return ["fan_out", "--url", f"ws://{at}/both?channel=c"]

    def sse(self, at):
        return ["fan_out", "--as", "sse", "--url", f"http://{at}/live?channel=c", "--publish", f"http://{at}/publish?channel=c"]

    def long_poll(self, at):
        return ["fan_out", "--as", "poll", "--url", f"http://{at}/live?channel=c", "--publish", f"http://{at}/publish?channel=c"]

    def idle(self, at):
        return ["idle", "--url", f"ws://{at}/live?channel=c"]

    def idle_sse(self, at):
        return ["idle", "--as", "sse", "--url", f"http://{at}/live?channel=c"]


def version_of(package):
    import json
    return json.loads((BENCHMARKS / "node_modules" / package / "package.json").read_text())["version"]


def package_version(name):
    found = sorted((PACKAGES / "debs").glob(f"{name}_*.deb"))
    return found[-1].name.split("_")[1].replace("%3a", ":") if found else None


def drivers():
    found = output(BUILT / "server", "--drivers").split()
    return found if all(re.fullmatch("[a-z]+", d) for d in found) else []


def install(say):
    """Peers from package registries. One that cannot be had is left out of the table."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    if not (BENCHMARKS / "node_modules" / "ws").exists():
        if shutil.which("npm"):
            say("installing Bun, ws and socket.io from npm")
            subprocess.run(["npm", "ci", "--silent"], cwd=BENCHMARKS, check=False)
        else:
            say("no npm: without Bun, ws and socket.io")
    # Unpacked instead of installed: nothing on the machine changes, and another Boost or a running nginx is not disturbed.
    debs = PACKAGES / "debs"
    debs.mkdir(exist_ok=True)
    for name, present in {"libboost1.81-dev": PACKAGES / "usr/include/boost/beast.hpp", "nginx": Nchan.program,
                          "libnginx-mod-nchan": Nchan.module}.items():
        if present.exists():
            continue
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            say(f"not a Debian: without {name}")
            continue
        say(f"fetching {name}")
        subprocess.run(["apt-get", "download", "-qq", name], cwd=debs, check=False, stderr=subprocess.DEVNULL)
        for deb in debs.glob(f"{name}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, PACKAGES], check=False)
        if not present.exists():
            say(f"{name} could not be had (is the package list up to date?)")


def build(say):
    say("building (release)")
    for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release", "--target", "hailwire_server", "hailwire_load", "hailwire_floor"]):
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    targets = output("cmake", "--build", str(PROJECT / "build/release"), "--target", "help")
    for name in ("hailwire_beast", "hailwire_server_boost"):
        if name in targets:
            subprocess.run(["cmake", "--build", "--preset", "release", "--target", name], cwd=PROJECT, check=False, stdout=subprocess.DEVNULL)
