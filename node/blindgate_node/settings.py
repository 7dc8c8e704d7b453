"""What a node's operator decides, read once at start.

A setting is looked for in this order: the command line, an environment variable `BLINDGATE_NODE_<NAME>`, the TOML file that
`--config` or `BLINDGATE_NODE_CONFIG` names, the default below. Secrets are set in the environment or the file only: what is on
a command line, every user of the machine can read.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import TomlConfigSettingsSource

from blindgate_node.sandbox.layers import Layer
from blindgate_protocol.errors import MalformedError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import KeyId

ENVIRONMENT_PREFIX = "BLINDGATE_NODE_"
MEBI = 1 << 20


def _listed(value: object) -> object:
    """Let an environment variable name several things, separated by commas or spaces."""
    return tuple(part for part in re.split(r"[,\s]+", value) if part) if isinstance(value, str) else value


KeyIds = Annotated[tuple[KeyId, ...], NoDecode, BeforeValidator(_listed)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)]
Layers = Annotated[tuple[Layer, ...], NoDecode, BeforeValidator(_listed)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=MEBI)]
AttesterName = Literal["auto", "none", "amd-sev-snp", "intel-tdx", "aws-nitro", "insecure-simulated"]
GpuAttesterName = Literal["auto", "none", "nvidia-gpu"]


class Settings(BaseSettings):
    """A node's settings.

    Attributes:
        gateway: the gateway's address, exactly as the gateway knows itself.
        data: the node's folder: its key, receipts, packages. Only the node's user should enter it.
        publishers: the key ids whose models this node computes. None: it computes nothing.
        certificate: the file that `blindgate operator certify` wrote; `certificate.json` in `data` when not set.
        enrolment_token: the gateway's one-time token; needed once.
        ca: a file of CA certificates to trust for the gateway, in place of the system's.
        slots: how many jobs at once; one for each core when not set.
        poll_seconds: how long the gateway may hold a request for work open; also how long a node at rest takes to stop.
        drain_seconds: how long running jobs may go on after SIGTERM before they are given back.
        job_seconds: how long one job may take.
        start_seconds: how long a model may take to be imported and compiled.
        idle_seconds: after how long without a job a model's zygote is retired. One that keeps a key expanded goes with its key.
        zygotes: how many models are kept ready at once, not counting those.
        memory_bytes: the address space of one worker.
        scratch_bytes: the temporary files of one model's workers together.
        package_bytes: the packages kept on disk.
        key_bytes: the evaluation keys kept in memory, counted as they grow in use, with the processes that keep them so.
        key_seconds: how long an evaluation key is kept after its last use.
        require: sandbox layers without which the node does not start.
        first_user: where the node is root, the first of the user ids that its workers get, one a model.
        attester: what signs evidence of this machine; `auto` looks what there is, and never takes the simulated one.
        attester_certificates: a PEM file of certificates to go beside the evidence, where the platform gives none.
        attester_collateral: a file with what the platform's maker signed about it, to go beside the evidence: Intel's, in JSON.
        gpu_attester: what signs evidence of its GPUs; `auto` looks what there is.
        gpu_references: NVIDIA's signed reference manifests, files to go beside the GPUs' evidence; at most four.
        attestations: how many questions about its evidence this node answers a minute; the platform may be slow, or refuse more.
        models: a folder of plaintext models, each in a folder of its own; they are checked and loaded at start.
        device: what plaintext models compute on; `auto` takes CUDA where it is there.
        upstream: the address, on loopback, of a server of OpenAI's API in the same trusted environment.
        upstream_key: that server's API key, if it wants one.
        corpus_bytes: the corpora that each model keeps open in memory, counted as they lie at the gateway, sealed.
        corpus_seconds: how long a corpus stays open after it was last searched.
        key_set_seconds: how long a set of keys is that it can be sealed to; a new one is offered once half of that has passed.
        log_file: where log lines go; standard error when not set.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    gateway: str = "http://127.0.0.1:8080"
    data: Path = Path("blindgate-node")
    publishers: KeyIds = ()
    certificate: Path | None = None
    enrolment_token: SecretStr | None = None
    ca: Path | None = None
    slots: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=lambda: len(os.sched_getaffinity(0)))
    poll_seconds: Annotated[float, Field(ge=0, le=25)] = 5.0
    drain_seconds: Seconds = 30.0
    job_seconds: Seconds = 900.0
    start_seconds: Seconds = 60.0
    idle_seconds: Seconds = 60.0
    zygotes: Annotated[int, Field(ge=1, le=64)] = 4
    memory_bytes: Bytes = 6144 * MEBI
    scratch_bytes: Bytes = 256 * MEBI
    package_bytes: Bytes = 1024 * MEBI
    key_bytes: Bytes = 4096 * MEBI
    key_seconds: Seconds = 600.0
    require: Layers = (Layer.LIMITS, Layer.PRIVILEGES, Layer.SYSCALLS)
    first_user: Annotated[int, Field(ge=1, lt=2**31)] = 64_500
    attester: AttesterName = "auto"
    attester_certificates: Path | None = None
    attester_collateral: Path | None = None
    gpu_attester: GpuAttesterName = "auto"
    gpu_references: Paths = ()
    attestations: Annotated[int, Field(ge=1, le=600)] = 12
    models: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    upstream: str | None = None
    upstream_key: SecretStr | None = None
    corpus_bytes: Bytes = 1024 * MEBI
    corpus_seconds: Seconds = 900.0
    key_set_seconds: Annotated[float, Field(ge=60, le=604_800)] = 86_400.0
    log_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("gateway")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            message = "must start with http:// or https://"
            raise ValueError(message)
        return value.rstrip("/")

    @field_validator("data")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.absolute()

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

    @property
    def certificate_file(self) -> Path:
        """Where the node's certificate lies."""
        return self.certificate or self.data / "certificate.json"


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """Read the settings; what is given by name, and is not `None`, wins. Raises `MalformedError`."""
    if config is not None and not config.is_file():
        message = f"the settings file {config} does not exist"
        raise MalformedError(message)

    class Configured(Settings):
        model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(toml_file=config)

    try:
        return Configured(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        message = f"settings: {first_error(error)}"
        raise MalformedError(message) from error
    except ValueError as error:
        message = f"the settings file {config} is not TOML"
        raise MalformedError(message) from error
