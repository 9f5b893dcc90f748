"""ASSIN 2 entailment (Portuguese, 2 classes), bi-encoder on an English-Portuguese encoder.

Command: pairjax train experiments/assin2_bi_pt.py --data.path DIR, after `make portuguese-encoder`
Expected: not measured yet.
Data: ASSIN 2 (Real et al. 2020); its authors state no licence; it is not in TFDS, so give --data.path DIR.
Encoder: multilingual-e5-small, fine-tuned on English and Portuguese (39.6 million parameters). Its weights have 4 bits
a number in the package that `tools/portuguese_encoder.py` reads, so they are not the published ones.
Layout: DIR/train.tsv, dev.tsv and test.tsv with the header `sentence1<TAB>sentence2<TAB>label`. .csv, .jsonl and
.parquet also work; --data.first, --data.second and --data.label set other column names.
"""

from pairjax import CombineConfig, Config, DataConfig, ModelConfig, OptimConfig, RunConfig

config = Config(
    # E5 encoders were trained with this prefix before both texts of a symmetric task.
    data=DataConfig(prefix_first="query: ", prefix_second="query: "),
    model=ModelConfig(encoder="encoders/e5-pt", kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    # A fresh linear head needs a higher learning rate than the encoder.
    optim=OptimConfig(head_multiplier=20.0),
    run=RunConfig(dir="runs/assin2_bi_pt"),
)
