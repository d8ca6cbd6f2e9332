"""What happens to many runs."""
