"""Where the SDK keeps files, and where it is told so.

One folder, `home`, holds the key store, the bundles of past jobs, what was signed about keys and what was seen of models and logs.
The policy lies beside it, in the user's configuration, because its owner edits it by hand.

| what | argument | environment | default |
|---|---|---|---|
| gateway | `url` | `BLINDGATE_URL` | none |
| API key | `api_key` | `BLINDGATE_API_KEY` | none |
| home | `home` | `BLINDGATE_HOME` | the platform's data folder for `blindgate` |
| policy | `policy` | `BLINDGATE_POLICY` | `policy.toml` in a home that was chosen, or in the platform's configuration folder |
| passphrase | `passphrase` | `BLINDGATE_PASSPHRASE` | a random one in a file of its own, see `keystore` |
| CA bundle | `ca` | `SSL_CERT_FILE`, `SSL_CERT_DIR` | the system's |
| proxy | none | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | none |
"""

import os
from pathlib import Path

import platformdirs

Pathlike = str | os.PathLike[str]


def home_folder(home: Pathlike | None) -> Path:
    """The SDK's folder: the argument, the environment, or the platform's."""
    chosen = home or os.environ.get("BLINDGATE_HOME")
    return Path(chosen) if chosen else platformdirs.user_data_path("blindgate")


def policy_file(policy: Pathlike | None, home: Pathlike | None) -> Path:
    """The policy's file: the argument, the environment, beside a home that was chosen, or the platform's."""
    chosen = policy or os.environ.get("BLINDGATE_POLICY")
    if chosen:
        return Path(chosen)
    if home or os.environ.get("BLINDGATE_HOME"):
        return home_folder(home) / "policy.toml"
    return platformdirs.user_config_path("blindgate") / "policy.toml"
