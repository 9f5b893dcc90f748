"""Forecasts what a run needs on each device: memory, arithmetic, traffic, time and the fastest mesh."""
