"""Writes trained models in the formats of other tools: `pairjax export` and `model.export`."""
