"""Constants that the workload, the harness and both sides share."""

PRETRAINING, HEADS = "pretraining", "heads"
"""Parts of the workload besides the pairs; also the stems of their files."""
CHECKED_STEPS = 10
"""Number of steps without dropout, in file order, for which both sides report their losses."""
IGNORED = -100
"""Label of a token that is not to be predicted, as in transformers."""
LOADING_TEXT = "Two dogs are running on the beach, and nobody is asleep."
"""The text whose hidden states the case `loading` compares."""
