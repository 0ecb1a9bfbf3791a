"""Sources by URL: objects of S3 (moto's server stands for it) and pictures from web servers."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from cli import cli
from index import open_catalogue
from ingest import SourceNotFound, build_catalogue, find_sources
from model import Extractor, Limits
from tests.commands.test_cli import refused, run
from tests.ingest.test_archives import pack


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """An S3 of this machine, with a bucket, as s3fs sees it; the environment leads there."""
    import s3fs

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def put(store: Any, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        store.pipe_file(f"bucket/{name}", data)


def test_objects_below_a_url_are_found_and_only_changed_ones_embedded(
    store: Any, photos: list[Path], tmp_path: Path, extractor: Extractor
) -> None:
    put(store, {f"photos/in/{place}.jpg": photos[place].read_bytes() for place in range(3)})
    put(store, {"photos/.hidden/x.jpg": b"1", "photos/readme.md": b"2", "photos/in/broken.jpg": b"3"})
    put(store, {"photos/in/metadata.csv": b"file_name,stars\n0.jpg,5\n"})
    found = find_sources(["s3://bucket/photos/"])
    assert {file.key for file in found.files} == {"in/0.jpg", "in/1.jpg", "in/2.jpg", "in/broken.jpg"}
    assert found.others == ["readme.md"]
    out = tmp_path / "out"
    report = build_catalogue(found, out, extractor)
    assert (report.added, [one["key"] for one in report.skipped]) == (3, ["in/broken.jpg"])
    with closing(open_catalogue(out)) as catalogue:
        assert catalogue.items_by_key(["in/0.jpg"])["in/0.jpg"].metadata["stars"] == 5
    put(store, {"photos/in/1.jpg": photos[9].read_bytes()})
    store.invalidate_cache()
    report = build_catalogue(find_sources(["s3://bucket/photos"]), out, extractor, overwrite=True)
    assert (report.added, report.reused) == (1, 2)


def test_archives_tables_and_single_objects_are_read_from_a_store(
    store: Any, photos: list[Path], tmp_path: Path
) -> None:
    data = {f"{place}.jpg": photos[place].read_bytes() for place in range(2)}
    put(store, {f"more/{name}": content for name, content in data.items()})
    put(store, {"more/list.csv": b"path,n\n0.jpg,1\ns3://bucket/more/1.jpg,2\nnone.jpg,3\n"})
    put(store, {"more/shard.tar.gz": pack(tmp_path / "shard.tar.gz", data).read_bytes()})
    single = find_sources(["s3://bucket/more/0.jpg"])
    assert [(file.key, file.content.address) for file in single.files] == [("0.jpg", "s3://bucket/more/0.jpg")]
    table = find_sources(["s3://bucket/more/list.csv"])
    assert {file.key: file.metadata["n"] for file in table.files} == {
        "0.jpg": 1,
        "s3://bucket/more/1.jpg": 2,
        "none.jpg": 3,
    }
    for file, name in zip(table.files[:2], data, strict=True):
        assert file.content.read(Limits())[0] == data[name]
    with pytest.raises(OSError, match=r"there is nothing at s3://bucket/more/none\.jpg"):
        table.files[2].content.read(Limits())
    archive = find_sources(["s3://bucket/more/shard.tar.gz"])
    assert {file.key: file.content.read(Limits())[0] for file in archive.files} == data


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/nothing", "there is nothing at s3://bucket/nothing"),
        ("s3://none/x", "s3://none/x"),
        ("nosuch://x", "nosuch://x is not of a store (s3://"),
        ("zip://a.jpg::http://127.0.0.1/x.zip", "might lead into your own network; --private-urls allows it"),
        ("s3://x/a.zip::simplecache::http://127.0.0.1/x.zip", "might lead into your own network"),
        ("webhdfs://127.0.0.1/x.jpg", "might lead into your own network"),
        ("ftp://127.0.0.1/x.jpg", "might lead into your own network"),
        ("adl://x/y.jpg", "adl://x/y.jpg needs a package that is not installed"),
    ],
)
def test_a_store_that_cannot_be_read_is_told_in_one_line(store: Any, url: str, message: str) -> None:
    with pytest.raises(SourceNotFound) as caught:
        find_sources([url])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def web(photos: list[Path], tmp_path: Path) -> Iterator[str]:
    """A web server of this machine with some photos."""
    for place in range(3):
        (tmp_path / f"{place}.jpg").write_bytes(photos[place].read_bytes())
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_of_a_table_are_fetched_once_and_again_when_asked(
    web: str, photos: list[Path], catalogue: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    run("backup", catalogue, out)
    table = tmp_path / "shop.csv"
    table.write_text(f"sku,photo,price\na,{web}/0.jpg,1\nb,{web}/none.jpg,2\nc,{web}/1.jpg,3\n")
    columns = ("--picture-column", "photo", "--key-column", "sku", "--json")
    done = CliRunner().invoke(cli, ["add", str(out), str(table), *columns])
    assert [one["reason"] for one in json.loads(done.stdout)["skipped"]] == [
        "the URL's host and port are not among those allowed here"
    ] * 3
    report = json.loads(run("add", out, table, *columns, "--private-urls").stdout)
    assert (report["added"], report["kept"]) == (2, 0)
    assert report["skipped"] == [{"key": "b", "reason": "the URL answered with status 404", "place": f"{table}, row 3"}]
    with closing(open_catalogue(out)) as opened:
        fields = opened.items_by_key(["a"])["a"].metadata
        assert (fields["photo"], fields["price"]) == (f"{web}/0.jpg", 1)
    (tmp_path / "1.jpg").write_bytes(photos[9].read_bytes())
    assert json.loads(run("add", out, table, *columns, "--private-urls").stdout)["kept"] == 2
    report = json.loads(run("add", out, table, *columns, "--private-urls", "--refetch").stdout)
    assert (report["added"], report["kept"]) == (1, 1)


def test_stdin_and_urls_are_sources_of_the_verbs(web: str, catalogue: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    run("backup", catalogue, out)
    lines = f"{tmp_path}/0.jpg\n{tmp_path}/none.jpg\n"
    done = CliRunner().invoke(cli, ["add", str(out), "-", "--json"], input=lines)
    report = json.loads(done.stdout)
    assert (report["added"], [one["key"] for one in report["skipped"]]) == (1, [f"{tmp_path}/none.jpg"])
    report = json.loads(run("add", out, f"{web}/1.jpg", "--private-urls", "--json").stdout)
    assert report["added"] == 1
    assert refused("add", out, "s3:x").startswith("error: there is no file or folder at s3:x")
