"""Write the model card: a model folder's README.md, which the Hugging Face hub can read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pairjax.base.config import OptimConfig
from pairjax.base.terminal import Score, format_score
from pairjax.base.types import TaskSpec
from pairjax.evaluation.scores import AT_THRESHOLD, CALIBRATED, SWAPPED, base_metric
from pairjax.evaluation.tables import NAMES, OF_POSITIVE


@dataclass(frozen=True)
class CardInfo:
    """The facts that a card states.

    Attributes:
        name: Title of the card.
        task: The task.
        config: The resolved config as plain data, as in the run's config.json.
        metrics: Scores by split, then by name, as in result.json.
        source: Provenance of the data (`PairData.source`): name, files, licence if known, number of pairs.
        provenance: Versions, commit, device and command.
        steps: Number of updates of the saved parameters.
        temperature: Divides the logits; fitted on dev.
        threshold: Threshold of the positive class, fitted on dev; None if there is none.
        language: Code of the texts' language ("en"); None if it is not known.
        notes: Lines about the data (pairs truncated, repeated, ...).
        warnings: Lines that every user of the model should see.
    """

    name: str
    task: TaskSpec
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Score]]
    source: Mapping[str, Any]
    provenance: Mapping[str, Any]
    steps: int
    temperature: float = 1.0
    threshold: float | None = None
    language: str | None = None
    notes: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())


def escaped(text: object) -> str:
    """Returns text as one line of Markdown in which no character starts or ends a cell, tag, link or other markup."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|#~":
        line = line.replace(mark, "\\" + mark)
    return line


def _code(text: object) -> str:
    """Returns text as a code span for a table cell; the text may contain backticks."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    if "`" not in line:
        return f"`{line}`"
    longest = max(len(run) for run in "".join(c if c == "`" else " " for c in line).split())
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _front_matter(info: CardInfo) -> list[str]:
    """Returns the lines of the YAML front matter; values are JSON, which is YAML, so no text needs YAML's quoting."""
    names = list(dict.fromkeys(name for split in info.metrics.values() for name in split))
    fields: dict[str, Any] = {"library_name": "pairjax"}
    if info.language:
        fields["language"] = info.language
    if info.source.get("licence"):
        # Only the licence of the data is known; whoever publishes the model states its own.
        fields["data_license"] = info.source["licence"]
    fields["pipeline_tag"] = "text-classification"
    kind = info.config["model"]["kind"]
    fields["tags"] = ["pairjax", "jax", "sentence-pairs", f"{kind}-encoder", info.task.kind]
    fields["datasets"] = [str(info.source.get("name", "unknown"))]
    fields["metrics"] = [name for name in names if name in NAMES and not name.startswith(SWAPPED)]
    fields["base_model"] = info.config["model"]["encoder"]
    return ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()), "---"]


def _task_lines(info: CardInfo) -> list[str]:
    """Returns what the model predicts."""
    task = info.task
    if task.kind == "regression":
        return ["Predicts a score for a pair of texts, in the units of the training scores."]
    lines = ["Classifies a pair of texts into one of these classes, in the order of the model's outputs:", ""]
    lines += [f"{number}. {escaped(label)}" for number, label in enumerate(task.labels)]
    if task.positive is not None:
        lines += ["", f"Precision, recall and F1 are those of the positive class, {escaped(task.positive)}."]
    return lines


OPTIONAL = ("bias_correction", "decay_to", "gradual", "reinit_layers", "lora", "average")


def _option_row(loss: Mapping[str, Any], optim: Mapping[str, Any]) -> dict[str, str]:
    """Returns a row for the optional techniques that the run used; no row if it used none."""
    defaults, used = asdict(OptimConfig()), []
    for name, value in optim.items():
        if name not in OPTIONAL or value == defaults[name]:
            continue
        parts = value if isinstance(value, Mapping) else {"": value}
        used.append(f"{name.replace('_', ' ')} " + ", ".join(f"{key} {part}".strip() for key, part in parts.items()))
    if loss.get("r_drop"):
        used.append(f"R-Drop {loss['r_drop']}")
    return {"options": "; ".join(used)} if used else {}


