"""`blindgate models list|show|compile|package|publish`."""

import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindgate.commands import plain_models
from blindgate.commands.options import Connect, Home, Json, Passphrase, ValidityDays, asks_gateway, path
from blindgate.commands.publisher import key_store, publisher_key
from blindgate.model_makers import describe
from blindgate.output import note, require_folder, show, show_one, when
from blindgate.policy import Policy
from blindgate.progress import working
from blindgate.uploads import upload
from blindgate_models.plain_packages import MANIFEST, open_plain_package
from blindgate_models.publishing import DEFAULT_DECIMALS, MOST_DECIMALS, on_calibration, open_package
from blindgate_models.publishing import publish as sign_package
from blindgate_models.validity import DAY, DEFAULT_VALIDITY_DAYS
from blindgate_protocol.errors import InputError
from blindgate_protocol.manifest import Accuracy, Column, Encrypted, Manifest, Output, Privacy
from blindgate_protocol.messages import ModelOffer
from blindgate_protocol.signing import Signed
from blindgate_protocol.values import NAME

if TYPE_CHECKING:
    import pandas as pd

    from blindgate_models.compilers.compiled import CompiledModel
    from blindgate_models.compilers.prepared import Prepared

app = typer.Typer(help="Models: list, show, compile, publish.", no_args_is_help=True)


@app.command("list")
@asks_gateway
def list_(connect: Connect, as_json: Json = False) -> None:
    """List the models that the gateway offers, and whether your policy trusts who signed them.

    `trust` says yes for those that you may use. A publisher that you revoked, or never named, signs nothing that is used now.
    """
    with connect() as client:
        rows = [
            {
                "name": manifest.document.name,
                "version": manifest.document.version,
                "family": manifest.document.family,
                "columns": len(manifest.document.columns),
                "expires": manifest.document.expires if as_json else when(manifest.document.expires),
                **_publisher(client.policy, manifest.signer, as_json=as_json),
                "summary": manifest.document.summary,
            }
            for manifest in client.models()
        ]
    show(rows, as_json=as_json, empty="The gateway offers no models yet. See: blindgate models publish --help")


@app.command("show")
@asks_gateway
def show_(
    connect: Connect,
    name: Annotated[str, typer.Argument(help="The model's name, or a package: its file, or its folder.")],
    as_json: Json = False,
) -> None:
    """Show a model's manifest: its columns and ranges, its answers, its accuracy, and who learns what."""
    if (Path(name) / MANIFEST).is_file():
        _print(open_plain_package(Path(name)).manifest, as_json=as_json)
        return
    if Path(name).is_file():
        _print(open_package(Path(name)).manifest, as_json=as_json)
        return
    with connect() as client:
        manifest = client.manifest(name)
        _print(manifest, client.policy, as_json=as_json)


