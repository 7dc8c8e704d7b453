"""What an operator decides about a gateway, read once at start.

A setting is looked for in this order: the command line, an environment variable `BLINDGATE_GATEWAY_<NAME>`, the TOML file
that `--config` or `BLINDGATE_GATEWAY_CONFIG` names, the default below. `blindgate gateway settings` shows what came out,
with secrets hidden.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import TomlConfigSettingsSource

from blindgate_protocol.errors import MalformedError
from blindgate_protocol.evidence import Evidence
from blindgate_protocol.notes import KeyKind, VerifierKey
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import KeyId, Millis, Size

ENVIRONMENT_PREFIX = "BLINDGATE_GATEWAY_"
MEBI = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DAY: Millis = 86_400_000
MOST_PARTS = 10_000
"""Of one upload, as S3 has it."""


def _listed(value: object) -> object:
    """Let an environment variable name several things, separated by commas or spaces."""
    return tuple(part for part in re.split(r"[,\s]+", value) if part) if isinstance(value, str) else value


def _mapped(value: object) -> object:
    """Let an environment variable hold a table, as `name=value` with commas between."""
    return dict(part.strip().partition("=")[::2] for part in value.split(",")) if isinstance(value, str) else value


PeopleRoles = Annotated[
    dict[str, Literal["operator", "auditor", "jobs", "publish", "read"]], NoDecode, BeforeValidator(_mapped)
]
Witnesses = Annotated[dict[str, str], NoDecode, BeforeValidator(_mapped)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_listed)]
KeyIds = Annotated[tuple[KeyId, ...], NoDecode, BeforeValidator(_listed)]
Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """A gateway's settings.

    Attributes:
        data: the folder of the database and the blobs. Nobody but the gateway's user needs to read it.
        blobs: an S3-compatible store in place of the folder: `s3://bucket/prefix`. Several gateways may work on one.
        s3_endpoint: the store's URL; Amazon's own where not set.
        s3_region: its region, where it has any.
        s3_key_id: the id of the key with which the gateway signs; where it is not set, boto3's own places are looked at
            (environment, profile, the machine's role).
        s3_secret: that key's secret.
        s3_public: the store's URL as clients reach it. Where it is set, the parts of large uploads go straight there, by URLs that
            are signed for one part each; otherwise every byte goes through the gateway.
        s3_url_lifetime: how long such a URL is good, in milliseconds.
        database: a PostgreSQL server in place of the file in `data`: `postgresql://user:password@host/name`. Several gateways
            may work on one.
        connections: how many connections to that server a process opens at most.
        host: where to listen.
        addresses: the URLs under which nodes and clients know this gateway; when empty, `http://host:port` (and, on a
            loopback address, the other names of it). A node's enrolment is accepted only if it was told one of these.
        publishers: key ids whose manifests are taken into the catalogue.
        operators: key ids whose nodes are taken in and given work.
        workers: processes. One is enough for SQLite: more do a little more, and wait for each other when they write.
        threads: requests at once in each process. A quarter stays free of long polls.
        stall: how long a caller may send nothing of a request that it began, or take nothing of its answer, in milliseconds.
        drain: how long a gateway that was told to stop goes on answering, with `/readyz` at 503, in milliseconds: longer than the
            proxy in front keeps connections to it that are idle, or needs to see that it is not ready. 0 where there is no proxy.
        leaves: whether a gateway that was stopped in order will not come back, since its data folder ends with it. Then the others
            count without it at once, and not only when it was not seen for ten minutes.
        waiting: how many jobs of a tenant may be waiting or running; who has more is told to ask again later.
        queue: the same, of all tenants together.
        lease: how long a lease lasts without a heartbeat, in milliseconds.
        attempts: how many leases a job gets before it is dead.
        in_flight: how many jobs of a tenant nodes may have at once, where nothing else was set for the tenant.
        questions: how many questions for evidence a tenant may ask a minute.
        evidence: how many bytes of evidence a node may answer with.
        rate: how many requests a second one credential may make, in each process, and ten times as many at once; 0 for no limit.
        failures: how many wrong credentials a minute one address may bring, in each process; 0 for no limit.
        proxies: the networks of the gateway's own proxies: what they say in X-Forwarded-For is believed.
        part: how large the parts of an upload are.
        max_blob: the largest blob that anybody may upload.
        quota: how many bytes a tenant may have stored, where nothing else was set for the tenant.
        retention: how long after its end a job's blobs are kept, and how long blobs that nothing refers to, and unfinished uploads.
        records: how long the record of a job is kept after its end: its order, receipt and attempts. The blobs go earlier.
        grace: how long bytes that no row of the database names are left alone, in milliseconds.
        log_key: the file of the key that signs the log's checkpoints; `log.key` in `data` where it is not set. Several gateways on
            one database sign with the same one; a gateway without it leaves signing to the others.
        log_origin: the log's name, from its beginning on: a URL without its scheme, by custom.
        checkpoint: how long an event waits for its place in the log at most, in milliseconds.
        witnesses: who cosigns checkpoints: the address of each witness, and its verifier key; as `address=key` with commas
            between, or a table. A witness that signs by two keys may be given with both: `key key`.
        console: whether auditors find pages under `/console`.
        oidc_issuer: the OpenID Connect issuer whose tokens people may bring, exactly as in `iss`; none when not set.
        oidc_audience: what `aud` of those tokens must be or hold: this gateway's name at the issuer.
        oidc_claim: which claim says what somebody may do; a list, or a text with spaces between.
        oidc_roles: what its values stand for, as `value=role` with commas between, or a table: `operator`, `auditor`, and the
            scopes `jobs`, `publish` and `read` of a tenant.
        oidc_tenant: which claim names the tenant.
        metrics_token: when set, `/metrics` asks for it as a bearer token.
        log_file: where log lines go; standard error when not set.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    data: Path = Path("blindgate-gateway")
    blobs: str | None = None
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_key_id: str | None = None
    s3_secret: SecretStr | None = None
    s3_public: str | None = None
    s3_url_lifetime: Annotated[Millis, Field(ge=1000, le=7 * DAY)] = 900_000
    database: SecretStr | None = None
    connections: Annotated[int, Field(ge=2, le=1024)] = 16
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    addresses: Addresses = ()
    publishers: KeyIds = ()
    operators: KeyIds = ()
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    threads: Annotated[int, Field(ge=4, le=1024)] = 32
    stall: Annotated[int, Field(ge=100, le=3_600_000)] = 30_000
    drain: Annotated[Millis, Field(ge=0, le=600_000)] = 0
    leaves: bool = False
    waiting: Annotated[int, Field(ge=1)] = 100_000
    queue: Annotated[int, Field(ge=1)] = 1_000_000
    lease: Annotated[Millis, Field(ge=100)] = 30_000
    attempts: Annotated[int, Field(ge=1, le=10_000)] = 3
    in_flight: Annotated[int, Field(ge=1)] = 64
    questions: Annotated[int, Field(ge=1, le=10_000)] = 30
    evidence: Annotated[Size, Field(ge=16 * 1024, le=Evidence.most_bytes)] = MEBI
    rate: Annotated[float, Field(ge=0)] = 1000.0
    failures: Annotated[float, Field(ge=0)] = 60.0
    proxies: Networks = ()
    part: Annotated[Size, Field(ge=64 * 1024, le=64 * MEBI)] = 16 * MEBI
    max_blob: Annotated[Size, Field(ge=1)] = 4096 * MEBI
    quota: Annotated[Size, Field(ge=0)] = 256 * 1024 * MEBI
    retention: Annotated[Millis, Field(ge=1000)] = 7 * DAY
    records: Annotated[Millis, Field(ge=1000)] = 400 * DAY
    grace: Annotated[Millis, Field(ge=1000)] = DAY // 24
    log_key: Path | None = None
    log_origin: Annotated[str, Field(pattern=r"^[^\s+]{1,200}$")] | None = None
    checkpoint: Annotated[Millis, Field(ge=50, le=600_000)] = 2000
    witnesses: Witnesses = Field(default_factory=dict)
    console: bool = True
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_claim: str = "roles"
    oidc_roles: PeopleRoles = {}
    oidc_tenant: str = "tenant"
    metrics_token: SecretStr | None = None
    log_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic-settings passes it; a .env file is not read)
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file behind the environment."""
        return init_settings, env_settings, file_secret_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("database")
    @classmethod
    def _server(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            message = "must start with postgresql://"
            raise ValueError(message)
        return value

    @field_validator("blobs")
    @classmethod
    def _bucket(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(
            r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*/?", value, re.ASCII
        ):
            message = "must be s3://bucket or s3://bucket/prefix"
            raise ValueError(message)
        return value

    @field_validator("s3_endpoint", "s3_public")
    @classmethod
    def _web(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/?#@]+/?", value):
            message = "must be http:// or https:// and a host"
            raise ValueError(message)
        return value

    @field_validator("witnesses")
    @classmethod
    def _cosigners(cls, value: dict[str, str]) -> dict[str, str]:
        for address, key in value.items():
            if not re.fullmatch(r"https?://[^?#@\s]+", address):
                message = f"each witness is given as address=key, the address with http:// or https://; this is none: {address!r}"
                raise ValueError(message)
            try:
                keys = [VerifierKey.parse(one) for one in key.split()]
            except MalformedError as error:
                raise ValueError(str(error)) from error
            kinds = [one.kind for one in keys]
            if (
                not keys
                or KeyKind.ED25519 in kinds
                or len(set(kinds)) != len(kinds)
                or len({one.name for one in keys}) > 1
            ):
                message = (
                    "must name each witness's verifier key, or its keys of two kinds under one name; keys that cosign"
                )
                raise ValueError(message)
        return value

    @property
    def witness_keys(self) -> Mapping[str, tuple[VerifierKey, ...]]:
        """The keys of each witness, by its address."""
        return {address: tuple(map(VerifierKey.parse, key.split())) for address, key in self.witnesses.items()}

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.s3_key_id is None) != (self.s3_secret is None):
            message = "s3_key_id and s3_secret belong together"
            raise ValueError(message)
        if self.blobs is not None and self.max_blob > MOST_PARTS * self.part:
            message = f"an S3 upload has at most {MOST_PARTS} parts: max_blob is too large for this part"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _people(self) -> Self:
        if self.oidc_issuer is None:
            return self
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            message = "oidc_issuer must start with https://"
            raise ValueError(message)
        if not self.oidc_audience:
            message = "oidc_issuer needs oidc_audience: a token for somebody else must not count here"
            raise ValueError(message)
        return self

    @property
    def sqlite_file(self) -> Path:
        """Where SQLite's file lies, when no server is set."""
        return self.data / "gateway.sqlite"

    @property
    def log_key_file(self) -> Path:
        """Where the log's key lies."""
        return self.log_key or self.data / "log.key"

    def known_as(self, address: str) -> bool:
        """Whether `address` is one of this gateway's own."""
        return address.rstrip("/") in self._own_addresses()

    def addresses_at(self, authority: str) -> tuple[str, ...]:
        """This gateway's own addresses at `authority` (host and port); all of them where none is, since a proxy renamed it."""
        own = self._own_addresses()
        return tuple(address for address in own if address.partition("://")[2].partition("/")[0] == authority) or own

    def _own_addresses(self) -> tuple[str, ...]:
        if self.addresses:
            return tuple(address.rstrip("/") for address in self.addresses)
        hosts = LOOPBACK if self.host in LOOPBACK else (self.host,)
        return tuple(f"http://{f'[{host}]' if ':' in host else host}:{self.port}" for host in hosts)

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON can hold it, secrets hidden."""
        return self.model_dump(mode="json")


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """Read the settings; what is given by name, and is not `None`, wins. Raises `MalformedError`."""
    if config is not None and not config.is_file():
        message = f"the settings file {config} does not exist"
        raise MalformedError(message)

    class Configured(Settings):
        model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(toml_file=config)

    try:
        read = Configured(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        message = f"settings: {first_error(error)}"
        raise MalformedError(message) from error
    except ValueError as error:
        message = f"the settings file {config} is not TOML"
        raise MalformedError(message) from error
    return Settings.model_construct(**{name: getattr(read, name) for name in Settings.model_fields})
