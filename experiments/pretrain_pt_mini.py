"""Pretrain a BERT of 4 layers from scratch in Portuguese, with a tokeniser and vocabulary of that language.

Command: pairjax pretrain experiments/pretrain_pt_mini.py --data.corpus 'DIR/*.train.txt' \\
    --data.test 'DIR/*.heldout.txt'
Expected on 98 days of news after 920 steps, in less than an hour on one slow CPU core: masked-token perplexity 695,
next-segment accuracy 0.555, hardly above chance level (experiments/RESULTS.md).
Data: text files, one sentence per line, blank lines between documents; without --data.corpus, rule-made stories.
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

config = PretrainConfig(
    data=CorpusConfig(objective="nsp", language="pt", vocabulary=8192, lowercase=False),
    model=PretrainModelConfig(size="mini", dropout=DropoutConfig(hidden=0.0, attention=0.0)),
    optim=OptimConfig(learning_rate=1e-3, warmup=0.1),
    train=TrainConfig(max_steps=2000, batch_size=64, eval_every=250, keep="last"),
    run=RunConfig(dir="runs/pretrain_pt_mini"),
)
