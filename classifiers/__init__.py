"""Small classifiers over one shared encoder.

from classifiers import load, train

safety = load("safety")
safety("some text")            # predictions, the most likely first
safety(["one", "two"])         # a list of them

train("task.yaml", "my-pack")  # needs the extra `train`
load("my-pack")("some text")
"""

from classifiers.api import Loaded, load, train

__all__ = ["Loaded", "load", "train"]
