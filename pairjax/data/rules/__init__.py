"""Grammars and rules for the rule-made pairs: words, sentences in two languages, and one module for each task."""
