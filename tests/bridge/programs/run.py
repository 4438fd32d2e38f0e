"""Run one program of this directory, and say so when it has passed.

python run.py FAKE_LIBRARY FILE FUNCTION [ARGUMENT]
"""

import importlib
import sys

_, _, file, function, *arguments = sys.argv
getattr(importlib.import_module(file), function)(*arguments)
print("passed")
