"""How a trained network answers to attacks and corruptions, and to what was wrong in its training labels."""
