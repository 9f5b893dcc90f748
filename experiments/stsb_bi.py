"""STS benchmark similarity (0 to 5), bi-encoder with a regression head.

Command: pairjax train experiments/stsb_bi.py
Expected: test Spearman 0.848 (one run), 4 minutes on 2 CPU cores.
Data: STS benchmark (Cer et al. 2017); mixed licences, mostly CC BY-SA. By default TFDS's glue/stsb,
prepared beforehand or with --data.download, whose test labels are not public; --data.path DIR overrides.
Lay it out as DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`
(.csv, .jsonl and .parquet do as well; other column names by --data.first, --data.second, --data.label).
"""

from pairjax import CombineConfig, Config, DataConfig, ModelConfig, OptimConfig, RunConfig

config = Config(
    data=DataConfig(tfds="glue/stsb"),
    model=ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    optim=OptimConfig(head_multiplier=20.0),
    run=RunConfig(dir="runs/stsb_bi"),
)
