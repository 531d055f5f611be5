"""What latents are like: how evenly they fill their space, and what a linear classifier reads in them."""
