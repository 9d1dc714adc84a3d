"""All that a run needs to go on: written in the background, found, verified, put back."""