@app.command("compile")
def compile_(
    estimator: Annotated[
        Path,
        typer.Argument(
            help="A fitted model: XGBoost's .json or .ubj, LightGBM's .txt, or scikit-learn saved by skops; for the family search, "
            "an array of embeddings (.npy).",
            exists=True,
        ),
    ],
    calibration: Annotated[
        Path | None,
        typer.Argument(
            help="A CSV file of rows like those to come: ranges and scales are chosen from it. None for the family search.",
            exists=True,
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="What users will call the model.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The package; NAME.bgmodel by default.", parser=path),
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Above every one that was published under this name.")] = 1,
    summary: Annotated[str, typer.Option(help="A sentence for the people who will use it.")] = "",
    target: Annotated[
        str | None, typer.Option(help="The column of the CSV files with the right answers, to tell an accuracy.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file of rows that neither the model nor CALIBRATION has seen: they are run under encryption, and "
            "the manifest states how the model did on them.",
            exists=True,
        ),
    ] = None,
    columns: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with a table for each column to say something about: minimum, maximum, "
            "out_of_range = 'clip', fill for missing values, type = 'integer', categories.",
            exists=True,
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="additive, concrete, linear, network, search, trees or trees-batch; chosen by the model when not given. "
            "See --compare.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Compile with every family that takes the model, and show what each costs."),
    ] = False,
    bins: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Fit the model again on so many public bins a column, so that its thresholds need not be published; "
            "says what that does to its accuracy. Needs --target.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How far an encrypted score may be from the model's, as a share of the largest score of the CALIBRATION rows "
            "(of a regression, of their spread): 0.001 for a thousandth. Each family has its own by default, a thousandth or "
            "finer; with --hide-scores it is 0.005 of a probability.",
        ),
    ] = None,
    hide_scores: Annotated[
        bool,
        typer.Option(
            "--hide-scores",
            help="A logistic model of two classes: the node applies the sigmoid under encryption, so that users get "
            "probabilities and no scores. Slower, and needs evaluation keys.",
        ),
    ] = False,
    rows_per_tenant: Annotated[
        int | None,
        typer.Option(min=1, help="How many rows a tenant may ask for in all; as many as it likes by default."),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="search: a text file with a line for each entry, what it is called; else its position.", exists=True
        ),
    ] = None,
    privacy: Annotated[
        str | None,
        typer.Option(
            help="search: model_private, whose replies hide the index beyond scores, or model_public, which is faster."
        ),
    ] = None,
    days: ValidityDays = DEFAULT_VALIDITY_DAYS,
    decimals: Annotated[
        int | None,
        typer.Option(
            min=-MOST_DECIMALS,
            max=MOST_DECIMALS,
            help="How many decimals of a number users see; by default those that hide the noise of encryption, but not over "
            f"{DEFAULT_DECIMALS} or, of a regression that is exact to more, over those.",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Read a pickle: it runs whatever its author put into it.")
    ] = False,
    home: Home = None,
    passphrase: Passphrase = None,
    as_json: Json = False,
) -> None:
    """Compile a fitted model into a signed package that nodes can run on ciphertexts.

    Reports how well it agrees with the model in the clear, its sizes, and how long a row will take. Signed with your publisher
    key: see 'blindgate publisher key'.
    """
    # Compilers need pandas, scikit-learn or XGBoost, which the other commands do without.
    from blindgate_models.compilers.compile_environment import CompilerError  # noqa: PLC0415
    from blindgate_models.compilers.estimators import read_rows  # noqa: PLC0415
    from blindgate_models.compilers.from_files import Choices, compile_files, compile_index  # noqa: PLC0415

    if not re.fullmatch(NAME, name):
        message = f"--name: got {name!r:.80}, expected lower-case letters, digits, '.', '_' and '-', 64 at most"
        raise InputError(message)
    require_folder(output)
    if family == "search" or (family is None and estimator.suffix == ".npy"):
        others: dict[str, object] = {"CALIBRATION": calibration, "--target": target, "--columns": columns}
        others |= {"--held-out": held_out, "--bins": bins, "--tolerance": tolerance}
        others |= {"--compare": compare or None, "--hide-scores": hide_scores or None}
        _take_none("the family search takes none", others)
        compiling = partial(compile_index, estimator, ids, privacy)
    else:
        _take_none("other families than search take none", {"--ids": ids, "--privacy": privacy})
        if calibration is None:
            message = "CALIBRATION: expected a CSV file of rows like those to come"
            raise InputError(message)
        choices = Choices(target, columns, family, compare, bins, tolerance, trust_pickle, hide_scores)
        compiling = partial(compile_files, estimator, calibration, choices)
    try:
        unseen = None if held_out is None else read_rows(held_out, target)
        with working(f"compiling {name}", show=None):
            compilation = compiling()
        compiled = compilation.compiled
        accuracy = on_calibration(compiled, compilation.refitted.get("accuracy_over_folds_on_bins"))
        tried: dict[str, Any] = {}
        if unseen is not None and compilation.prepared is not None:
            accuracy, tried = _tried(compiled, compilation.prepared, *unseen)
    except (ValueError, TypeError, ModuleNotFoundError, CompilerError) as error:
        message = f"{estimator.name}: {error}"
        raise InputError(message) from error
    now = int(time.time() * 1000)
    try:
        package = sign_package(
            compiled,
            publisher_key(key_store(home, passphrase)),
            name=name,
            version=version,
            summary=summary,
            issued=now,
            expires=now + days * DAY,
            decimals=decimals,
            accuracy=accuracy,
            rows_per_tenant=rows_per_tenant,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    file = output or Path(f"{name}.bgmodel")
    file.write_bytes(package)
    report = compiled.report
    shown: dict[str, Any] = {
        "package": str(file),
        "package_bytes": len(package),
        "family": compiled.family,
        "model": compiled.privacy.mode,
        "accuracy_in_the_clear": compilation.accuracy,
        **compilation.refitted,
        **tried,
        "agreement": accuracy.agreement,
        "max_score_error": accuracy.max_error,
        "rows_compared": accuracy.rows,
        "of_held_out_rows": accuracy.held_out,
        "evaluation_key_bytes": report["evaluation_key_bytes"],
        "upload_bytes_per_row": report["ciphertext_bytes_per_row"],
        "download_bytes_per_row": report["result_bytes_per_row"],
        "expected_seconds_per_row": report["expected_seconds_per_row"],
    }
    _show_compiled(shown, compilation.compared, as_json=as_json)


def _tried(
    compiled: "CompiledModel", prepared: "Prepared", rows: "pd.DataFrame", answers: "pd.Series[Any] | None"
) -> tuple[Accuracy, dict[str, Any]]:
    """How the model does on rows that it has not seen: for the manifest, and for the one who compiles."""
    from blindgate.held_out import try_out  # noqa: PLC0415

    with working(f"trying {len(rows)} held-out rows", show=None) as progress:
        trial = try_out(compiled, prepared, rows, answers, progress)
    if trial.why is not None:
        note(
            f"{trial.refused} of {len(rows)} held-out rows are left out, since users could not ask about them: {trial.why}"
        )
    accuracies = {"held_out_accuracy_in_the_clear": trial.plain, "held_out_accuracy": trial.encrypted}
    return trial.accuracy, accuracies if answers is not None else {}


def _take_none(what: str, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            message = f"{name}: {what}"
            raise InputError(message)


app.command("package")(plain_models.package)


@app.command()
@asks_gateway
def publish(
    connect: Connect,
    package: Annotated[
        Path,
        typer.Argument(
            help="A model package: the file of 'blindgate models compile', or the folder of 'blindgate models package'.",
            exists=True,
        ),
    ],
) -> None:
    """Publish a signed model package at the gateway. The API key needs the scope 'publish'.

    Of a model that computes in the clear, the gateway gets the manifest and the list of its files. The files are for the nodes:
    give their operators the folder.
    """
    if package.is_dir():
        plain_models.publish(connect, package)
        return
    opened = open_package(package)
    with connect() as client:
        upload(client.transport, opened.client)
        upload(client.transport, opened.server)
        offer = ModelOffer(manifest=opened.manifest.envelope)
        client.transport.post("/v1/models", offer, ModelOffer)
    document = opened.manifest.document
    note(f"published {document.name} version {document.version}, signed by {opened.manifest.signer}")


def _show_compiled(shown: dict[str, Any], compared: "Mapping[str, CompiledModel | str]", *, as_json: bool) -> None:
    from blindgate_models.compilers.comparing import describe  # noqa: PLC0415

    lines = [describe(family, compiled) for family, compiled in compared.items()]
    if as_json:
        show_one(shown | ({"compared": lines} if lines else {}), as_json=True)
        return
    show_one(shown, as_json=False)
    fitting = [line for line in lines if line["fits"] == "yes"]
    if fitting:
        members = [member for member in fitting[0] if member not in {"family", "fits"}]
        table = [
            {"": member.replace("_", " "), **{line["family"]: line[member] for line in fitting}} for member in members
        ]
        note("")
        show(table, as_json=False)
    for line in lines:
        if line["fits"] != "yes":
            note(f"{line['family']} does not take this model: {line['fits']}")


def _publisher(policy: Policy, key: str, *, as_json: bool) -> dict[str, Any]:
    """Who signed a model, by the policy's name where it has one, and whether the policy lets it be used now."""
    name = next((name for name, known in policy.publishers.items() if known == key), None)
    found, now = policy.revoked.get(key), int(time.time() * 1000)
    trust = "not trusted" if name is None else "yes"
    if found is not None and found.at <= now:
        trust = "revoked"
    if as_json:
        return {
            "publisher": name,
            "publisher_key": key,
            "trust": trust,
            "revoked_from": None if found is None else found.at,
            "revoked_reason": None if found is None else found.reason,
        }
    if found is not None:
        trust = "not trusted, revoked" if name is None else "revoked" if found.at <= now else "yes, but revoked"
        trust += f" from {when(found.at)}" + (f" ({found.reason})" if found.reason else "")
    return {"publisher": name or key, "trust": trust}


def _print(manifest: Signed[Manifest], policy: Policy | None = None, *, as_json: bool) -> None:
    document = manifest.document
    trust = {} if policy is None else _publisher(policy, manifest.signer, as_json=as_json)
    if as_json:
        about = {"publisher": manifest.signer, "digest": manifest.digest, **document.model_dump(mode="json")}
        show_one(about | {name: value for name, value in trust.items() if name not in about}, as_json=True)
        return
    shown: dict[str, Any] = {
        "name": f"{document.name}, version {document.version}",
        "summary": document.summary,
        "publisher": manifest.signer,
        **{name: value for name, value in trust.items() if name != "publisher"},
        "digest": manifest.digest,
        "valid": f"{when(document.issued)} to {when(document.expires)}",
        "family": f"{document.family}, lane {document.lane}, evaluation key {'yes' if document.evaluation_key else 'no'}",
        **({} if document.output is None else _of_table(document.output)),
        **(_of_encrypted(document.encrypted()) if document.lane == "fhe" else {"asked_by": document.api}),
        **({} if document.maker is None else {"made_by": f"{describe(document.maker)}, by the publisher's word"}),
        "rows_per_job": document.limits.rows_per_job,
        "determinism": document.determinism,
        "model": _privacy(document.privacy),
        "you_learn": "; ".join(document.discloses.to_client),
        "a_node_learns": "; ".join(document.discloses.to_node),
    }
    show_one(shown, as_json=False)
    if not document.columns:
        return
    columns = [
        {
            "column": column.name,
            "type": column.type,
            "values": _values(column),
            "outside": column.out_of_range,
            "missing": column.missing if column.fill is None else f"filled with {column.fill:g}",
        }
        for column in document.columns
    ]
    show(columns, as_json=False)


def _of_table(output: Output) -> dict[str, Any]:
    return {"answers": _answers(output), "decimals": output.decimals}


def _of_encrypted(found: Encrypted) -> dict[str, Any]:
    accuracy, encryption = found.accuracy, found.encryption
    return {
        "accuracy": "not stated" if accuracy.plain is None else f"{accuracy.plain:.4f} in the clear",
        "agreement": f"{accuracy.agreement:.4f} of {accuracy.rows} "
        f"{'held-out' if accuracy.held_out else 'calibration'} rows, under encryption and in the clear",
        "encryption": f"{encryption.scheme.upper()}, {encryption.security} bits of security",
        "score_error": f"at most {encryption.error_bound:.2g}",
    }


def _answers(output: Output) -> str:
    if output.task == "search":
        return f"the nearest of {output.scores} entries"
    if output.task == "lookup":
        return "the record at a position"
    return ", ".join(str(label) for label in output.labels) or "a number"


def _values(column: Column) -> str:
    if column.minimum is None or column.maximum is None:
        return ", ".join(str(category) for category in column.categories)
    return f"{column.minimum:g} to {column.maximum:g}"


def _privacy(privacy: Privacy) -> str:
    rows = "" if privacy.rows_per_tenant is None else f"; {privacy.rows_per_tenant} rows a tenant"
    if privacy.bits is None:
        return f"public to those who ask it{rows}"
    return f"private: replies say nothing beyond scores, but for an advantage of 2^-{privacy.bits:.0f} over a million rows{rows}"
