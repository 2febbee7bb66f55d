"""Teachers: run at each step, or their outputs for some views of each image worked out once and cached."""
