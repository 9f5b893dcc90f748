"""Grammars and rules behind the rule-made pairs: words, sentences in two languages, and one module a task."""
