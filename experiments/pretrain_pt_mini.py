"""The same from scratch in Portuguese: tokeniser, vocabulary and model of one's own language.

Command: pairjax pretrain experiments/pretrain_pt_mini.py --data.corpus 'DIR/*.train.txt' \\
    --data.test 'DIR/*.heldout.txt'
Expected, on 98 days of news, 920 steps (under an hour on one slow CPU core): perplexity of masked tokens 695, next
segments told right 0.555 of the time, which is hardly more than chance: experiments/RESULTS.md.
Data: text files, one sentence a line with blank lines between documents; without --data.corpus, stories made by rules.
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
