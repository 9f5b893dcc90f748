"""SICK entailment (3 classes), bi-encoder.

Command: pairjax train experiments/sick_bi.py --data.path DIR
Expected: test accuracy 0.845 (one run), 2.5 minutes on 2 CPU cores.
Data: SICK (Marelli et al. 2014); CC BY-NC-SA 3.0; it is not in TFDS, so give --data.path DIR.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import CombineConfig, Config, ModelConfig, OptimConfig, RunConfig

config = Config(
    model=ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    # A fresh linear head needs a higher learning rate than the encoder (chosen by dev accuracy).
    optim=OptimConfig(head_multiplier=20.0),
    run=RunConfig(dir="runs/sick_bi"),
)
