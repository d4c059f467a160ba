"""What several runs come to: figures and tables."""
