"""A real S3 API of the tests' own: moto's server, as a process on a free port. It keeps everything in memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2

from brokerage import free_port

START_SECONDS = 60.0
KEY_ID, SECRET = "tests", "not-a-secret"


class S3Server:
    """A server with buckets."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "s3.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None  # for what the tests prepare; it takes longer to make than to use

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        # The tests' parts are smaller than S3's; and what moto keeps in files it copies into more of them whenever it lists.
        environment = os.environ | {"S3_UPLOAD_PART_MIN_SIZE": "1", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 << 20)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx2.get(f"{self.url}/moto-api/", timeout=5)
            except httpx2.TransportError:
                if self._process.poll() is not None or time.monotonic() > until:
                    message = f"moto's server did not start:\n{self.log.read_text()[-4000:]}"
                    raise RuntimeError(message) from None
                time.sleep(0.05)
            else:
                return

    def client(self) -> Any:
        """A client of its own, to look at what is there."""
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415  (an extra: without it the tests that need it are skipped)

        session = boto3.session.Session(aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.url)

    def new_bucket(self, *, versions: bool = False, direct: bool = False) -> Mapping[str, Any]:
        """Make an empty bucket; gives the settings of a gateway that works on it, `direct` with URLs for parts."""
        name = f"tests-{token_hex(6)}"
        self._client = self._client or self.client()
        self._client.create_bucket(Bucket=name)
        if versions:
            self._client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        settings = {
            "blobs": f"s3://{name}/gateway",
            "s3_endpoint": self.url,
            "s3_region": "us-east-1",
            "s3_key_id": KEY_ID,
            "s3_secret": SECRET,
        }
        return settings | ({"s3_public": self.url} if direct else {})

    def stop(self) -> None:
        """End it."""
        assert self._process is not None
        if self._client is not None:
            self._client.close()
        self._process.kill()
        self._process.wait()


def keys_in(server: S3Server, settings: Mapping[str, Any]) -> list[str]:
    """Every key in a gateway's bucket, one for each version of an object, and unfinished uploads."""
    client, name = server.client(), settings["blobs"].removeprefix("s3://").partition("/")[0]
    versions = client.list_object_versions(Bucket=name)
    found = [*versions.get("Versions", ()), *versions.get("DeleteMarkers", ())]
    found += client.list_multipart_uploads(Bucket=name).get("Uploads", ())
    client.close()
    return sorted(one["Key"].rpartition("/")[2] for one in found)
