"""Run exports: runtimes, prediction, streams, files for a device. Only one file imports paddle."""
