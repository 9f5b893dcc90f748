"""ASSIN 2 entailment (Portuguese, 2 classes), cross-encoder.

Command: pairjax train experiments/assin2_cross.py --data.path DIR
Expected: test accuracy 0.804 (one run), 6 minutes on 2 CPU cores.
Data: ASSIN 2 (Real et al. 2020); its authors state no licence; it is not in TFDS, so give --data.path DIR.
The default encoder is English. A multilingual or Portuguese encoder (--model.encoder) is a better choice; this accuracy
is its baseline.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import Config, RunConfig

config = Config(
    run=RunConfig(dir="runs/assin2_cross"),
)
