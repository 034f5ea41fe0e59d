"""Which addresses and names are let in, what is asked of fsspec, and what its errors become."""

import pickle

import botocore.exceptions
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.errors import StoreError, UsageError
from pipeline.core.options import StorageOptions
from pipeline.settings import load, load_place
from pipeline.store.addresses import check_store_url, check_url, error_code, explained, fsspec_options
from pipeline.store.location import Store

SECRET = "hushHush1234"


@pytest.mark.parametrize(
    "url",
    [
        "zip::https://x/y.zip",
        "reference::s3://b/refs.json",
        "simplecache::s3://b/k",
        "ssh://host/x",
        "github://o:r@main/x",
        "python://x",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xA9FEA9FE/latest/",
        "http://2852039166/latest/",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "https://metadata.google.internal./x",
    ],
)
def test_addresses_outside_the_allowlist_are_refused(url):
    with pytest.raises(StoreError):
        check_url(url)
    with pytest.raises(StoreError):
        Store(url)


@pytest.mark.parametrize("url", ["s3://bucket/a", "/data", "./data", "memory://x", "https://host/x", "gs://b/x"])
def test_plain_addresses_are_let_in(url):
    assert check_store_url(url) == url


def test_an_address_with_credentials_is_refused_and_not_repeated():
    with pytest.raises(StoreError, match="holds credentials") as caught:
        Store(f"s3://key:{SECRET}@bucket/x")
    assert SECRET not in str(caught.value)
    assert "bucket/x" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "..", "%2e%2e/x", "a/%2E%2e/b", "%252e%252e/x", "%2fetc", "",
     "a\\..\\b", "a\x00b", "a\nb"],
)  # fmt: skip
@pytest.mark.parametrize("url", ["/tmp/store", "s3://bucket/store", "memory://store"])
def test_no_name_leaves_the_store(url, name):
    with pytest.raises(StoreError, match="inside the store"):
        Store(url).path(name)
    with pytest.raises(StoreError):
        Store(url).path("inputs", name)


@given(st.text(alphabet=st.sampled_from("./%2eEfFcC5\\ab"), max_size=12))
@example("%25%32%65%25%32%65/x")
def test_names_that_pass_stay_inside_however_often_decoded(name):
    from posixpath import normpath
    from urllib.parse import unquote

    try:
        path = Store("/tmp/store").path(name)
    except StoreError:
        return
    for _ in range(2):
        assert normpath(path).startswith("/tmp/store/")
        path = unquote(path)


def test_settings_become_options_without_secrets():
    url, storage = load_place(
        "s3://b/p",
        environ={
            "CARBONCUBE_STORAGE__ENDPOINT": "https://s3.example.org:9000",
            "CARBONCUBE_STORAGE__CONCURRENCY": "7",
            "CARBONCUBE_STORAGE__CA_BUNDLE": "/etc/ca.pem",
            "CARBONCUBE_STORAGE__RETRIES": "2",
            "CARBONCUBE_STORAGE__PROFILE": "team",
        },
    )
    options = fsspec_options(url, storage)
    assert options["endpoint_url"] == "https://s3.example.org:9000"
    assert options["profile"] == "team"
    assert options["client_kwargs"] == {"verify": "/etc/ca.pem"}
    assert options["config_kwargs"]["retries"]["max_attempts"] == 3
    assert options["config_kwargs"]["max_pool_connections"] == options["max_concurrency"] == 7
    assert options["config_kwargs"]["s3"] == {"addressing_style": "path"}
    assert fsspec_options("/data", storage) == {}
    assert "verify" in fsspec_options(url, StorageOptions(verify_tls=False))["client_kwargs"]
    assert fsspec_options(url, StorageOptions(verify_tls=False))["client_kwargs"]["verify"] is False


@pytest.mark.parametrize(
    "storage",
    [
        {"secret": SECRET},
        {"key": SECRET},
        {"endpoint": f"https://user:{SECRET}@host"},
        {"endpoint": f"https://host/?token={SECRET}"},
        {"endpoint": "host:9000"},
        {"retries": -1},
        {"concurrency": 0},
        {"read_timeout": 0},
    ],
)
def test_storage_settings_are_strict_and_hold_no_secret(storage):
    with pytest.raises(UsageError, match="storage") as caught:
        load({"year": 2022, "storage": storage}, environ={})
    assert SECRET not in str(caught.value)


def test_settings_that_are_shown_or_hashed_hold_no_secret_and_the_place_is_no_science():
    near, far = (load({"year": 2022, "storage": {"endpoint": e}}, environ={}) for e in ("", "http://localhost:1"))
    assert near.science() == far.science()
    assert far.shown()["storage"]["endpoint"] == "http://localhost:1"


class AnswerError(Exception):
    """An error with an S3 server's answer in it."""

    def __init__(self, code, status=400):
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (caused(PermissionError(), AnswerError("InvalidAccessKeyId")), "does not know this access key"),
        (caused(PermissionError(), AnswerError("SignatureDoesNotMatch")), "secret does not belong"),
        (OSError(28, "full"), "no space left"),
        (caused(OSError(5, "x"), AnswerError("QuotaExceeded")), "no space left"),
        (caused(OSError(5, "x"), AnswerError("SlowDown", 503)), "slow down"),
        (TimeoutError("late"), "cannot use"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), "cannot use"),
        (botocore.exceptions.NoCredentialsError(), "no credentials"),
        (botocore.exceptions.ProfileNotFound(profile="p"), "no credentials"),
    ],
)
def test_errors_say_what_is_wrong_and_cross_process_borders(error, said):
    with pytest.raises(StoreError, match=said) as caught, explained("s3://b/p"):
        raise error
    assert caught.value.exit_code == 4
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), FileExistsError("x"), ValueError("x"), OSError("damaged")])
def test_what_is_no_fault_of_the_store_passes(error):
    with pytest.raises(type(error)), explained("s3://b/p"):
        raise error


def test_code_of_an_answer():
    assert error_code(caused(OSError(22, "x"), AnswerError("PreconditionFailed", 412))) == "PreconditionFailed"
    assert error_code(caused(OSError(5, "x"), AnswerError("UnknownError", 500))) == "500"
    assert error_code(OSError(5, "x")) == ""
