"""Every field of every config is checked when it is built, whoever builds it."""

import dataclasses
import json
import os
import pwd
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pairjax
from pairjax import Config, DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig, TrainConfig, UserError
from pairjax.base import config, data_config, model_config, optim_config, pretrain_config
from pairjax.base.fields import CheckedConfig, cache_root

MODULES = (config, data_config, model_config, optim_config, pretrain_config)
KINDS = sorted(
    {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    },
    key=lambda kind: kind.__name__,
)


def test_all_configs_are_found() -> None:
    assert {kind.__name__ for kind in KINDS} >= {name for name in pairjax.__all__ if name.endswith("Config")}
    assert all(issubclass(kind, CheckedConfig) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_no_type_is_refused_by_the_name_of_its_option(kind: type[Any]) -> None:
    for field in dataclasses.fields(kind):
        option = ".".join(part for part in (kind.section, field.name) if part).replace("_", "-")
        with pytest.raises(UserError, match=f"--{option} .*; expected"):
            kind(**{field.name: object()})


@pytest.mark.parametrize("kind", KINDS)
def test_what_json_gives_back_is_the_same_config(kind: type[Any]) -> None:
    assert kind(**json.loads(json.dumps(dataclasses.asdict(kind())))) == kind()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("ModelConfig", {"kind": "crossencoder"}, "--model.kind crossencoder; expected cross or bi"),
        ("ModelConfig", {"dtype": "float16"}, "--model.dtype float16; expected float32 or bfloat16"),
        ("ModelConfig", {"pooling": "average"}, "--model.pooling average; expected one of cls, pooler, mean, max"),
        ("DataConfig", {"truncation": "longest"}, "expected one of .*; perhaps you meant longest_first"),
        ("DataConfig", {"layout": "bucket"}, "perhaps you meant bucketed"),
        ("TrainConfig", {"keep": "lastest"}, "--train.keep lastest; expected best or last"),
        ("OptimConfig", {"schedule": "exponential"}, "expected one of linear, cosine, constant"),
        ("OptimConfig", {"freeze": "all"}, "--optim.freeze all; expected one of"),
        ("OptimConfig", {"learning_rate": float("nan")}, "--optim.learning-rate nan; expected a finite number"),
        ("OptimConfig", {"learning_rate": "fast"}, "--optim.learning-rate fast; expected a finite number"),
        ("TrainConfig", {"batch_size": 8.5}, "--train.batch-size 8.5; expected a whole number"),
        ("TrainConfig", {"batch_size": True}, "--train.batch-size True; expected a whole number"),
        ("TrainConfig", {"seed": -1}, "--train.seed is out of range"),
        ("EvalConfig", {"swap": 1}, "--evaluation.swap 1; expected True or False"),
        ("EvalConfig", {"examples": [["a"]]}, "--evaluation.examples .*; expected 2 values"),
        ("HeadConfig", {"hidden": 64}, "--model.head.hidden 64; expected a list"),
        ("HeadConfig", {"hidden": "64"}, "--model.head.hidden 64; expected a list"),
        ("LoraConfig", {"rank": 2, "targets": ["("]}, "not a regular expression"),
        ("RunConfig", {"dir": Path("gs://bucket/run")}, "such as gs://BUCKET/FOLDER"),
        ("Config", {"data": PretrainConfig()}, "--data of type PretrainConfig; expected DataConfig"),
        ("Config", {"data": {"paht": "x"}}, "no field data.paht; .*perhaps you meant path"),
        ("Config", {"model": {"combiner": "Mine"}}, "expected a Flax module of your own"),
    ],
)
def test_a_wrong_value_names_option_value_and_choices(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        getattr(pairjax, kind)(**values)
    assert "\n" not in str(error.value)


def test_values_that_mean_the_same_are_converted() -> None:
    optim = OptimConfig(learning_rate="5e-5", weight_decay=0, warmup=np.float32(0.5))  # type: ignore[arg-type]
    assert (optim.learning_rate, optim.weight_decay, optim.warmup) == (5e-5, 0.0, 0.5)
    assert type(optim.weight_decay) is type(optim.warmup) is float
    train = TrainConfig(batch_size="8", max_steps=1e3, eval_every=np.int64(5))  # type: ignore[arg-type]
    assert (train.batch_size, train.max_steps, train.eval_every) == (8, 1000, 5)
    assert all(type(value) is int for value in (train.batch_size, train.max_steps, train.eval_every))
    assert DataConfig(ladder=np.array([16, 32])).ladder == (16, 32)  # type: ignore[arg-type]
    assert DataConfig(path=Path("pairs")).path == "pairs"  # type: ignore[arg-type]
    assert ModelConfig(encoder=Path("e")).encoder == "e"  # type: ignore[arg-type]
    assert RunConfig(dir=Path("r"), progress="false") == RunConfig(dir="r", progress=False)  # type: ignore[arg-type]


def test_a_dict_changes_fields_of_a_sections_default() -> None:
    config = PretrainConfig(optim={"warmup": 0.2}, model={"dropout": {"hidden": 0}})  # type: ignore[arg-type]
    assert (config.optim.warmup, config.optim.learning_rate) == (0.2, 1e-4)
    assert (config.model.dropout.hidden, config.model.dropout.attention) == (0.0, 0.1)
    plain = json.loads(json.dumps(dataclasses.asdict(Config(data=DataConfig(sizes=(3, 2, 1))))))
    assert Config(**plain) == Config.from_dict(plain) == Config(data=DataConfig(sizes=(3, 2, 1)))
    assert Config.from_dict({"config": plain, "provenance": {}}).data.sizes == (3, 2, 1)


def test_the_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    assert RunConfig(dir="~/r").dir == "/home/ana/r"
    assert DataConfig(path="~").path == "/home/ana"
    assert ModelConfig(encoder="~/e").encoder == "/home/ana/e"
    assert pairjax.CorpusConfig(corpus="~/*.txt").corpus == "/home/ana/*.txt"
    assert DataConfig(first="~/no-path").first == "~/no-path"


def test_without_a_home_folder_a_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match=r"--run.dir ~/r: this user has no home folder; set HOME"):
        RunConfig(dir="~/r")
    assert cache_root() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_root() == os.fspath("/cache")
