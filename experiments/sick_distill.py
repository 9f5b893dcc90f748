"""SICK entailment (3 classes), a bi-encoder that learns from a cross-encoder's predictions.

Commands, for each seed S (0, 1, 2):

    pairjax train experiments/sick_cross.py --data.path DIR --train.seed S --run.dir runs/teacher
    pairjax predict runs/teacher DIR/train.tsv --output teacher.jsonl

Command: pairjax train experiments/sick_distill.py --data.path DIR --train.seed S
Without the teacher: pairjax train experiments/sick_bi.py --data.path DIR --train.seed S
Expected: not measured yet. Without the teacher, one run had a test accuracy of 0.845.
Data: SICK (Marelli et al. 2014); see sick_bi.py for the layout of DIR.
"""

from pairjax import CombineConfig, Config, LossConfig, ModelConfig, OptimConfig, RunConfig

config = Config(
    model=ModelConfig(kind="bi", combine=CombineConfig(features=("u", "v", "|u-v|", "u*v"))),
    # All but the targets is as in sick_bi.py, so that the two runs differ in nothing else.
    optim=OptimConfig(head_multiplier=20.0),
    loss=LossConfig(kind="soft", teacher="teacher.jsonl", temperature=2.0, hard_share=0.5),
    run=RunConfig(dir="runs/sick_distill"),
)
