"""What becomes of a prediction on disk: one file a format, the same ids in each."""