def _loss_kind(loss: Mapping[str, Any]) -> str:
    """Returns the kind of loss that the user chose, and where its class probabilities came from."""
    if not loss.get("kind"):
        return ""
    kind = str(loss["kind"])
    if loss.get("teacher"):
        kind += f" (teacher {loss['teacher']}, temperature {loss['temperature']:g}, labels {loss['hard_share']:g})"
    return kind + ", "


def _recipe(info: CardInfo) -> list[str]:
    """Returns the table of the training recipe."""
    model, optim, train, loss = (info.config[part] for part in ("model", "optim", "train", "loss"))
    combine, interact = model["combine"], model["interact"]
    interaction = f"{interact['kind']} attention, {interact['layers']} layers, {interact['heads']} heads"
    if interact["kind"] == "none":
        interaction = "none"
    if model.get("combiner"):
        combined = f"the user's own combiner, {model['combiner']}"
    else:
        combined = " ".join(combine["features"] or ["(default)"]) + f", {combine['kind']}"
    hidden = " ".join(map(str, model["head"]["hidden"])) or "none (linear)"
    weights = "" if loss["class_weights"] == "none" else f", class weights {loss['class_weights']}"
    decay = "" if optim["layer_decay"] == 1.0 else f", layer decay {optim['layer_decay']}"
    rows = {
        "encoder": model["encoder"],
        **({"started from": model["init"]} if model.get("init") else {}),
        "kind": f"{model['kind']}-encoder",
        "interaction": interaction,
        "pooling": model["pooling"] or "(default)",
        "combination": combined if model["kind"] == "bi" or model.get("pool_over") == "sides" else "none: one vector",
        "hidden layers": hidden,
        "loss": f"{_loss_kind(loss)}label smoothing {loss['label_smoothing']}{weights}",
        "optimiser": f"AdamW, peak learning rate {optim['learning_rate']}, {optim['schedule']} schedule, warm-up "
        f"{optim['warmup']}, weight decay {optim['weight_decay']}{decay}, frozen: {optim['freeze']}",
        **_option_row(loss, optim),
        "batch": f"{train['batch_size']} pairs",
        "steps": f"{info.steps:,}",
        "seed": train["seed"],
        "dtype": model["dtype"],
    }
    return _table(["", ""], [[name, escaped(value)] for name, value in rows.items()])


def _data_lines(info: CardInfo) -> list[str]:
    """Returns the provenance of the data."""
    source = info.source
    licence = source.get("licence") or "not known: check it before you publish the model"
    lines = [f"- Name: {escaped(source.get('name', 'unknown'))}", f"- Licence: {escaped(licence)}"]
    if source.get("rows"):
        counts = ", ".join(f"{escaped(split)} {count:,}" for split, count in source["rows"].items())
        lines.append(f"- Pairs: {counts}")
    lines += [f"- {escaped(name)}: SHA-256 {_code(digest)}" for name, digest in (source.get("files") or {}).items()]
    if source.get("citation"):
        lines.append(f"- Citation: {escaped(source['citation'])}")
    return lines + [f"- {escaped(note)}" for note in info.notes]


def _score_lines(info: CardInfo) -> list[str]:
    """Returns the table of scores by split."""
    if not info.metrics:
        return ["The model was not scored."]
    names = list(dict.fromkeys(name for split in info.metrics.values() for name in split))
    rows = []
    for name in names:
        plain = base_metric(name)
        positive = f" ({escaped(info.task.positive)})" if info.task.positive and plain in OF_POSITIVE else ""
        title = NAMES.get(plain, plain).replace("|", "\\|") + positive
        title += ", calibrated" if name.endswith(CALIBRATED) else ""
        title += ", at threshold" if name.endswith(AT_THRESHOLD) else ""
        rows.append([title, *(format_score(split.get(name)) for split in info.metrics.values())])
    lines = ["Value and 95 % bootstrap interval over the pairs.", ""]
    return lines + _table(["metric", *(escaped(split) for split in info.metrics)], rows)


