"""Networks: multilayer perceptrons, normalisers, policies and critics, discriminators."""
