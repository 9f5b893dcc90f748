"""A BERT of 4 layers from scratch: masked tokens and next sentences, its tokeniser trained on the text.

Command: pairjax pretrain experiments/pretrain_mini.py --data.corpus 'DIR/*.train.txt' --data.test 'DIR/*.heldout.txt'
Expected, on movie reviews and speeches, 920 steps (about half an hour on two slow CPU cores): perplexity of masked
tokens 434, next segments told right 0.519 of the time, which is chance: experiments/RESULTS.md.
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
    data=CorpusConfig(objective="nsp", vocabulary=8192),
    model=PretrainModelConfig(size="mini", dropout=DropoutConfig(hidden=0.0, attention=0.0)),
    optim=OptimConfig(learning_rate=1e-3, warmup=0.1),
    train=TrainConfig(max_steps=2000, batch_size=64, eval_every=250, keep="last"),
    run=RunConfig(dir="runs/pretrain_mini"),
)
