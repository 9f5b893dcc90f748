"""MiniLM goes on with masked tokens and next sentences on text of one's own; it comes with neither head.

Command: pairjax pretrain experiments/pretrain_continue_minilm.py --data.corpus 'DIR/*.train.txt' \\
    --data.test 'DIR/*.heldout.txt'
Expected, on movie reviews and speeches: perplexity of masked tokens 31, segments told right 0.773 of the time with
nothing masked (0.730 to 0.805 over 107 documents), TF-IDF overlap 0.658, the frozen encoder's cosine 0.727; 185 minutes
on one CPU core that other work shared.
Data: English text files, one sentence a line with blank lines between documents; without --data.corpus, stories made
by rules.
"""

from pairjax import (
    CorpusConfig,
    DropoutConfig,
    OptimConfig,
    PretrainConfig,
    PretrainModelConfig,
    RunConfig,
    TrainConfig,
)
from pairjax.base.config import MINILM

config = PretrainConfig(
    data=CorpusConfig(objective="nsp", max_length=64),
    model=PretrainModelConfig(encoder=MINILM, dropout=DropoutConfig(hidden=0.0, attention=0.0)),
    optim=OptimConfig(learning_rate=3e-4, warmup=0.1),
    train=TrainConfig(max_steps=6000, batch_size=32, eval_every=500, keep="last"),
    run=RunConfig(dir="runs/pretrain_continue_minilm"),
)
