"""SICK entailment (3 classes), cross-encoder.

Command: pairjax train experiments/sick_cross.py --data.path DIR
Expected: test accuracy 0.861 (mean of three seeds), 2 minutes on 2 CPU cores.
Data: SICK (Marelli et al. 2014); CC BY-NC-SA 3.0; it is not in TFDS, so give --data.path DIR.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import Config, RunConfig

config = Config(
    run=RunConfig(dir="runs/sick_cross"),
)
