"""How the log names what an event is about."""


def key_object(digest: str) -> str:
    """An evaluation key."""
    return f"key:{digest}"


def corpus_object(corpus: str) -> str:
    """A corpus, by the id that the gateway drew for it: its name may say something."""
    return f"corpus:{corpus}"


def job_object(job: str) -> str:
    """A job."""
    return f"job:{job}"


def node_object(key: str) -> str:
    """A node, by its signing key."""
    return f"node:{key}"


def signer_object(key: str) -> str:
    """A publisher or an operator, by its signing key."""
    return f"signer:{key}"


def model_object(name: str, version: int) -> str:
    """A model in one version."""
    return f"model:{name}/{version}"


def budget_name(publisher: str, model: str) -> str:
    """Which rows are counted together: of all versions of a model of one publisher."""
    return f"{publisher}/{model}"


def gateway_object(gateway: str) -> str:
    """A gateway, by the id in its data folder."""
    return f"gateway:{gateway}"


def credential_object(key: str) -> str:
    """An API key, by its id."""
    return f"credential:{key}"


def enrolment_token_object(token: str) -> str:
    """An enrolment token, by its id."""
    return f"enrolment-token:{token}"


def tenant_object(pseudonym: str) -> str:
    """A tenant."""
    return f"tenant:{pseudonym}"


def staff_object(pseudonym: str) -> str:
    """Somebody of the gateway's own staff."""
    return f"staff:{pseudonym}"


def session_object(name: str) -> str:
    """A session at the auditors' console, by a name that opens nothing."""
    return f"session:{name}"


def event_object(index: int) -> str:
    """An entry of the log itself."""
    return f"event:{index}"


def log_object(origin: str) -> str:
    """The log itself."""
    return f"log:{origin}"
