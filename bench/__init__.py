"""The benchmark: Zarpar beside other ways to bring the same app to the same state, measured in turn."""
