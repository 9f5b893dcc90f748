"""ASSIN 2 entailment (Portuguese, 2 classes), cross-encoder on an English-Portuguese encoder.

Command: pairjax train experiments/assin2_cross_pt.py --data.path DIR, after `make portuguese-encoder`
Expected: not measured yet.
Data: ASSIN 2 (Real et al. 2020); its authors state no licence; it is not in TFDS, so give --data.path DIR.
Encoder: multilingual-e5-small, fine-tuned on English and Portuguese (39.6 million parameters). Its weights have 4 bits
a number in the package that `tools/portuguese_encoder.py` reads, so they are not the published ones.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import Config, ModelConfig, OptimConfig, RunConfig

config = Config(
    # The encoder has no pooler, and it was trained to represent a text by the mean of its tokens.
    model=ModelConfig(encoder="encoders/e5-pt", pooling="mean"),
    optim=OptimConfig(head_multiplier=10.0),
    run=RunConfig(dir="runs/assin2_cross_pt"),
)