def _calibration_lines(info: CardInfo) -> list[str]:
    """Returns the section on calibration; nothing for regression."""
    if info.task.kind == "regression":
        return []
    fitted = f"Fitted on dev only. Logits are divided by the temperature {info.temperature:.4g}."
    lines = ["## Calibration", "", fitted]
    if info.threshold is not None:
        lines.append(
            f"`label_at_threshold` is the positive class where its probability is at least {info.threshold:.4g}; "
            "`label` is the most probable class."
        )
    return [*lines, ""]


def _limit_lines(info: CardInfo) -> list[str]:
    """Returns the limits of the model, and the warnings."""
    data, kind = info.config["data"], info.config["model"]["kind"]
    what = "the joint pair" if kind == "cross" else "each text"
    named = [
        f"`{data[key]}` to each {side} text"
        for key, side in (("prefix_first", "first"), ("prefix_second", "second"))
        if data.get(key)
    ]
    prefixes = [f"- Adds {' and '.join(named)} by itself."] if named else []
    lines = [
        f"- Reads at most {data['max_length']} tokens of {what}, special tokens included; longer ones are cut "
        f"({data['truncation'].replace('_', ' ')}).",
        *prefixes,
        "- The scores hold for pairs like those that it was trained and tested on. Nothing else was measured.",
    ]
    return lines + [f"- **{escaped(line)}**" for line in info.warnings]


def _use_lines(info: CardInfo) -> list[str]:
    """Returns an example of use."""
    own = ", combiner=YourCombiner" if info.config["model"].get("combiner") else ""
    output = "score" if info.task.kind == "regression" else "label, probabilities"
    lines = [
        "```python",
        "import pairjax",
        "",
        f'model = pairjax.load("path/to/this/folder"{own})',
        f'model.predict([("a", "b")])  # {output} for each pair',
    ]
    if info.config["model"]["kind"] == "bi" and info.config["model"]["interact"]["kind"] == "none":
        lines.append('model.embed(["a", "b"])  # a vector for each text')
    return [*lines, "```"]


def _provenance_lines(info: CardInfo) -> list[str]:
    """Returns the table of versions, commit, command and device."""
    origin = info.provenance
    git = origin.get("git") or {}
    commit = git.get("commit")
    rows = [["git commit", _code(commit) + (" with changes" if git.get("dirty") else "") if commit else "not known"]]
    if origin.get("command"):
        rows.append(["command", _code(" ".join(map(str, origin["command"])))])
    for name in ("started", "device_kind", "device_count", "platform", "python"):
        if origin.get(name) is not None:
            rows.append([name.replace("_", " "), escaped(origin[name])])
    rows += [[escaped(name), escaped(version)] for name, version in (origin.get("versions") or {}).items() if version]
    return _table(["", ""], rows)


def model_card(info: CardInfo) -> str:
    """Returns the card as Markdown with Hugging Face's YAML front matter; all text from the user is escaped."""
    parts = [
        *_front_matter(info),
        "",
        f"# {escaped(info.name)}",
        "",
        *_task_lines(info),
        "",
        "## Use",
        "",
        *_use_lines(info),
        "",
        "## Scores",
        "",
        *_score_lines(info),
        "",
        *_calibration_lines(info),
        "## Limits",
        "",
        *_limit_lines(info),
        "",
        "## Data",
        "",
        *_data_lines(info),
        "",
        "## Recipe",
        "",
        *_recipe(info),
        "",
        "## Provenance",
        "",
        *_provenance_lines(info),
    ]
    return "\n".join(parts) + "\n"
