"""From a trained model to files that a runtime answers from: export, conversion, runtimes, prediction."""
