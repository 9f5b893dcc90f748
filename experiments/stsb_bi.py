"""STS benchmark similarity (0 to 5), bi-encoder with a regression head.

Command: pairjax train experiments/stsb_bi.py
Expected: test Spearman 0.848 (one run), 4 minutes on 2 CPU cores.
Data: STS benchmark (Cer et al. 2017); mixed licences, mostly CC BY-SA. The default is TFDS's glue/stsb,
prepared in advance or with --data.download; its test labels are not public. --data.path DIR overrides it.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import CombineConfig, Config, DataConfig, ModelConfig, OptimConfig, RunConfig

config = Config(
    data=DataConfig(tfds="glue/stsb"),
    model=ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    optim=OptimConfig(head_multiplier=20.0),
    run=RunConfig(dir="runs/stsb_bi"),
)
