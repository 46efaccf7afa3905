# SPDX-License-Identifier: BSL-1.0
"""A private certificate authority in a folder, made with the openssl program, and what trusts it."""

import pathlib
import subprocess


def run(*words, **more):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)


class Authority:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.certificate = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3",
            "-subj", "/CN=hailwire test authority", "-keyout", self.key, "-out", self.certificate)

    def issue(self, name, alternatives="DNS:localhost,IP:127.0.0.1"):
        """Paths of a chain and a key."""
        chain, key, request, extensions = (self.folder / (name + end) for end in (".pem", ".key", ".csr", ".ext"))
        extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
            "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", chain)
        return chain, key

    def home(self):
        """A home folder whose NSS database trusts the authority: what Chromium on Linux reads. Needs certutil (libnss3-tools)."""
        home = self.folder / "home"
        database = home / ".pki/nssdb"
        database.mkdir(parents=True)
        run("certutil", "-N", "--empty-password", "-d", f"sql:{database}")
        run("certutil", "-A", "-d", f"sql:{database}", "-n", "hailwire test authority", "-t", "C,,", "-i", self.certificate)
        return home
