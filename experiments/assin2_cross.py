"""ASSIN 2 entailment (Portuguese, 2 classes), cross-encoder.

Command: pairjax train experiments/assin2_cross.py --data.path DIR
Expected: test accuracy 0.804 (one run), 6 minutes on 2 CPU cores.
Data: ASSIN 2 (Real et al. 2020); licence not stated by its authors; not in TFDS, so give --data.path DIR.
The default encoder is English: a multilingual or Portuguese one (--model.encoder) is the better choice, and this is the
figure to beat.
Lay it out as DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`
(.csv, .jsonl and .parquet do as well; other column names by --data.first, --data.second, --data.label).
"""

from pairjax import Config, RunConfig

config = Config(
    run=RunConfig(dir="runs/assin2_cross"),
)
