"""Start training from a trained model: `--model.init` gives the stages and the parameters, and perhaps the head."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from pairjax.base.errors import UserError
from pairjax.base.model_config import HeadConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import Params, TaskSpec
from pairjax.inference.model_folder import Artifact, load_artifact
from pairjax.models.build import PairModelFns
from pairjax.storage.hashes import hash_parts

STAGES = ("encoder", "kind", "interact", "pooling", "pool_over", "project", "combine", "head")
"""Options that the model decides."""


@dataclass(frozen=True)
class Start:
    """The model that training starts from.

    Attributes:
        artifact: Its contents.
        config: The configuration with the model's stages.
    """

    artifact: Artifact
    config: ModelConfig

    def content(self) -> str:
        """Returns the SHA-256 of the parameters above the encoder."""
        above = flatten({name: tree for name, tree in self.artifact.params.items() if name != "encoder"})
        return hash_parts(path.encode() + np.ascontiguousarray(leaf).tobytes() for path, leaf in above.items())

    def params(self, fns: PairModelFns, task: TaskSpec, key: PRNGKeyArray) -> tuple[Params, tuple[str, ...]]:
        """Returns the initial parameters, and notes for the log on what became of the head.

        The head is kept if the task has the same classes by name, ignoring case; if their order differs, its outputs
        are reordered. Otherwise its last layer is new, and the layers below are kept.

        Args:
            fns: The model that is trained.
            task: Its task.
            key: Seeds new parameters.
        """
        params, own = self.artifact.params, self.artifact.task
        place = self.config.init
        if fns.config.head.kind == "cosine":
            kept = {"encoder", *fns.init_above(key)}
            score = "stays" if self.artifact.model.head.kind == "cosine" else "becomes"
            note = f"{place}: the score {score} the cosine of both vectors"
            return {name: tree for name, tree in params.items() if name in kept}, (note,)
        if self.artifact.model.head.kind == "cosine":
            return {**fns.init_above(key), **params}, (f"{place}: it has no head, so combination and head are new",)
        if own.head != task.head:
            # A sigmoid has one logit for two classes.
            last = fns.init_above(key)["head"]["logits"]
            return {**params, "head": {**params["head"], "logits": last}}, (f"{place}: the head's last layer is new",)
        head, note = fit_head(params["head"], own, task, place=str(place), relu=fns.config.head.relu_logits)
        if head is None:
            head = {**params["head"], "logits": fns.init_above(key)["head"]["logits"]}
        return {**params, "head": head}, (*self.artifact.notes, note)


def read_start(config: ModelConfig, task: TaskSpec) -> Start:
    """Reads the model of `--model.init`, and takes its stages into the configuration.

    Args:
        config: The configuration; `init` is set.
        task: The task that the model is trained for.

    Raises:
        UserError: There is no such model, or an option contradicts it.
    """
    assert config.init is not None
    artifact = load_artifact(config.init, labels=config.labels, download=config.download)
    defaults, own = ModelConfig(), artifact.model
    for name in STAGES:
        value = getattr(config, name)
        if value != getattr(defaults, name) and (name == "encoder" or value != getattr(own, name)):
            raise UserError(
                f"--model.{name.replace('_', '-')} contradicts --model.init, whose model has its own",
                got=_show(value, getattr(defaults, name)),
                expected=_show(getattr(own, name), getattr(defaults, name)),
                fix="leave it out, or start from the encoder alone with --model.encoder",
            )
    if artifact.own_combiner != (config.combiner is not None):
        missing = "needs the combiner that it was trained with" if artifact.own_combiner else "has no combiner"
        raise UserError(f"--model.init {config.init}: the model {missing}", fix="see combiner= in an experiment file")
    stages = {name: getattr(own, name) for name in STAGES}
    if own.head.kind == "cosine" and task.kind == "classification":
        stages["head"] = HeadConfig()
    return Start(artifact, replace(config, **stages, pooler=None))


def _show(value: Any, default: Any) -> str:
    """Returns an option's value for a message; of a section, the fields that differ from the defaults."""
    if not hasattr(value, "check"):
        return str(value)
    differing = [field.name for field in fields(value) if getattr(value, field.name) != getattr(default, field.name)]
    return ", ".join(f".{name} {getattr(value, name)}" for name in differing) or "the default"


def fit_head(
    head: Params, own: TaskSpec, task: TaskSpec, *, place: str, relu: bool = False
) -> tuple[Params | None, str]:
    """Fits a head to another task that has the same classes, or scores in another unit.

    Args:
        head: The head's parameters.
        own: The task that it was trained for.
        task: The new task.
        place: The model, for the note.
        relu: Whether a ReLU is applied to the outputs.

    Returns:
        The head, or None if its last layer does not fit the task; and a note on which it is.
    """
    if own.kind != task.kind or (task.kind == "regression" and relu and (own.center, own.scale) != (0.0, 1.0)):
        return None, f"{place}: the last layer is new, because the model is for {own.kind} and the data for {task.kind}"
    if own.head != "softmax" or task.head != "softmax":
        if own == task:
            return head, f"{place}: the head is kept"
        return None, f"{place}: the last layer is new, because the outputs of the model and of the loss differ in kind"
    if task.kind == "regression":
        # The same score in the unit of the new training scores: s = y' * scale' + center' = y * scale + center.
        factor, shift = own.scale / task.scale, (own.center - task.center) / task.scale
        kernel, bias = head["logits"]["kernel"] * factor, head["logits"]["bias"] * factor + shift
        return _with_last(head, kernel, bias), f"{place}: the head is kept"
    names = [name.casefold() for name in own.labels]
    wanted = [name.casefold() for name in task.labels]
    if sorted(names) != sorted(wanted) or len(set(names)) != len(names):
        return None, (
            f"{place}: the last layer is new, because the model's classes are {', '.join(own.labels)} and those of the "
            f"data are {', '.join(task.labels)}"
        )
    order = [names.index(name) for name in wanted]
    if order == sorted(order):
        return head, f"{place}: the head is kept, because the classes are the same ({', '.join(task.labels)})"
    kernel, bias = head["logits"]["kernel"][:, order], head["logits"]["bias"][order]
    note = f"{place}: the head is kept, with its outputs in the order of the data's classes ({', '.join(task.labels)})"
    return _with_last(head, kernel, bias), note


def _with_last(head: Params, kernel: Any, bias: Any) -> Params:
    """Returns the head with another last layer, float32."""
    last: Mapping[str, Any] = {"kernel": np.asarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}
    return {**head, "logits": dict(last)}
