"""Texts for Hypothesis to make up."""

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""All but the halves of surrogate pairs, which UTF-8 cannot have. The alphabet that `text()` has by itself is the same,
but takes Hypothesis 3 s to make in a fresh checkout, and each process of a run makes it."""
