"""What every layer may import: types, configuration, errors, losses, metrics and statistics."""
