"""Pretrain a BERT of 4 layers from scratch with masked tokens and next sentences; its tokeniser is trained on the text.

Command: pairjax pretrain experiments/pretrain_mini.py --data.corpus 'DIR/*.train.txt' --data.test 'DIR/*.heldout.txt'
Expected on movie reviews and speeches after 920 steps, about half an hour on two slow CPU cores: masked-token
perplexity 434, next-segment accuracy 0.519, which is chance level (experiments/RESULTS.md).
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
    data=CorpusConfig(objective="nsp", vocabulary=8192),
    model=PretrainModelConfig(size="mini", dropout=DropoutConfig(hidden=0.0, attention=0.0)),
    optim=OptimConfig(learning_rate=1e-3, warmup=0.1),
    train=TrainConfig(max_steps=2000, batch_size=64, eval_every=250, keep="last"),
    run=RunConfig(dir="runs/pretrain_mini"),
)
