"""What encoders make of images."""
