#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Runs a test of the folder above again, over https and wss: `again.py node --test browser_test.mjs`.

The chat has a certificate of a private authority. OpenSSL's default, curl, Node.js and Chromium each trust that one; nothing
is waved through.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from authority import Authority

with tempfile.TemporaryDirectory() as folder:
    authority = Authority(folder)
    chain, key = authority.issue("localhost")
    trusted = str(authority.certificate)
    environment = {**os.environ, "HAILWIRE_CHAT_OPTIONS": f"--tls-cert {chain} --tls-key {key}",
                   "SSL_CERT_FILE": trusted, "CURL_CA_BUNDLE": trusted, "NODE_EXTRA_CA_CERTS": trusted}
    if any("browser_test" in word for word in sys.argv):
        environment["HOME"] = str(authority.home())
    sys.exit(subprocess.run(sys.argv[1:], cwd=pathlib.Path(__file__).resolve().parent.parent, env=environment).returncode)
