"""Generated skeletons: acting figures, as a camera would see them."""
