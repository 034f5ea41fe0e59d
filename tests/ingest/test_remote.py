import http.server
import threading
import uuid

import pytest
import s3fs

from pipeline.core.errors import InputError
from pipeline.ingest import sources
from pipeline.ingest.books import Request
from pipeline.ingest.run import run
from pipeline.ingest.sources import list_granules, local_file
from pipeline.store.cubes import open_cube
from pipeline.store.location import Store
from tests.ingest.granules import tropomi, tropomi_name


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves a dict of bytes with ranges; misbehaves as the test asks."""

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        server = self.server
        name = self.path.lstrip("/").split("?")[0]
        server.requests.append((self.command, name, self.headers.get("Range")))
        if body and server.faults:
            fault = server.faults.pop(0)
            if isinstance(fault, int):
                self.send_error(fault)
                return
            if fault == "drop":
                data = server.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 3])
                self.connection.close()
                return
        if name == "" or name.endswith("/"):
            return self._index(name)
        if name not in server.files:
            self.send_error(404)
            return None
        data, wanted = server.files[name], self.headers.get("Range")
        if wanted and server.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        else:
            part = data
            self.send_response(200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hash(data):x}"')
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(part)
        return None

    def _index(self, name):
        links = "".join(f'<a href="{n}">{n}</a>' for n in self.server.files)
        page = f"<html><body>{links}</body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.files, made.faults, made.requests, made.ranges = {}, [], [], True
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)


def fetched(url):
    granule = list_granules([url], ["*"]).granules[0]
    with local_file(granule) as path, open(path, "rb") as file:
        return file.read()


def test_a_file_comes_in_ranges(server, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 1000)
    server.files["a.nc"] = bytes(range(256)) * 20
    assert fetched(f"{server.url}/a.nc") == server.files["a.nc"]
    ranges = [r for command, _, r in server.requests if command == "GET"]
    assert ranges[0] == "bytes=0-999"
    assert len(ranges) == 6


def test_reading_without_credentials_asks_web_servers_for_nothing_special(server):
    server.files["a.nc"] = b"x" * 100
    granule = list_granules([f"{server.url}/a.nc"], ["*"], {"anon": True}).granules[0]
    with local_file(granule, {"anon": True}) as path, open(path, "rb") as file:
        assert file.read() == server.files["a.nc"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://b/x", {"anon": True}),
        ("gs://b/x", {"token": "anon"}),
        ("az://b/x", {"anon": True}),
        ("https://h/x", {}),
        ("/data/x", {}),
    ],
)
def test_each_file_system_has_its_word_for_anonymous(url, options):
    found = sources._fresh(url, {"anon": True})
    found.pop("use_listings_cache", None)
    assert found == options


def test_a_server_without_ranges_still_serves(server, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 1000)
    server.ranges = False
    server.files["a.nc"] = bytes(range(256)) * 20
    assert fetched(f"{server.url}/a.nc") == server.files["a.nc"]


@pytest.mark.parametrize("faults", [[503], [500, 503, 502], ["drop"], ["drop", 503]])
def test_passing_errors_are_overcome(server, monkeypatch, faults):
    monkeypatch.setattr(sources, "_BLOCK", 1000)
    server.files["a.nc"] = bytes(range(256)) * 20
    granule = list_granules([f"{server.url}/a.nc"], ["*"]).granules[0]
    server.faults = list(faults)
    with local_file(granule) as path, open(path, "rb") as file:
        assert file.read() == server.files["a.nc"]
    assert not server.faults


def test_errors_that_stay_fail_with_the_address(server):
    server.files["a.nc"] = b"x" * 100
    granule = list_granules([f"{server.url}/a.nc"], ["*"]).granules[0]
    server.faults = [503] * 50
    with pytest.raises(InputError, match=r"a\.nc could not be fetched.*503"), local_file(granule):
        pass
    server.faults = []
    del server.files["a.nc"]
    with pytest.raises(InputError, match="could not be fetched"), local_file(granule):
        pass


def test_what_is_not_there_is_said(server):
    with pytest.raises(InputError, match="nothing at"):
        list_granules([f"{server.url}/none.nc"], ["*"])


def test_granules_over_http_become_the_same_cube(server, tmp_path):
    name = tropomi_name()
    path = tropomi(tmp_path / name, 5e-5)
    server.files[name] = (tmp_path / name).read_bytes()
    server.files["notes.txt"] = b"x"
    url = f"{server.url}/"
    summary = run(Request("tropomi_no2", (url,), Store(str(tmp_path / "far"))))
    assert summary.statuses == {"used": 1}
    run(Request("tropomi_no2", (path,), Store(str(tmp_path / "near"))))
    far, near = (
        open_cube(Store(str(tmp_path / s)), "inputs/no2_tropomi.zarr", chunks=None).sel(time="2022-01-15")
        for s in ("far", "near")
    )
    assert far["no2_column"].identical(near["no2_column"])


def test_a_granule_that_cannot_be_fetched_is_in_the_ledger_and_the_others_are_used(server, tmp_path):
    for orbit in (1, 2):
        name = tropomi_name(orbit=orbit)
        tropomi(tmp_path / name, 5e-5, orbit=orbit)
        server.files[name] = (tmp_path / name).read_bytes()
    urls = tuple(f"{server.url}/{name}" for name in server.files)
    server.faults = [403] * sources._TRIES
    summary = run(Request("tropomi_no2", urls, Store(str(tmp_path / "s"))))
    assert summary.statuses == {"failed": 1, "used": 1}
    assert "403" in summary.problems[0]
    assert run(Request("tropomi_no2", urls, Store(str(tmp_path / "s")))).statuses == {"used": 1}


@pytest.fixture
def bucket(moto, monkeypatch):
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    options = {"client_kwargs": {"endpoint_url": moto}}
    name = f"granules-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(**options).mkdir(name)
    return name, options


def put(fs, place, folder, orbit):
    file = tropomi_name(orbit=orbit)
    fs.put(tropomi(folder / file, 5e-5, orbit=orbit), f"{place}/in/{file}")


def test_granules_and_store_in_buckets(bucket, tmp_path):
    name, options = bucket
    fs = s3fs.S3FileSystem(**options)
    put(fs, name, tmp_path, 1)
    fs.pipe(f"{name}/in/readme.txt", b"x")
    store = Store(f"s3://{name}/store", options)
    request = Request("tropomi_no2", (f"s3://{name}/in",), store, options=options)
    summary = run(request)
    assert summary.statuses == {"used": 1}
    assert [n.rsplit("/", 1)[-1] for n in summary.ignored] == ["readme.txt"]
    ds = open_cube(store, "inputs/no2_tropomi.zarr", chunks=None)
    assert ds["ingested"].values.astype(bool).sum() == 1
    assert float(ds["no2_column"].sel(time="2022-01-15").max()) == pytest.approx(5e-5)
    assert run(request).known == 1


def test_new_granules_in_a_bucket_are_seen_at_once(bucket, tmp_path):
    name, options = bucket
    fs = s3fs.S3FileSystem(**options)
    store = Store(str(tmp_path / "s"))
    request = Request("tropomi_no2", (f"s3://{name}/in/*.nc",), store, options=options)
    for orbit in (1, 2):
        put(fs, name, tmp_path, orbit)
        assert run(request).statuses == {"used": 1}
