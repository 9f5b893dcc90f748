"""Types, configuration, errors, parameter paths and terminal output, which every layer may import."""
