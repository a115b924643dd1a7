#!/usr/bin/env python3
"""A C compiler and librarian that makes empty files: enough for linting, which looks at Rust only."""
import sys

words = sys.argv[1:]
for before, word in zip([""] + words, words):
    start = next((start for start in ("/Fo", "-Fo", "/out:", "-out:") if word.startswith(start)), None)
    if start:
        open(word[len(start) :], "a").close()
    if before in ("-o", "cq", "cqD", "crs", "s"):
        open(word, "a").close()
