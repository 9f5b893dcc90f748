"""Populations of whole models: a member is the run alone, and the ordinary trainer's; what is frozen stays."""

from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from pairjax.base.config import Config, EvalConfig, OptimConfig, RunConfig, TrainConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.model_config import DropoutConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import DropoutRates, Hypers, PairData
from pairjax.data.sources import load_pairs
from pairjax.finetune.train import train
from pairjax.inference.load import load
from pairjax.population.end_to_end import EndToEndTask, end_to_end_program, end_to_end_task
from pairjax.population.engine import Members, groups_at_once, make_hypers, train_population
from pairjax.population.members import make_runs
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from tests.tiny import write_tiny_encoder

BASE = Hypers(1e-3, 0.01, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_encoder(tmp_path_factory.mktemp("whole") / "encoder"))


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(DataConfig(rules="entailment", sizes=(48, 24, 0)))


def task_of(data: PairData, encoder: str, *, kind: str = "cross", fresh: bool = False) -> EndToEndTask:
    model = ModelConfig(encoder=encoder, kind=kind)  # type: ignore[arg-type]
    return end_to_end_task(data, model, fresh=fresh, max_length=48, truncation="longest_first")


def runs_of(source: EndToEndTask, *, steps: int, hypers: Hypers) -> Members:
    rows = source.rows["train"]
    return make_runs([rows, rows[:20]], seeds=(0, 3), hypers=hypers, batch_size=8, steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "freeze"), [("cross", "none"), ("bi", "embeddings")])
def test_each_member_is_the_run_alone_after_100_steps(data: PairData, encoder: str, kind: str, freeze: str) -> None:
    source = task_of(data, encoder, kind=kind)
    program = end_to_end_program(source, optim=OptimConfig(freeze=freeze), steps=100, dropout=True)  # type: ignore[arg-type]
    hypers = make_hypers(BASE, learning_rate=[1e-3, 3e-4], hidden=[0.0, 0.1], head=[0.0, 0.2])
    runs = runs_of(source, steps=100, hypers=hypers)
    found = train_population(program, runs, evaluate={"dev": source.rows["dev"]}, keep_params=True)
    assert found.params is not None
    members = flatten(found.params)
    assert any(path.startswith("encoder/embeddings") for path in members) == (freeze == "none")
    step, gather = make_train_step(program.apply, program.loss, program.optimizer), jax.jit(program.gather)
    for group, variant in ((0, 0), (1, 1)):
        own = jax.tree.map(lambda leaf, variant=variant: float(leaf[variant]), runs.hypers)
        key = jax.random.key(int(runs.seeds[group]))
        state = init_state(program.init(key), program.optimizer, key=key)
        for index in runs.order[group]:
            state, _ = step(state, program.frozen, gather(program.data, index), own)
        for path, leaf in flatten(state.params).items():
            # A softmax does not see a bias of its keys: that gradient is rounding alone, which Adam makes large.
            if not path.endswith("attention/key/bias"):
                np.testing.assert_allclose(members[path][group, variant], leaf, atol=1e-5, err_msg=path)
    kernel = members["head/logits/kernel"]
    assert np.abs(kernel[0, 0] - kernel[0, 1]).max() > 1e-3


def test_a_member_is_the_ordinary_run_with_its_seed_and_rates(data: PairData, encoder: str, tmp_path: Path) -> None:
    config = Config(
        data=DataConfig(rules="entailment", sizes=(48, 24, 0), max_length=48, layout="padded"),
        model=ModelConfig(encoder=encoder, kind="cross", dropout=DropoutConfig(0.0, 0.0, 0.0, 0.0)),
        optim=OptimConfig(learning_rate=1e-3),
        train=TrainConfig(max_steps=12, batch_size=8, seed=3, keep="last"),
        evaluation=EvalConfig(bootstrap=100, swap=False, fit=False),
        run=RunConfig(dir=str(tmp_path / "run"), progress=False),
    )
    train(config, console=Console(quiet=True), data=data)
    dev = data.splits["dev"]
    expected = load(tmp_path / "run").outputs(dev.first, dev.second)
    source = end_to_end_task(data, config.model, max_length=48, truncation="longest_first")
    program = end_to_end_program(source, optim=config.optim, steps=12, dropout=False)
    runs = make_runs([source.rows["train"]] * 2, seeds=(0, 3), hypers=make_hypers(BASE), batch_size=8, steps=12)
    found = train_population(program, runs, evaluate={"dev": source.rows["dev"]}).outputs["dev"]
    np.testing.assert_allclose(found[1, 0], expected, atol=1e-4)
    assert np.abs(found[0, 0] - expected).max() > 1e-2


def test_members_from_scratch_draw_their_own_encoder(data: PairData, encoder: str) -> None:
    def word(fresh: bool, seed: int) -> np.ndarray:
        program = end_to_end_program(task_of(data, encoder, fresh=fresh), optim=OptimConfig(), steps=2, dropout=False)
        return np.asarray(flatten(program.init(jax.random.key(seed)))["encoder/embeddings/word/embedding"])

    np.testing.assert_array_equal(word(False, 0), word(False, 1))
    assert np.abs(word(True, 0) - word(True, 1)).max() > 1e-2
    assert np.abs(word(True, 0) - word(False, 0)).max() > 1e-2


def test_memory_holds_fewer_whole_models_than_heads(data: PairData, encoder: str) -> None:
    source = task_of(data, encoder)
    program = end_to_end_program(source, optim=OptimConfig(), steps=2, dropout=False)
    runs = runs_of(source, steps=2, hypers=make_hypers(BASE))
    assert groups_at_once(program, runs, memory=1 << 40) == 2
    assert groups_at_once(program, runs, memory=1 << 20) == 1


def test_what_no_population_does_is_one_line(data: PairData, encoder: str) -> None:
    scratch = task_of(data, encoder, fresh=True)
    with pytest.raises(UserError, match="from scratch must train completely"):
        end_to_end_program(scratch, optim=OptimConfig(freeze="encoder"), steps=2, dropout=False)
    with pytest.raises(UserError, match="gradual"):
        end_to_end_program(task_of(data, encoder), optim=OptimConfig(gradual=0.5), steps=2, dropout=False)
