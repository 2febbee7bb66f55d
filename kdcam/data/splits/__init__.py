"""Which images and classes are trained on: parts held out, fractions, base and novel classes."""
