"""File → annotation → transforms → batch. NumPy only, so it also runs on hosts without paddle."""
