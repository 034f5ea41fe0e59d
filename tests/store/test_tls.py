"""Certificates are checked, against a file of one's own where that is wanted."""

import datetime as dt
import ipaddress
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.core.errors import StoreError
from pipeline.core.options import StorageOptions
from pipeline.store.location import Store
from tests.s3 import proxy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    """A certificate that signs itself, and its key."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_certificates_are_checked(certificate, monkeypatch):
    from moto.server import ThreadedMotoServer

    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "k")
    bucket = f"b{os.urandom(6).hex()}"
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        with proxy.running("http://{}:{}".format(*moto.get_host_and_port()), certificate) as secure:

            def store(**more) -> Store:
                return Store.at(f"s3://{bucket}/x", StorageOptions(endpoint=secure.endpoint, retries=0, **more))

            store(ca_bundle=certificate[0]).fs.mkdir(bucket)
            store(ca_bundle=certificate[0]).write_bytes(b"1", "a")
            assert store(verify_tls=False).read_bytes("a") == b"1"
            with pytest.raises(StoreError, match="cannot use"):
                store().read_bytes("a")
    finally:
        moto.stop()
