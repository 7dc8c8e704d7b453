"""What is special about an S3 store: parts that go straight to it, versions, and that it may be away."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from blindgate_gateway.app import create_app
from blindgate_gateway.opening import prepare
from blindgate_gateway.parts import open_blobs
from blindgate_protocol.errors import BlindgateError
from blindgate_protocol.keys import KeyState
from blindgate_protocol.messages import MOST_URLS, Upload, UploadRequest
from brokerage import Caller, Keys, blob_ref, free_port, make_settings, random_bytes
from desk import Desk, open_desk
from postgresql import PostgresqlServer
from s3 import SECRET, S3Server, keys_in

PART = 64 * 1024


@pytest.fixture
def bucket(s3_server: S3Server) -> Mapping[str, Any]:
    """A bucket that keeps versions, in which clients may put parts."""
    return s3_server.new_bucket(versions=True, direct=True)


@pytest.fixture
def desk(tmp_path: Path, bucket: Mapping[str, Any]) -> Iterator[Desk]:
    """A gateway on that bucket."""
    with open_desk(tmp_path, part=PART, max_blob=1 << 23, **bucket) as made:
        yield made


def _ask(desk: Desk, data: bytes) -> Upload:
    ref = blob_ref(data)
    answer = desk.tenant.ask("POST", "/v1/uploads", UploadRequest(size=ref.size, sha256=ref.digest))
    return Upload.model_validate_json(answer.content)


def _send_all(upload: Upload, data: bytes) -> None:
    for number, url in zip(upload.missing, upload.urls, strict=False):
        sent = httpx2.put(url, content=data[(number - 1) * PART : number * PART])
        assert sent.status_code == 200, sent.text


def _complete(desk: Desk, upload: Upload) -> httpx2.Response:
    return desk.tenant.send("POST", f"/v1/uploads/{upload.upload}/complete")


def test_parts_may_go_straight_to_the_store(desk: Desk, s3_server: S3Server, bucket: Mapping[str, Any]) -> None:
    """The gateway asks the store which came, also for those that came through itself, and reads the whole once."""
    data = random_bytes(3 * PART + 100)
    upload = _ask(desk, data)
    assert len(upload.urls) == len(upload.missing) == 4
    assert _ask(desk, random_bytes(PART)).urls == (), "one part is quicker sent through the gateway"
    desk.tenant.send("PUT", f"/v1/uploads/{upload.upload}/parts/2", data[PART : 2 * PART])
    _send_all(upload.model_copy(update={"missing": upload.missing[:1]}), data)
    standing = Upload.model_validate_json(desk.tenant.ask("GET", f"/v1/uploads/{upload.upload}").content)
    assert (standing.missing, len(standing.urls)) == ((3, 4), 2)
    _send_all(standing, data)
    assert _complete(desk, upload).json()["status"] == "complete"
    assert _ask(desk, data).status == "exists"
    assert httpx2.put(standing.urls[0], content=bytes(PART)).is_error, "a URL is of no use afterwards"


def test_a_url_is_for_one_part_of_one_length_for_some_minutes(desk: Desk) -> None:
    """It is a secret for its bearer: it names what it is good for, and holds no secret of the gateway's."""
    upload = _ask(desk, random_bytes(PART + 7))
    url = urlsplit(upload.urls[1])
    query = parse_qs(url.query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host"], "another length breaks the signature"
    assert (query["partNumber"], query["X-Amz-Expires"]) == (["2"], ["900"])
    assert query["uploadId"]
    assert SECRET not in upload.urls[1]
    many = _ask(desk, random_bytes(PART * (MOST_URLS + 3)))
    assert (len(many.missing), len(many.urls)) == (MOST_URLS + 3, MOST_URLS)


def test_an_upload_goes_on_through_another_gateway(
    tmp_path: Path, bucket: Mapping[str, Any], postgresql_server: PostgresqlServer
) -> None:
    """One database and one bucket are all that two gateways have in common: neither remembers what the other was sent."""
    data = random_bytes(3 * PART)
    shared = {"database": postgresql_server.new_database(), "part": PART, "max_blob": 1 << 23, **bucket}
    with open_desk(tmp_path, **shared) as first:
        settings = first.brokerage.settings.model_copy(update={"data": tmp_path / "another"})
        lock = prepare(settings)
        app = create_app(settings)
        with httpx2.Client(transport=httpx2.WSGITransport(app), base_url="http://another") as http:
            other = Caller(http, first.brokerage.api_key("bank"))
            upload = _ask(first, data)
            path = f"/v1/uploads/{upload.upload}"
            first.tenant.ask("PUT", f"{path}/parts/2", data[PART : 2 * PART])
            assert other.ask("GET", path).json()["missing"] == [1, 3]
            other.ask("PUT", f"{path}/parts/1", data[:PART])
            assert other.ask("PUT", f"{path}/parts/3", data[2 * PART :]).json()["status"] == "complete"
            assert _ask(first, data).status == "exists"
        app.extensions["blindgate"].database.close()
        app.extensions["blindgate"].wakeups.close()
        lock.close()


@pytest.mark.parametrize("wrong", [pytest.param(bytes(PART), id="other bytes"), pytest.param(b"short", id="too short")])
def test_wrong_bytes_in_the_store_never_become_a_blob(
    desk: Desk, s3_server: S3Server, bucket: Mapping[str, Any], wrong: bytes
) -> None:
    """Of the right length they end the upload, and nothing is left of them; of another they do not count as the part."""
    before = keys_in(s3_server, bucket)
    data = random_bytes(2 * PART)
    upload = _ask(desk, data)
    _send_all(upload, data)
    httpx2.put(upload.urls[0], content=wrong)
    answer = _complete(desk, upload)
    if len(wrong) == PART:
        assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
        assert keys_in(s3_server, bucket) == before
        assert _complete(desk, upload).status_code == 404
    else:
        assert (answer.json()["status"], answer.json()["missing"]) == ("parts", [1])
    desk.tenant.upload(data)
    assert _ask(desk, data).status == "exists"


def test_a_destroyed_keys_bytes_are_gone_in_every_version(
    desk: Desk, s3_server: S3Server, bucket: Mapping[str, Any]
) -> None:
    """Also what a killed gateway left of them, and an upload of them that somebody has begun; other blobs stay."""
    data = random_bytes(2 * PART)
    key = desk.tenant.upload(data)
    first = desk.tenant.statement(key, KeyState.ACTIVE)
    desk.tenant.state(first)
    desk.tenant.upload(b"something else")
    blobs = desk.parts.blobs
    blobs.begin("bank", key.digest)
    client, name = s3_server.client(), bucket["blobs"].split("/")[2]
    (stored,) = (one["Key"] for one in client.list_objects_v2(Bucket=name)["Contents"] if key.digest[7:] in one["Key"])
    client.put_object(Bucket=name, Key=stored, Body=b"a second version")
    client.delete_object(Bucket=name, Key=stored)
    others = [name for name in keys_in(s3_server, bucket) if not name.startswith(key.digest[7:])]
    assert len(keys_in(s3_server, bucket)) == len(others) + 4
    assert desk.tenant.state(desk.tenant.statement(key, KeyState.DESTROYED, first)).status_code == 200
    assert keys_in(s3_server, bucket) == others
    assert len(others) == 3


def test_a_key_is_not_destroyed_while_the_store_is_away(desk: Desk, tmp_path: Path, s3_server: S3Server) -> None:
    """The owner is told to come again, the key is as it was, and the next try destroys it."""
    key = desk.tenant.upload(random_bytes(PART))
    first = desk.tenant.statement(key, KeyState.ACTIVE)
    desk.tenant.state(first)
    last = desk.tenant.statement(key, KeyState.DESTROYED, first)
    here = desk.parts.blobs
    away = desk.parts.settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    object.__setattr__(desk.parts, "blobs", open_blobs(away))
    refused = desk.tenant.state(last)
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (503, "busy", "1")
    assert desk.http.get("/readyz").status_code == 503
    object.__setattr__(desk.parts, "blobs", here)
    assert desk.tenant.ask("GET", f"/v1/keys/{key.digest}").json()["state"] == "active"
    assert desk.tenant.state(last).status_code == 200
    assert desk.http.get("/readyz").status_code == 200


def test_a_bucket_that_is_not_there_is_said_at_start(tmp_path: Path, s3_server: S3Server) -> None:
    """In one line, not at the first upload."""
    settings = make_settings(tmp_path / "gateway", Keys(), **(dict(s3_server.new_bucket()) | {"blobs": "s3://nowhere"}))
    with pytest.raises(BlindgateError, match="nowhere cannot be used"):
        prepare(settings)


def test_a_gateway_without_a_bucket_does_not_load_boto3() -> None:
    """It is an extra, and heavy."""
    code = "import sys; import blindgate_gateway.server, blindgate_gateway.app; print('botocore' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
