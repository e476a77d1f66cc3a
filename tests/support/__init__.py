"""What the end-to-end, load and fault tests share."""
