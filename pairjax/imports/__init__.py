"""Reads models of other libraries: classifiers of transformers, and models of sentence-transformers."""
