"""File → annotation → transforms → batch. NumPy only: a host without paddle pre-processes with this."""
