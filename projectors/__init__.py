"""Projectors: from a picture to its latent code. One algorithm per file; `project` is the entrance.

A projector is a function of (generator, target, loss, start, options, callback) that returns a `Fit`. Another package adds one
by an entry point in the group ``stylegan_invert.projectors``.
"""

from .base import Fit, Step
from .methods import METHODS, Method, find_method
from .projection import Projection
from .run import project, project_each
from .w import Options

__all__ = ["METHODS", "Fit", "Method", "Options", "Projection", "Step", "find_method", "project", "project_each"]
