"""MiniLM learns entailment from rule-made pairs. A first run that needs no files and no network.

Command: pairjax train experiments/quickstart.py
Expected: dev accuracy 0.908, a bit over a minute on 2 CPU cores.
Data: built-in rule-made English pairs, 3 classes (pairjax/data/synthetic.py), determined by the seed.
"""

from pairjax import Config, DataConfig, DropoutConfig, EvalConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig

config = Config(
    data=DataConfig(rules="entailment", sizes=(5000, 600, 600), buckets=2),
    model=ModelConfig(
        pooling="mean",
        pool_over="sides",
        dropout=DropoutConfig(hidden=0.0, attention=0.0, head=0.0),
    ),
    optim=OptimConfig(learning_rate=2e-4, head_multiplier=5.0, freeze="embeddings"),
    train=TrainConfig(epochs=1, batch_size=16),
    evaluation=EvalConfig(
        baselines=True,
        examples=(
            ("The nurse opened the door.", "The door was opened by the nurse."),
            ("The nurse opened the door.", "The nurse did not open the door."),
            ("The nurse promised to open the door.", "The nurse opened the door."),
        ),
    ),
    run=RunConfig(dir="runs/quickstart"),
)
