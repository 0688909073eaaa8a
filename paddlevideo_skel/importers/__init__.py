"""Raw files of known data sets → the files that training reads. NumPy only; an interrupted import can be resumed."""
