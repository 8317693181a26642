"""Downloads, from a server on loopback: as they should be, and in each way in which they fail."""

import gzip
import hashlib
import http.server
import logging
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastbp import datasets
from fastbp.datasets import arrays, download

pytest.importorskip("pooch", reason="the extra data is not installed")

STEMS = arrays.FILES
X = np.arange(2 * 9, dtype="u1").reshape(2, 3, 3)
HEADERS = {
    "images": b"\0\0\x08\x03\0\0\0\x02\0\0\0\x03\0\0\0\x03",
    "labels": b"\0\0\x08\x01\0\0\0\x02",
}
DATA = {"images": X.tobytes(), "labels": b"\x01\x02"}
FILES = {
    f"{stem}-ubyte.gz": gzip.compress(HEADERS[kind] + DATA[kind] + b"", mtime=0)
    for stem in STEMS
    for kind in (stem.split("-")[1],)
}
FIRST = next(iter(FILES))
TIMEOUT = 0.5  # s, where one is meant to pass
PAUSE = 0.02  # s between the bytes of a slow server


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES below any folder; `behave` says how, by name of the folder."""

    daemon_threads = True

    def handle_error(self, request, address):
        """A client that hangs up is none of our business."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        folder, name = self.path.strip("/").split("/")
        getattr(self, folder)(FILES[name])

    def log_message(self, *arguments):
        pass

    def start(self, length):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self, blob):
        self.start(len(blob))
        self.wfile.write(blob)

    def corrupted(self, blob):
        self.good(blob[:-1] + bytes([blob[-1] ^ 1]))

    def short(self, blob):
        self.good(blob[:-9])

    def broken(self, blob):
        self.start(len(blob))
        self.wfile.write(blob[: len(blob) // 2])
        self.wfile.flush()
        self.connection.close()

    def silent(self, blob):
        self.start(len(blob))
        self.wfile.write(blob[:10])
        self.wfile.flush()
        self.server.over.wait(20)

    def deaf(self, blob):
        self.server.over.wait(20)

    def slow(self, blob):
        self.start(len(blob))
        for byte in blob:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(PAUSE)

    def endless(self, blob):
        self.start(None)
        for _ in range(1000):  # enough, and no disk is filled where nobody stops it
            self.wfile.write(bytes(1 << 16))

    def missing(self, blob):
        self.send_error(404)

    def refused(self, blob):
        self.send_error(503)


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked, server.over = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A machine without data; returns where MNIST would be put."""
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(download, "TIMEOUT", 10)  # a busy machine is no silent server
    return tmp_path / "fastbp" / "mnist"


@pytest.fixture
def one_lacks(cache, monkeypatch):
    """The first file alone is not in the cache, and is not waited for long."""
    cache.mkdir(parents=True)
    for name, blob in FILES.items():
        if name != FIRST:
            (cache / name).write_bytes(blob)
    monkeypatch.setattr(download, "TIMEOUT", TIMEOUT)


@pytest.fixture
def mirrors(server, monkeypatch):
    """mirrors(folder, ...): these stand for the mirrors of MNIST."""

    def stand(*folders):
        files = tuple((hashlib.sha256(blob).hexdigest(), len(blob)) for blob in FILES.values())
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{folder}/" for folder in folders)
        monkeypatch.setitem(download.SOURCES, "mnist", (urls, files))

    return stand


def refused(cache):
    """The one error of a load that fails."""
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("mnist")
    message = str(caught.value)
    for part in ("mnist was not found", "$FASTBP_DATA", str(cache)):
        assert part in message
    return message


def test_what_is_nowhere_is_downloaded_once(cache, mirrors, server, caplog):
    mirrors("good")
    size = sum(map(len, FILES.values())) / 1e6
    with caplog.at_level(logging.WARNING, "fastbp"):
        data = datasets.load("mnist")
    np.testing.assert_array_equal(data.X_train, X.reshape(2, 9))
    np.testing.assert_array_equal(data.y_test, [1, 2])
    assert caplog.messages == [f"downloading mnist, {size:.3g} MB, to {cache} ..."]
    assert sorted(os.listdir(cache)) == sorted(FILES)
    assert len(server.asked) == 4
    datasets.load("mnist")
    assert len(server.asked) == 4


def test_a_slow_server_is_waited_for(one_lacks, mirrors, server):
    mirrors("slow")
    assert PAUSE * len(FILES[FIRST]) > download.TIMEOUT
    np.testing.assert_array_equal(datasets.load("mnist").X_train, X.reshape(2, 9))
    assert server.asked == [f"/slow/{FIRST}"]


def test_what_is_on_the_machine_is_not_downloaded(cache, mirrors, server, tmp_path, monkeypatch):
    mirrors("good")
    (tmp_path / "own").mkdir()
    for name, blob in FILES.items():
        (tmp_path / "own" / name).write_bytes(blob)
    datasets.load("mnist", tmp_path / "own")
    monkeypatch.setenv("FASTBP_DATA", str(tmp_path / "own"))
    datasets.load("mnist")
    assert server.asked == []
    assert not cache.exists()


def test_an_interrupted_download_goes_on_where_it_ended(cache, mirrors, server):
    mirrors("good")
    datasets.load("mnist")
    kept, lost = sorted(FILES)[0], sorted(FILES)[2]
    (cache / lost).unlink()
    (cache / kept).write_bytes(gzip.compress(gzip.decompress(FILES[kept]), 1, mtime=7))  # theirs
    before = (cache / kept).read_bytes()
    server.asked.clear()
    datasets.load("mnist")
    assert server.asked == [f"/good/{lost}"]
    assert (cache / kept).read_bytes() == before


FAULTS = {
    "corrupted": "SHA-256",
    "short": "SHA-256",
    "broken": "broken off",
    "silent": "no answer for 0.5 s",
    "deaf": "no answer for 0.5 s",
    "endless": "more than the known ",
    "missing": "HTTP status 404",
    "refused": "HTTP status 503",
}


@pytest.mark.parametrize(("folder", "part"), FAULTS.items())
def test_each_failure_is_one_clear_error_and_leaves_nothing(
    cache, one_lacks, mirrors, server, folder, part
):
    mirrors(folder)
    started = time.perf_counter()
    message = refused(cache)
    assert f"/{folder}/: " in message
    assert part in message
    assert FIRST not in os.listdir(cache)
    assert len(os.listdir(cache)) == len(FILES) - 1
    assert time.perf_counter() - started < 15  # a silent server stays so for 20 s
    assert len(server.asked) == 1


@pytest.mark.parametrize("folder", FAULTS)
def test_the_next_mirror_is_tried(one_lacks, mirrors, server, folder):
    mirrors(folder, "good")
    datasets.load("mnist")
    assert server.asked == [f"/{folder}/{FIRST}", f"/good/{FIRST}"]


def test_offline(cache):
    assert "http://127.0.0.1:9/: no connection" in refused(cache)
    assert os.listdir(cache) == []


def test_a_cache_that_cannot_be_written_to(cache, mirrors, server):
    mirrors("good")
    cache.parent.write_text("a file where a folder should be")
    assert "Not a directory" in refused(cache)
    assert server.asked == []


def test_without_pooch_the_error_says_what_to_install(cache, mirrors, monkeypatch):
    mirrors("good")
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert "pip install pooch" in refused(cache)
    assert not cache.exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_progress_bar_is_shown_where_it_is_wanted(cache, mirrors, capsys, wanted):
    mirrors("good")
    datasets.load("mnist", progress=wanted)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("train-images-idx3-ubyte.gz" in err) is wanted
    assert "Downloading data" not in err  # pooch's own words


def test_pooch_keeps_its_level_of_logging(cache, mirrors, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch.get_logger(), "level", logging.DEBUG)
    mirrors("good")
    datasets.load("mnist")
    assert pooch.get_logger().level == logging.DEBUG


def test_ctrl_c_leaves_no_part_of_a_file(cache, mirrors, monkeypatch):
    mirrors("good")

    def interrupted(self, count):
        raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.auto.tqdm.update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.load("mnist")
    assert os.listdir(cache) == []


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_sources_are_complete(name, monkeypatch):
    monkeypatch.undo()  # the mirrors as they are
    mirrors, files = download.SOURCES[name]
    assert len(files) == len(arrays.FILES)
    assert len(mirrors) >= 2
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in mirrors)
    assert mirrors[0].startswith("https://")
    assert {len(bytes.fromhex(sha256)) for sha256, _ in files} == {32}
    assert len(set(files)) == 4


def test_fashion_mnist_is_the_package_of_debian():
    """Debian took name and time out of each file's head, and left the packed data as they are."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("no Fashion-MNIST here; Debian has it: apt install dataset-fashion-mnist")
    for stem, (_, size) in zip(STEMS, download.SOURCES["fashion-mnist"][1], strict=True):
        name = f"{stem}-ubyte"
        assert (folder / f"{name}.gz").stat().st_size == size - len(name) - 1
