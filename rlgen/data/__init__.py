"""Where transitions come from: collection in environments and recorded demonstrations."""
