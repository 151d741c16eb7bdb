"""Encrypted connections, with certificates on either side."""

import shutil
import subprocess

import grpc
import numpy as np
import pytest
from spinet_client import TLS, Client, ServingError

from tests.serving.client.fake import FakeServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with an authority, what it signed for the server and for a client, and another authority."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for authority in ("ca", "other"):
        openssl(
            "req", "-x509", *key, "-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem"
        )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *key[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.fixture(params=[False, True], ids=["server only", "client too"])
def encrypted(certificates, request):
    pair = ((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())
    authority = (certificates / "ca.pem").read_bytes() if request.param else None
    with FakeServer(credentials=grpc.ssl_server_credentials([pair], authority, request.param)) as server:
        yield server, request.param


def test_answers_come_encrypted(encrypted, certificates, ask):
    server, asks_for_certificate = encrypted
    own = (
        {"certificate": certificates / "client.pem", "key": certificates / "client.key"} if asks_for_certificate else {}
    )
    tls = TLS(certificates / "ca.pem", **own)
    images = np.ones((1, 4, 4, 3), np.uint16)
    assert ask(
        server.address, "predict_scene", images, client={"tls": tls, "token": "secret", "timeout": 20}
    ).shape == (8, 8)
    assert server.metadata[0]["authorization"] == "Bearer secret"


def test_strangers_are_not_talked_to(encrypted, certificates, ask, hasty):
    server, asks_for_certificate = encrypted
    for tls in (
        None,
        TLS(certificates / "other.pem"),
        *([TLS(certificates / "ca.pem")] if asks_for_certificate else []),
    ):
        with pytest.raises(ServingError, match="No server answers at"):
            ask(server.address, "describe", client={"tls": tls, "retries": 0})
    assert not server.requests


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ServingError, match=r"Cannot read .*ca\.pem: No such file"):
        Client("a:1", tls=TLS(tmp_path / "ca.pem"))
    with pytest.raises(ServingError, match="Received: only one of the two"):
        Client("a:1", tls=TLS(certificate=tmp_path / "a.pem"))
