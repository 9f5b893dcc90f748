"""SICK entailment (3 classes), bi-encoder.

Command: pairjax train experiments/sick_bi.py --data.path DIR
Expected: test accuracy 0.845 (one run), 2.5 minutes on 2 CPU cores.
Data: SICK (Marelli et al. 2014); CC BY-NC-SA 3.0; not in TFDS, so give --data.path DIR.
Lay it out as DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`
(.csv, .jsonl and .parquet do as well; other column names by --data.first, --data.second, --data.label).
"""

from pairjax import CombineConfig, Config, ModelConfig, OptimConfig, RunConfig

config = Config(
    model=ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    # A fresh linear head needs a higher rate than the encoder: by dev accuracy.
    optim=OptimConfig(head_multiplier=20.0),
    run=RunConfig(dir="runs/sick_bi"),
)
