"""Encoders that are pretrained alike except for the objective.

All share one start: some layers of a trained encoder, adapted to the corpus by masked tokens. (A model trained from
scratch does not learn to recognise next segments within a few million tokens.) Each objective continues from the start
with the same text, steps, learning rates and seed. Embeddings stay frozen. Each run has its own folder, named by a hash
of everything that determines it, and continues after an interruption.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from pairjax.base.config import OptimConfig, RunConfig, TrainConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import DropoutConfig
from pairjax.base.pretrain_config import (
    CorpusConfig,
    Objective,
    PretrainConfig,
    PretrainEvalConfig,
    PretrainModelConfig,
)
from pairjax.data.corpus_sources import Source, rule_source, text_sources
from pairjax.pretrain.train import pretrain
from pairjax.step.compilation import compilation_cache
from pairjax.storage.files import read_json, whole_folder, write_json, write_text
from pairjax.storage.hashes import hash_json
from pairjax.storage.results import with_current_names
from pairjax.weights import load_encoder, read_encoder_spec, resolve_encoder, save_encoder, weights_hash

FORMAT = 2
Origin = Literal["start", "none", "nsp", "sop"]
"""The start, which is not pretrained further, or the objective besides masked tokens."""


@dataclass(frozen=True)
class PretrainDesign:
    """How the encoders are pretrained.

    Attributes:
        layers: Number of layers taken from the source encoder (`spaced_layers`).
        adapt_steps: Updates of the start, with masked tokens only.
        steps: Updates with each objective.
        batch_size: Rows per update.
        length: Tokens of a row.
        adapt_rate: Peak learning rate of the start's updates.
        learning_rate: Peak learning rate of the objectives' updates.
        head_multiplier: Learning rate of everything above the encoder, relative to it. Otherwise a fresh pooler learns
            the segments late.
        examples: Held-out examples to score at the end.
    """

    layers: int = 3
    adapt_steps: int = 100
    steps: int = 300
    batch_size: int = 32
    length: int = 64
    adapt_rate: float = 5e-4
    learning_rate: float = 5e-4
    head_multiplier: float = 3.0
    examples: int = 1000


@dataclass(frozen=True)
class Texts:
    """A corpus: one sentence per line, blank lines between documents.

    Attributes:
        train: Glob of the training files.
        held_out: Glob of the held-out files.
    """

    train: str
    held_out: str

    def sources(self) -> dict[str, tuple[Source, ...]]:
        """Reads and hashes both; returns the sources by name.

        Raises:
            UserError: A glob matches no file.
        """
        return {
            name: text_sources(pattern, format="lines", language="en", option=f"the corpus's {name} text")
            for name, pattern in (("train", self.train), ("held_out", self.held_out))
        }


def write_stories(folder: Path, *, documents: int) -> Texts:
    """Writes a rule-made corpus to a folder, with a fifth as many held-out documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (split, size) in enumerate((("train", documents), ("heldout", documents // 5))):
        path = folder / f"stories-{size}.{split}.txt"
        if not path.is_file():
            sentences = rule_source("en", documents=size, seed=(0, number)).sentences()
            write_text(path, "\n".join(sentence or "" for sentence in sentences) + "\n")
    return Texts(str(folder / f"stories-{documents}.train.txt"), str(folder / f"stories-{documents // 5}.heldout.txt"))


def spaced_layers(source: Path, layers: int, folder: Path) -> Path:
    """Writes an encoder's embeddings and some of its layers as a folder, without its pooler.

    The layers are evenly spaced and include the last one, as in the initialisation of DistilBERT (Sanh et al. 2019):
    for k of n layers, layer j of 1..k is layer floor(j n / k).

    Args:
        source: A Hugging Face folder.
        layers: Number of layers.
        folder: The folder to write, completely or not at all; an existing folder is left as it is.

    Returns:
        `folder`.

    Raises:
        UserError: The source has fewer layers.
    """
    spec = read_encoder_spec(source)
    if not 1 <= layers <= spec.num_layers:
        raise UserError(
            f"{source} does not have {layers} layers", got=spec.num_layers, expected=f"1 to {spec.num_layers} layers"
        )
    if (folder / "config.json").is_file():
        return folder
    loaded = load_encoder(source, spec).params
    params = {name: leaf for name, leaf in loaded.items() if not name.startswith("layer_")}
    for index in range(layers):
        params[f"layer_{index}"] = loaded[f"layer_{(index + 1) * spec.num_layers // layers - 1}"]
    with whole_folder(folder) as partial:
        save_encoder(partial, replace(spec, num_layers=layers), params, None, source=source)
        write_json(partial / "config.json", read_json(partial / "config.json") | {"num_hidden_layers": layers})
    return folder


class Encoders:
    """Pretrains encoders and keeps them in a folder.

    Attributes:
        design: How each is pretrained.
        texts: The corpus.
        folder: The folder with a subfolder for each encoder.
        held_out: The sources of the held-out text.
    """

    def __init__(self, design: PretrainDesign, texts: Texts, *, source: str, folder: Path) -> None:
        """Reads and hashes the corpus; pretrains nothing yet.

        Args:
            design: How each is pretrained.
            texts: The corpus.
            source: The encoder whose layers the start uses.
            folder: The folder with a subfolder for each encoder.
        """
        self.design, self.texts, self.folder = design, texts, folder
        self._source = resolve_encoder(source)
        sources = texts.sources()
        self.held_out = sources["held_out"]
        digests = {name: [source.digest for source in parts] for name, parts in sources.items()}
        self._weights = weights_hash(self._source)
        self._base = {"format": FORMAT, "texts": digests, "source": self._weights}

    def path(self, origin: Origin, seed: int) -> Path:
        """Returns the folder of an encoder; the start is the same for every seed."""
        if origin == "start":
            return self.folder / f"start-{self._key(self._start_config())}"
        return self.folder / f"{origin}-{seed}-{self._key(self._config(origin, seed))}"

    def exists(self, origin: Origin, seed: int) -> bool:
        """Returns whether an encoder is finished."""
        return (self.path(origin, seed) / "result.json").is_file()

    def make(self, origin: Origin, seed: int) -> Path:
        """Returns the folder of an encoder; pretrains it first, or continues its pretraining, if it is not finished.

        Raises:
            SystemExit: A signal stopped the pretraining; the code is 143.
        """
        if not self.exists(origin, seed):
            if origin == "start":
                spaced_layers(self._source, self.design.layers, self._layers_folder())
                _run(self._start_config(), self.path(origin, seed))
            else:
                self.make("start", seed)
                _run(self._config(origin, seed), self.path(origin, seed))
        return self.path(origin, seed)

    def result(self, origin: Origin, seed: int) -> Mapping[str, Any]:
        """Reads the result.json of an encoder's run."""
        return with_current_names(read_json(self.path(origin, seed) / "result.json", kind="a run's result"))

    def _layers_folder(self) -> Path:
        return self.folder / f"layers-{self.design.layers}-{self._weights[:12]}"

    def _start_config(self) -> PretrainConfig:
        design = self.design
        return self._pretraining(
            "none", seed=0, encoder=self._layers_folder(), steps=design.adapt_steps, rate=design.adapt_rate
        )

    def _config(self, origin: Origin, seed: int) -> PretrainConfig:
        assert origin != "start"
        design = self.design
        return self._pretraining(
            origin, seed=seed + 1, encoder=self.path("start", 0), steps=design.steps, rate=design.learning_rate
        )

    def _pretraining(
        self, objective: Objective, *, seed: int, encoder: Path, steps: int, rate: float
    ) -> PretrainConfig:
        design = self.design
        return PretrainConfig(
            data=CorpusConfig(
                corpus=self.texts.train,
                dev=self.texts.held_out,
                objective=objective,
                max_length=design.length,
                seed=seed,
                cache=str(self.folder / "indexes"),
            ),
            model=PretrainModelConfig(encoder=str(encoder), dropout=DropoutConfig(hidden=0.0, attention=0.0)),
            optim=OptimConfig(
                learning_rate=rate, warmup=0.1, freeze="embeddings", head_multiplier=design.head_multiplier
            ),
            train=TrainConfig(max_steps=steps, batch_size=design.batch_size, seed=seed, eval_every=200, keep="last"),
            evaluation=PretrainEvalConfig(examples=design.examples, during=64, baselines=False, bootstrap=1000),
        )

    def _key(self, config: PretrainConfig) -> str:
        plain = asdict(config)
        # Paths do not count: the corpus is identified by its digests, and the start by the name of its folder.
        for section, name in (("data", "corpus"), ("data", "dev"), ("data", "cache")):
            del plain[section][name]
        plain["model"]["encoder"] = Path(str(config.model.encoder)).name
        del plain["run"]
        # Version 0.1.0 had other names for these fields; with its names, the encoders that it made are found.
        for name, old_name in (("baselines", "oracles"), ("baseline_train", "oracle_train")):
            plain["evaluation"][old_name] = plain["evaluation"].pop(name)
        return hash_json([self._base, plain])[:12]


def _run(config: PretrainConfig, folder: Path) -> None:
    """Starts or continues a pretraining run, and deletes its checkpoints when it is finished."""
    begun = (folder / "config.json").is_file()
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)
    run = RunConfig(
        dir=str(folder),
        resume=begun,
        keep_checkpoints=1,
        progress=False,
        compilation_cache=compilation_cache(),
    )
    run_result = pretrain(replace(config, run=run), console=Console(quiet=True))
    if run_result.result is None:
        raise SystemExit(run_result.exit_code)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
