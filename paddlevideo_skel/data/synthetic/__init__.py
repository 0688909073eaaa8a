"""Generated skeletons of actors, as a camera would see them."""
