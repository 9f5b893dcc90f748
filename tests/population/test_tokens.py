"""Interactions on cached tokens: the pair model above the encoder, row by row and member by member."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pairjax.base.config import OptimConfig
from pairjax.base.data_config import DataConfig
from pairjax.base.errors import UserError
from pairjax.base.feature_config import FeatureConfig
from pairjax.base.model_config import CombineConfig, HeadConfig, InteractConfig, ModelConfig
from pairjax.base.params import flatten
from pairjax.base.types import DropoutRates, Hypers, PairData
from pairjax.data.encode import encode_pairs
from pairjax.data.layout import Layout, plan_in_order
from pairjax.data.pipeline import eval_batches
from pairjax.data.sources import load_pairs
from pairjax.data.tokenizer import load_tokenizer
from pairjax.models.build import build_pair_model
from pairjax.population.engine import MemberProgram, groups_at_once, make_hypers, train_population
from pairjax.population.features import Features, cached_features
from pairjax.population.members import make_runs
from pairjax.population.projection import fit_projection
from pairjax.population.tokens import TokenTask, parameter_count, token_counts, token_program, token_task
from pairjax.step.state import init_state
from pairjax.step.step import make_train_step
from pairjax.weights import resolve_encoder
from tests.tiny import vocabulary_of, write_tiny_encoder

STEPS = 100
WIDTH = 8
CROSS = ModelConfig(kind="bi", interact=InteractConfig("cross", 1, 2), combine=CombineConfig(features=("|u-v|", "u*v")))


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(DataConfig(rules="entailment", sizes=(60, 30, 0)))


@pytest.fixture(scope="module")
def features(data: PairData, tmp_path_factory: pytest.TempPathFactory) -> Features:
    folder = tmp_path_factory.mktemp("tokens")
    encoder = write_tiny_encoder(folder / "encoder", vocabulary=vocabulary_of(data))
    config = FeatureConfig(encoder=str(encoder), tokens=True)
    return cached_features(data.splits.values(), folder / "f", config)


@pytest.fixture(scope="module")
def narrow(data: PairData, features: Features) -> TokenTask:
    assert features.tokens is not None
    return token_task(data, features, projection=fit_projection(features.tokens, WIDTH))


def program_of(source: TokenTask, model: ModelConfig = CROSS, *, dropout: bool = True) -> MemberProgram:
    return token_program(source, model, optim=OptimConfig(), steps=STEPS, dropout=dropout)


@pytest.mark.parametrize("kind", ["self", "joint", "cross"])
def test_a_row_of_cached_tokens_has_the_logits_of_the_bi_encoders_own_batch(
    data: PairData, features: Features, kind: str
) -> None:
    model = ModelConfig(kind="bi", interact=InteractConfig(kind, 1, 2))  # type: ignore[arg-type]
    source = token_task(data, features)
    program = program_of(source, model, dropout=False)
    params = program.init(jax.random.key(0))
    rows = source.heads.rows["dev"]
    ours = np.asarray(program.apply(params, jax.jit(program.gather)(program.data, rows)))[:, 0]

    pairs = data.splits["dev"]
    tokenizer = load_tokenizer(resolve_encoder(features.identity["encoder"]), family="bert")
    encoded = encode_pairs(
        list(pairs.first), list(pairs.second), tokenizer, kind="bi", max_length=48, truncation="longest_first"
    )
    fns = build_pair_model(model, source.heads.spec, 3, freeze_encoder=True)
    plan = plan_in_order(encoded.lengths, Layout("padded", (48,)), 30)
    (batch,) = eval_batches(encoded, None, plan)
    hidden = jnp.asarray(features.hidden(features.sides(pairs), batch))
    theirs = np.asarray(fns.head(params, hidden, batch))[:, 0]
    np.testing.assert_allclose(ours[batch.example_id[:, 0]], theirs, atol=1e-5)  # evaluated longest first
    assert np.ptp(ours, axis=0).min() > 1e-4


def test_an_empty_slot_weighs_nothing_and_reads_nothing(narrow: TokenTask) -> None:
    program = program_of(narrow, dropout=False)
    batch = jax.jit(program.gather)(program.data, np.array([3, -1], np.int32))
    np.testing.assert_array_equal(batch.weight, [[1.0], [0.0]])
    assert not np.asarray(batch.pair_ids)[1].any()
    assert not np.asarray(batch.cached)[1].any()
    assert np.isfinite(np.asarray(program.apply(program.init(jax.random.key(0)), batch))).all()


def test_each_member_is_the_run_alone_after_30_steps_with_rates_of_its_groups_own(narrow: TokenTask) -> None:
    program, rows = program_of(narrow), narrow.heads.rows["train"]
    base = Hypers(0.0, 0.01, 0.0, DropoutRates(0.0, 0.0, 0.1, 0.2))
    hypers = jax.tree.map(
        lambda leaf: leaf.reshape(3, 2), make_hypers(base, learning_rate=[1e-3, 3e-3, 2e-3, 5e-3, 1e-3, 4e-3])
    )
    runs = make_runs([rows, rows[:40], rows[20:]], seeds=(0, 4, 9), hypers=hypers, batch_size=16, steps=30)
    found = train_population(program, runs, evaluate={"dev": narrow.heads.rows["dev"]}, keep_params=True)
    assert found.params is not None
    members = flatten(found.params)
    step, gather = make_train_step(program.apply, program.loss, program.optimizer), jax.jit(program.gather)
    for group, variant in ((0, 0), (2, 1)):
        own = jax.tree.map(lambda leaf, g=group, v=variant: float(leaf[g, v]), runs.hypers)
        key = jax.random.key(int(runs.seeds[group]))
        state = init_state(program.init(key), program.optimizer, key=key)
        for index in runs.order[group]:
            state, _ = step(state, {}, gather(program.data, index), own)
        dev = gather(program.data, narrow.heads.rows["dev"])
        outputs = np.asarray(program.apply(state.params, dev))[:, 0]
        np.testing.assert_allclose(found.outputs["dev"][group, variant], outputs, atol=1e-5)
        for path, leaf in flatten(state.params).items():
            if path.endswith("attention/key/bias"):
                # It shifts all scores of a query alike: its gradient is rounding alone, which Adam makes steps of.
                continue
            np.testing.assert_allclose(members[path][group, variant], leaf, atol=1e-5, err_msg=path)
    kernel = members["interact/layer_0/attention/value/kernel"]
    assert np.abs(kernel[0, 0] - kernel[0, 1]).max() > 0.01


def test_groups_with_equal_rates_are_variants_that_are_shared(narrow: TokenTask) -> None:
    program, rows = program_of(narrow), narrow.heads.rows["train"]
    base = Hypers(0.0, 0.01, 0.0, DropoutRates(0.0, 0.0, 0.1, 0.2))
    shared = make_hypers(base, learning_rate=[1e-3, 3e-3])
    own = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), shared)
    outputs = []
    for hypers in (shared, own):
        runs = make_runs([rows, rows], seeds=(0, 1), hypers=hypers, batch_size=16, steps=5)
        outputs.append(train_population(program, runs, evaluate={"dev": narrow.heads.rows["dev"]}).outputs["dev"])
    np.testing.assert_array_equal(*outputs)
    with pytest.raises(ValueError, match="hypers of 2 groups"):
        make_runs([rows], seeds=(0,), hypers=own, batch_size=16, steps=5)


def test_models_of_pooled_vectors_are_the_programs_of_heads(narrow: TokenTask) -> None:
    for combine in (CombineConfig(), CombineConfig(kind="gate"), CombineConfig(kind="attention", heads=2)):
        model = ModelConfig(kind="bi", combine=combine, head=HeadConfig(hidden=(5,)))
        program = program_of(narrow, model, dropout=False)
        batch = jax.jit(program.gather)(program.data, narrow.heads.rows["dev"])
        assert batch.cached.shape == (30, 1, 2, WIDTH)
        assert program.apply(program.init(jax.random.key(0)), batch).shape == (30, 1, 3)


def test_a_projection_keeps_what_varies_most_and_commutes_with_the_mean(
    data: PairData, features: Features, narrow: TokenTask
) -> None:
    assert features.tokens is not None
    assert features.offsets is not None
    projection = fit_projection(features.tokens, WIDTH)
    np.testing.assert_allclose(projection.axes.T @ projection.axes, np.eye(WIDTH), atol=1e-5)
    mapped = projection(features.tokens)
    np.testing.assert_allclose(mapped, narrow.tokens)
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(mapped.var(axis=0).mean(), 1, rtol=1e-3)
    assert (np.diff(mapped.var(axis=0)) < 0).all()
    means = [mapped[i:j].mean(axis=0) for i, j in zip(features.offsets[:-1], features.offsets[1:], strict=True)]
    np.testing.assert_allclose(narrow.heads.vectors, means, atol=1e-4)
    singular = np.linalg.svd(features.tokens - features.tokens.mean(axis=0), compute_uv=False) ** 2
    assert projection.kept == pytest.approx(singular[:WIDTH].sum() / singular.sum(), rel=1e-4)
    assert narrow.heads.spec.hidden_size == WIDTH
    assert narrow.heads.spec.intermediate_size == 2 * WIDTH
    with pytest.raises(UserError, match="width of projected tokens"):
        fit_projection(features.tokens, 33)


def test_a_key_names_what_a_projection_was_fitted_on_and_not_its_last_bits(
    data: PairData, features: Features, narrow: TokenTask
) -> None:
    assert features.tokens is not None
    fitted = fit_projection(features.tokens, WIDTH)
    other_bits = dataclasses.replace(fitted, axes=np.nextafter(fitted.axes, np.float32(1)))
    assert token_task(data, features, projection=other_bits).key == narrow.key
    for projection in (fit_projection(features.tokens, WIDTH // 2), fit_projection(features.tokens[1:], WIDTH)):
        assert token_task(data, features, projection=projection).key != narrow.key


def test_rows_too_short_and_caches_without_tokens_are_refused(
    data: PairData, features: Features, tmp_path: Path
) -> None:
    longest = int(token_counts(features, data.splits["train"]).sum(axis=1).max())
    with pytest.raises(UserError, match="longer than the rows"):
        token_task(data, features, length=longest - 1)
    config = FeatureConfig(encoder=features.identity["encoder"], pooling="cls")
    pooled = cached_features(data.splits.values(), tmp_path / "f", config)
    with pytest.raises(UserError, match="no token vectors"):
        token_task(data, pooled)
    first = cached_features(
        data.splits.values(),
        tmp_path / "g",
        FeatureConfig(encoder=features.identity["encoder"], pooling="cls", tokens=True),
    )
    assert first.tokens is not None
    with pytest.raises(UserError, match="mean pooling"):
        token_task(data, first, projection=fit_projection(first.tokens, WIDTH))


def test_chunks_shrink_with_what_a_row_of_tokens_takes(narrow: TokenTask) -> None:
    rows = narrow.heads.rows["train"]
    hypers = make_hypers(Hypers(1e-3, 0.0, 0.0, DropoutRates(0.0, 0.0, 0.0, 0.0)))
    runs = make_runs([rows] * 64, seeds=range(64), hypers=hypers, batch_size=16, steps=1)
    memory = 64 << 20
    sizes = [groups_at_once(program_of(narrow, m), runs, memory=memory) for m in (ModelConfig(kind="bi"), CROSS)]
    assert sizes[0] > 4 * sizes[1]
    assert sizes[1] >= 1


def test_the_parameter_count_is_that_of_the_initial_parameters(narrow: TokenTask) -> None:
    assert parameter_count(program_of(narrow)) == sum(
        leaf.size for leaf in jax.tree.leaves(program_of(narrow).init(jax.random.key(0)))
    )
