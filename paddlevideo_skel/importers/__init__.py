"""The raw files of known data sets → the files that training reads. NumPy only; can be interrupted and continued."""
